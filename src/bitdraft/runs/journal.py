"""A cell's events on disk: JSON lines, appended as they arrive and flushed to the disk one by one.

The first line says which cell it is; the last, `done` or `failure`, that it has ended. A process that is
killed while it writes leaves a torn last line, which the next one cuts off; a line that is damaged before
others is refused, because those would be lost. A disk that is full does not end
the measuring: what no longer fits is kept in memory, and `problem` says so.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from bitdraft.errors import UserError, one_line
from bitdraft.runs.cell import Event, Failure
from bitdraft.schema.io import write_atomically

_ENDS = ("done", "failure")


class Journal:
    """Without a path the events are kept in memory alone. `retried` says which of the file's events stay.
    Raises `UserError` where the file is of another cell."""

    def __init__(
        self,
        path: Path | None,
        header: Mapping[str, Any],
        retried: Callable[[Sequence[Event]], Sequence[Event]] | None = None,
    ) -> None:
        self.events: list[Event] = []
        self.problem: str | None = None
        self._path, self._header = path, {"event": "cell", **header}
        self._file: IO[bytes] | None = None
        if path is not None and path.exists():
            self._read(path)
            if retried is not None:
                self._keep(path, list(retried(self.events)))

    def _read(self, path: Path) -> None:
        events, length = read_events(path)
        if events and (events[0].get("event"), events[0].get("id")) != ("cell", self._header["id"]):
            problem = "is no journal of this cell"
            raise UserError("output", path, problem, "Remove it, or name another --output folder")
        if _has_lines_behind(path, length):
            problem = f"line {len(events) + 1} is damaged, with others behind it"
            remedy = "Remove the file to measure that cell again, or mend the line"
            raise UserError("output", path, problem, remedy)
        if length < path.stat().st_size:
            with path.open("r+b") as handle:
                handle.truncate(length)
        self.events = events[1:]

    def _keep(self, path: Path, events: list[Event]) -> None:
        """These of its events, and no others."""
        if events == self.events:
            return
        self.events = events
        if events:
            write_atomically(path, b"".join(map(_line_of, (self._header, *events))))
        else:
            path.unlink()

    @property
    def has_ended(self) -> bool:
        """Whether the cell is finished, well or not."""
        return bool(self.events) and self.events[-1]["event"] in _ENDS

    @property
    def failure(self) -> Failure | None:
        """Why it did not end well; None where it did, or has not ended."""
        if not self.events or self.events[-1]["event"] != "failure":
            return None
        return Failure.of(self.events[-1])

    def append(self, event: Event) -> None:
        """Keep an event; it is on the disk when this returns, or `problem` says why not."""
        self.events.append(event)
        if self._path is None or self.problem is not None:
            return
        try:
            if self._file is None:
                self._file = self._open(self._path)
            self._write(self._file, event)
        except OSError as error:
            self.problem = f"{self._path} cannot be written ({one_line(error)})"
            self.close()

    def _open(self, path: Path) -> IO[bytes]:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("ab", buffering=0)
        if handle.tell() == 0:
            self._write(handle, self._header)
        return handle

    @staticmethod
    def _write(handle: IO[bytes], event: Mapping[str, Any]) -> None:
        handle.write(_line_of(event))
        os.fsync(handle.fileno())

    def close(self) -> None:
        """No more events come from this process."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None


def _line_of(event: Mapping[str, Any]) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


def _has_lines_behind(path: Path, length: int) -> bool:
    """Whether a whole line follows the one that begins there. Bytes of a line that was never written to its
    end may be anything after a power cut, but there is one of those at the most."""
    with path.open("rb") as handle:
        handle.seek(length)
        handle.readline()
        return b"\n" in handle.read()


def read_events(path: Path) -> tuple[list[Event], int]:
    """(events, bytes that they take): all whole lines up to the first that is none."""
    events: list[Event] = []
    length = 0
    with path.open("rb") as handle:
        for line in handle:
            if not line.endswith(b"\n"):
                break
            try:
                event = json.loads(line)
            except ValueError:
                break
            if not isinstance(event, dict) or "event" not in event:
                break
            events.append(event)
            length += len(line)
    return events, length
