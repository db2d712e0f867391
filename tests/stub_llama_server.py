"""As much of llama.cpp's server as a sweep asks of it, with answers that were made before.

`STUB_RUNS` is a JSON file: by K, a list of {prompt, token_ids, steps}. `STUB_FAULT` is `dies K AFTER` (the
server of this K ends at its request behind so many), `lies K` (its texts have another token), `noisy` (that
of K = 0 gives another text when asked again), or `no-start K`. A connection that is used once more is closed,
as the real one's sometimes is.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ANOTHER = 7


def main() -> None:
    words = sys.argv[1:]
    k = int(words[words.index("--spec-draft-n-max") + 1]) if "-md" in words else 0
    fault, *about = os.environ.get("STUB_FAULT", "").split() or [""]
    is_meant = bool(about) and int(about[0]) == k
    if fault == "no-start" and is_meant:
        print("error: failed to load the draft model", flush=True)
        sys.exit(1)
    runs = json.loads(Path(os.environ["STUB_RUNS"]).read_text())[str(k)]
    asked: list[Any] = []

    def answer(body: dict[str, Any]) -> list[dict[str, Any]]:
        asked.append(body["prompt"])
        if fault == "dies" and is_meant and len(asked) > int(about[1]):
            print("ggml_abort: out of memory", flush=True)
            os._exit(6)
        (run,) = [one for one in runs if one["prompt"] == body["prompt"]]
        token_ids = run["token_ids"][: body["n_predict"]]
        if (fault == "lies" and is_meant) or (
            fault == "noisy" and k == 0 and asked.count(body["prompt"]) > 2
        ):
            token_ids[len(token_ids) // 2] = ANOTHER
        events, left, drafted, kept = [], 0, 0, 0
        steps = iter(run["steps"])
        for place, token in enumerate(token_ids):
            if place and k:
                if left == 0:
                    step = next(steps)
                    drafted, kept, left = drafted + step[0], kept + step[1], step[1] + 1
                left -= 1
            timings = {"draft_n": drafted, "draft_n_accepted": kept} if drafted else {}
            events.append({"tokens": [token], "timings": timings})
        return [*events, {"tokens": [], "stop": True, "stop_type": "limit"}]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        has_answered = False

        def log_message(self, *_: Any) -> None:
            pass

        def handle_one_request(self) -> None:
            if self.has_answered and self.rfile.peek(1):  # type: ignore[attr-defined]
                self.close_connection = True
                return
            super().handle_one_request()
            self.has_answered = True

        def do_GET(self) -> None:
            known = {"/health": {"status": "ok"}, "/props": {"build_info": "stub-1"}}
            found = known.get(self.path)
            self._send(404 if found is None else 200, json.dumps(found).encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if body.get("n_probs"):
                top = [{"id": token, "logprob": -0.01 * token} for token in range(100)]
                found = {"completion_probabilities": [{"top_logprobs": top}]}
                self._send(200, json.dumps(found).encode())
                return
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for one in answer(body):
                content = b"data: " + json.dumps(one).encode() + b"\n\n"
                self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
                self.wfile.flush()
                time.sleep(0.0005)
            self.wfile.write(b"0\r\n\r\n")

        def _send(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", int(words[words.index("--port") + 1])), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
