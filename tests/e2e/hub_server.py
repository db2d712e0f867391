"""A small stand-in for the Hugging Face hub on loopback: model files, dataset files, their metadata."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Serves `root/models/ORG/NAME/…` and `root/datasets/ORG/NAME/…` as repositories of one commit. With a
    `status` it answers everything with that, as a proxy or a gateway may, and with `cuts_files` it ends each
    connection in the middle of a file."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.requests: list[str] = []
        self.status: int | None = None
        self.cuts_files = False
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_HEAD(self) -> None:
                hub.answer(self, body=False)

            def do_GET(self) -> None:
                hub.answer(self, body=True)

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                hub.answer(self, body=True, posted=self.rfile.read(length))

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler, body: bool, posted: bytes = b"") -> None:
        self.requests.append(f"{request.command} {request.path}")
        if self.status is not None:
            self._send(request, self.status, b"{}")
            return
        parts = [unquote(part) for part in urlsplit(request.path).path.strip("/").split("/")]
        if parts[0] == "api" and parts[1] in ("models", "datasets"):
            self._api(request, parts[1], parts[2:], posted)
            return
        kind = "datasets" if parts[0] == "datasets" else "models"
        path = parts[1:] if kind == "datasets" else parts
        if len(path) > 4 and path[2] == "resolve":
            self._file(request, self.root / kind / path[0] / path[1] / "/".join(path[4:]), body)
        else:
            self._send(request, 404, b"{}")

    def _api(self, request: BaseHTTPRequestHandler, kind: str, rest: list[str], posted: bytes) -> None:
        folder = self.root / kind / "/".join(rest[:2])
        if not folder.is_dir():
            self._send(request, 404, b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"})
            return
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        action = rest[2] if len(rest) > 2 else "revision"
        if action == "revision":
            siblings = [{"rfilename": path.relative_to(folder).as_posix()} for path in files]
            answer: Any = {"id": "/".join(rest[:2]), "sha": COMMIT, "siblings": siblings, "private": False}
        elif action == "tree":
            top = folder / "/".join(rest[4:])
            if not top.is_dir():
                self._send(request, 404, b"{}", {"X-Error-Code": "EntryNotFound"})
                return
            recursive = "recursive=true" in request.path.lower()
            answer = [entry(path, folder) for path in sorted(top.rglob("*") if recursive else top.iterdir())]
        elif action == "paths-info":
            asked = (
                json.loads(posted)["paths"] if posted.startswith(b"{") else parse_qs(posted.decode())["paths"]
            )
            answer = [entry(folder / name, folder) for name in asked if (folder / name).exists()]
        else:
            self._send(request, 404, b"{}")
            return
        self._send(request, 200, json.dumps(answer).encode())

    def _file(self, request: BaseHTTPRequestHandler, path: Path, body: bool) -> None:
        if not path.is_file():
            self._send(request, 404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            return
        content = path.read_bytes()
        headers = {"ETag": f'"{digest(content)}"', "X-Repo-Commit": COMMIT}
        sent = content[: len(content) // 2] if self.cuts_files else content
        self._send(request, 200, sent if body else b"", headers, length=len(content))
        request.close_connection = self.cuts_files

    @staticmethod
    def _send(
        request: BaseHTTPRequestHandler,
        status: int,
        content: bytes,
        headers: dict[str, str] | None = None,
        length: int | None = None,
    ) -> None:
        request.send_response(status)
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(content) if length is None else length))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(content)


def digest(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def entry(path: Path, folder: Path) -> dict[str, Any]:
    name = path.relative_to(folder).as_posix()
    if path.is_dir():
        return {"type": "directory", "path": name, "size": 0, "oid": digest(name.encode())}
    return {"type": "file", "path": name, "size": path.stat().st_size, "oid": digest(path.read_bytes())}
