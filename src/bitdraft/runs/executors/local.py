"""Run cells on this machine, in a process each.

A process each makes a peak of memory the cell's own, and turns a crash or an out-of-memory kill into
a reason instead of the end of the run. Several run at once only where each has a device of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import IO

import psutil

from bitdraft.runs.cell import Cell, Event, Failure
from bitdraft.runs.executors.base import OnEvent, payload_of, raise_user_error
from bitdraft.runs.failures import ended_by, num_oom_kills

DEFAULT_TIMEOUT_S = 1800.0
_LOOK_S = 0.5
_DETAIL_CHARS = 4000


class Local:
    """`devices` are CUDA devices to be handed out, one a cell (`CUDA_VISIBLE_DEVICES`); without any, cells
    run one after another. A cell that gives no sign of life for `timeout_s` is ended and becomes a
    failure."""

    def __init__(self, devices: Sequence[str] = (), timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self.slots = max(1, len(devices))
        self.timeout_s = timeout_s
        self._devices: queue.SimpleQueue[str] = queue.SimpleQueue()
        for device in devices:
            self._devices.put(device)
        self._hands_out = bool(devices)

    def submit(self, cell: Cell, done: Sequence[Event], on_event: OnEvent) -> None:
        """See `Executor`."""
        if not self._hands_out:
            self._run(cell, done, on_event, None)
            return
        device = self._devices.get()
        try:
            self._run(cell, done, on_event, device)
        finally:
            self._devices.put(device)

    def _run(self, cell: Cell, done: Sequence[Event], on_event: OnEvent, device: str | None) -> None:
        environment = dict(os.environ)
        if device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
        oom_kills = num_oom_kills() or 0
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "bitdraft.runs.executors.child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
                env=environment,
                process_group=0,  # a Ctrl-C reaches the parent alone, which ends the cell
            )
            watched = _Watched(process, self.timeout_s)
            try:
                watched.tell({"target": cell.target, "payload": payload_of(cell, done)})
                failed = watched.hand_over(on_event)
                if not failed:
                    process.wait()
            finally:
                watched.end()
            if not failed:
                kills = (num_oom_kills() or 0) - oom_kills
                failure = ended_by(
                    process.returncode, _end_of(errors), oom_kills=kills, peak_bytes=watched.peak
                )
                if failure is not None:
                    on_event(failure.as_event())


class _Watched:
    """A child process: its lines come through a thread, so that its silence can be noticed."""

    def __init__(self, process: subprocess.Popen[str], timeout_s: float) -> None:
        self.process, self.timeout_s = process, timeout_s
        self.peak = 0
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with contextlib.suppress(ValueError, OSError):
            for line in self.process.stdout:
                self._lines.put(line)
        self._lines.put(None)

    def tell(self, job: object) -> None:
        """One line of JSON. The pipe stays open: its end tells the child that this process is gone."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()

    def hand_over(self, on_event: OnEvent) -> bool:
        """All events, until the child's output ends or its silence has lasted too long. Whether one of them
        was a failure."""
        heard_s = time.monotonic()
        failed = False
        while True:
            try:
                line = self._lines.get(timeout=_LOOK_S)
            except queue.Empty:
                self._note_memory()
                if time.monotonic() - heard_s > self.timeout_s:
                    on_event(self._silent().as_event())
                    return True
                continue
            heard_s = time.monotonic()
            if line is None or not line.endswith("\n"):
                return failed  # it has ended, perhaps while it wrote
            event = json.loads(line)
            if event["event"] == "user_error":
                raise_user_error(event)
            failed = failed or event["event"] == "failure"
            if event["event"] != "heartbeat":
                on_event(event)

    def _silent(self) -> Failure:
        reason = f"no sign of life for {self.timeout_s:g} s, so it was ended (--cell-timeout)"
        return Failure("failed", reason)

    def _note_memory(self) -> None:
        with contextlib.suppress(psutil.Error):
            self.peak = max(self.peak, psutil.Process(self.process.pid).memory_info().rss)

    def end(self) -> None:
        """The child and all that it has started are gone when this returns."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        self._reader.join(timeout=5)
        if self.process.stdout is not None:
            self.process.stdout.close()


def _end_of(errors: IO[str]) -> str:
    errors.seek(0)
    return errors.read()[-_DETAIL_CHARS:]
