"""Servers that bitdraft starts itself: from a declaration, until they answer, to their end.

A server is a process of a session of its own, so that an interrupt of ours is not one of its own making, and
its output goes to a file. Where the kernel can (Linux), it is ended with us, however we end.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from bitdraft.errors import UserError

LAST_LINES = 6
_LONGEST_LINE = 300
_MOST_LINES = 60
_OF_AN_ERROR = re.compile(r"error|exception|fatal|abort|invalid|failed|cannot|out of memory", re.IGNORECASE)
_POLL_S = 0.2
_GRACE_S = 10.0
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True)
class Declaration:
    """How a server is started. `{port}` in `command` and `env` is its port, a free one where `port` is 0; it
    is ready when `ready` answers 200. `k` is what it is known to speculate with."""

    name: str
    command: Sequence[str]
    port: int = 0
    ready: str = "/v1/models"
    start_timeout_s: float = 600.0
    log: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    k: int | None = None


class NotStarted(Exception):
    """A server that never answered at its `url`; the message says why, with the last lines of its log."""

    def __init__(self, message: str, url: str) -> None:
        super().__init__(message)
        self.url = url


@dataclass
class Launched:
    """A server that runs, or has run."""

    name: str
    url: str
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def has_died(self) -> bool:
        """Without being asked to."""
        return self.process.poll() is not None

    @property
    def last_words(self) -> str:
        """`exit code 1: …`, with the last lines of its log; of one that runs these alone."""
        return words_of_end(self.process.poll(), self.log)

    def stop(self) -> None:
        """Ask it to end, then end it, and all that it has started."""
        for number, grace_s in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, _GRACE_S)):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(grace_s)


def words_of_end(code: int | None, log: Path) -> str:
    """Why a process ended, by its code (None while it runs) and its output."""
    if code == -signal.SIGKILL:
        # it had no time to say why, and its last lines are of its work
        return "ended by SIGKILL: by the kernel for want of memory, or by hand"
    lines = last_lines(log)
    if code is None:
        return lines or "its log is empty"
    how = f"exit code {code}" if code >= 0 else f"ended by {signal.Signals(-code).name}"
    return f"{how}: {lines}" if lines else f"{how}, and its log is empty"


def last_lines(log: Path, num: int = LAST_LINES) -> str:
    """Of a server's output, in one line: those that speak of an error, where there are some."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 16_384))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line.strip()[:_LONGEST_LINE] for line in text.splitlines() if line.strip()]
    of_errors = [line for line in lines[-_MOST_LINES:] if _OF_AN_ERROR.search(line)]
    return " | ".join((of_errors or lines)[-num:])


def free_port() -> int:
    """One that nobody listens at now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def launched(
    declaration: Declaration, folder: Path, on_wait: Callable[[float], None] | None = None
) -> Iterator[Launched]:
    """A server from its start to its end; `folder` is where its log is. Raises `NotStarted`, and `UserError`
    for a port that is taken."""
    server = _start(declaration, folder)
    try:
        _wait(server, declaration, on_wait or (lambda _: None))
        yield server
    finally:
        server.stop()


def _start(declaration: Declaration, folder: Path) -> Launched:
    port = declaration.port or free_port()
    url = f"http://127.0.0.1:{port}"
    log = declaration.log or folder / f"{declaration.name}.log"
    words = [word.replace("{port}", str(port)) for word in declaration.command]
    env = {name: value.replace("{port}", str(port)) for name, value in declaration.env.items()}
    _refuse_taken(declaration, port)
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **env},
                start_new_session=True,
                # one system call, of a library that is loaded already
                preexec_fn=_end_with_us if _LIBC is not None else None,  # noqa: PLW1509
            )
    except OSError as error:
        why = f"cannot be started ({shlex.join(words[:1])}: {error.strerror or error})"
        raise NotStarted(why, url) from error
    return Launched(declaration.name, url, log, process)


def _refuse_taken(declaration: Declaration, port: int) -> None:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            problem = f"{declaration.name}: somebody listens at it already"
            raise UserError("launch", port, problem, "End that, or leave the port out and write {port}")


def _end_with_us() -> None:
    assert _LIBC is not None
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait(server: Launched, declaration: Declaration, on_wait: Callable[[float], None]) -> None:
    started_s = time.monotonic()
    with httpx.Client(base_url=server.url, timeout=5.0) as client:
        while True:
            waited_s = time.monotonic() - started_s
            if server.has_died:
                raise NotStarted(f"did not start ({server.last_words})", server.url)
            if waited_s > declaration.start_timeout_s:
                why = f"was not ready after {declaration.start_timeout_s:.0f} s ({server.last_words})"
                raise NotStarted(why, server.url)
            with contextlib.suppress(httpx.HTTPError):
                if client.get(declaration.ready).status_code == httpx.codes.OK:
                    return
            on_wait(waited_s)
            time.sleep(_POLL_S)
