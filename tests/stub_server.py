"""A server on loopback that speaks as much of OpenAI's interface as it is told to, faults included."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Piece = bytes | float
"""Bytes that are sent as one chunk, or seconds to wait"""
Script = Callable[[dict[str, Any], int], "Reply"]
"""(request, how many came before) → what is answered"""


@dataclass
class Reply:
    """`is_cut`: the connection is closed in the middle; `status` other than 200 has the first piece as its
    body; `no_answer`: it is closed before anything was sent."""

    pieces: Sequence[Piece] = ()
    status: int = 200
    is_cut: bool = False
    no_answer: bool = False


@dataclass
class Stub:
    """What it says of itself, and what it was sent."""

    script: Script
    engine: dict[str, Any] = field(default_factory=dict)
    metrics: Callable[[], str] | None = None
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""


def event(entry: dict[str, Any] | str) -> bytes:
    """One server-sent event."""
    return f"data: {entry if isinstance(entry, str) else json.dumps(entry)}\n\n".encode()


def text_event(text: str, finish: str | None = None) -> bytes:
    """A piece of a completion."""
    return event({"choices": [{"index": 0, "text": text, "finish_reason": finish}]})


def usage_event(num_tokens: int, **more: Any) -> bytes:
    """The last one, with counts."""
    usage = {"prompt_tokens": 5, "completion_tokens": num_tokens}
    return event({"choices": [], "usage": usage} | more)


def plain(num_tokens: int = 8, gap_s: float = 0.0, text: str = "x", **more: Any) -> Reply:
    """A whole answer, a token a piece."""
    pieces: list[Piece] = []
    for index in range(num_tokens):
        pieces += [gap_s, text_event(f"{text}{index}", "length" if index == num_tokens - 1 else None)]
    return Reply([*pieces, usage_event(num_tokens, **more), event("[DONE]")])


@contextmanager
def serving(stub: Stub, port: int = 0) -> Iterator[Stub]:
    """The stub on a port, by default one of its own, ended with the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            answers: dict[str, Any] = {"/v1/models": {"data": [{"id": "stub"}]}, **stub.engine}
            if self.path == "/metrics" and stub.metrics is not None:
                return self._whole(200, stub.metrics().encode())
            found = answers.get(self.path)
            return self._whole(404 if found is None else 200, json.dumps(found or {}).encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            reply = stub.script(body, len(stub.bodies))
            stub.bodies.append(body)
            stub.headers.append(dict(self.headers))
            if reply.no_answer:
                self.close_connection = True
                return
            if reply.status != 200:
                self._whole(reply.status, b"".join(p for p in reply.pieces if isinstance(p, bytes)))
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in reply.pieces:
                if isinstance(piece, float):
                    time.sleep(piece)
                else:
                    self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                    self.wfile.flush()
            if reply.is_cut:
                self.close_connection = True
                return
            self.wfile.write(b"0\r\n\r\n")

        def _whole(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    stub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()


def main() -> None:
    """A stub as a process: `stub_server.py PORT [GAP_S] [dies-at-start | dies-after=N | starts-slowly]`."""
    port, gap_s, fault = int(sys.argv[1]), float((sys.argv[2:] or ["0"])[0]), (sys.argv[3:] or [""])[0]
    if fault == "dies-at-start":
        print("loading the model", "error: no such file: model.gguf", sep="\n", flush=True)
        sys.exit(3)
    if fault == "starts-slowly":
        time.sleep(1.5)
    most = int(fault.partition("=")[2] or 0)

    def script(_: dict[str, Any], num_before: int) -> Reply:
        if most and num_before >= most:
            print("CUDA error: an illegal memory access was encountered", flush=True)
            os._exit(1)
        return plain(8, gap_s)

    with serving(Stub(script), port):
        print("ready", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
