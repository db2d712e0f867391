"""The protocol of executors, and what a cell's function emits its events with."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any, Protocol

from bitdraft.errors import BitdraftError, UserError, one_line
from bitdraft.runs.cell import Cell, Event, Failure
from bitdraft.runs.failures import classify

OnEvent = Callable[[Event], None]
TRANSIENT = frozenset({"progress", "heartbeat"})
"""Kinds of events that no journal keeps."""


class Executor(Protocol):
    """Where cells run. `slots` is how many at once, so that none shares a device (or, without GPUs, a node)
    with another.

    `submit` runs a cell to its end, and hands over its events as they arrive. `done` are those that an
    earlier, interrupted attempt has left: the cell goes on behind them. What goes wrong with a cell is its
    last event, a `failure`; a `UserError` that it raises is raised here. An exception from `on_event`, or an
    interrupt, ends the cell and goes on.
    """

    @property
    def slots(self) -> int:
        """How many cells may run at once."""
        ...

    def submit(self, cell: Cell, done: Sequence[Event], on_event: OnEvent) -> None:
        """Run a cell."""


class Emit:
    """Handed to a cell's function: `emit("row", load_s=1.5)`. Within `slow()`, where nothing can be emitted
    for long (loading, compiling, waiting for the device), its process gives signs of life."""

    def __init__(self, write: Callable[[Event], None]) -> None:
        self._write, self._lock = write, threading.Lock()
        self.is_slow = False

    def __call__(self, kind: str, **fields: Any) -> None:
        with self._lock:
            self._write({"event": kind, **fields})

    @contextlib.contextmanager
    def slow(self) -> Iterator[None]:
        """What takes long without an event."""
        before, self.is_slow = self.is_slow, True
        try:
            yield
        finally:
            self.is_slow = before


def run_function(target: str, payload: Any, emit: Emit) -> None:
    """Call `module:function`; what it raises is its last event, a `user_error` or a `failure`.

    Memory errors that a cell raises are told by their type; an interrupt goes on.
    """
    import traceback

    module, _, function = target.partition(":")
    try:
        getattr(import_module(module), function)(payload, emit)
    except UserError as error:
        emit("user_error", **error.as_dict())
    except Exception as error:  # the border of the process: every failure becomes a row with a reason
        told = isinstance(error, BitdraftError)
        reason = one_line(error) if told else f"{type(error).__name__}: {one_line(error)}"
        failure = Failure(classify(error), reason, "" if told else traceback.format_exc())
        emit(**_as_fields(failure))


def _as_fields(failure: Failure) -> dict[str, Any]:
    fields = failure.as_event()
    return {"kind": fields.pop("event"), **fields}


def raise_user_error(event: Event) -> None:
    """Of a `user_error` event, here."""
    raise UserError(event["field"], event["value"], event["problem"], event["remedy"])


def payload_of(cell: Cell, done: Sequence[Event]) -> dict[str, Any]:
    """What the function is given."""
    return {**cell.payload, "done": list(done)}
