"""Run cells in this process: for tests, and where a process each is too much."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from bitdraft.runs.cell import Cell, Event
from bitdraft.runs.executors.base import Emit, payload_of, raise_user_error, run_function


class Inline:
    """All events arrive when the cell has ended; through JSON all the same, as from another process."""

    slots = 1

    def submit(self, cell: Cell, done: Sequence[Event]) -> Iterator[Event]:
        """See `Executor`."""
        events: list[Event] = []
        emit = Emit(lambda event: events.append(json.loads(json.dumps(event))))
        run_function(cell.target, json.loads(json.dumps(payload_of(cell, done))), emit)
        for event in events:
            if event["event"] == "user_error":
                raise_user_error(event)
            yield event
