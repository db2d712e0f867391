"""Run cells in this process: for tests, and where a process each is too much."""

from __future__ import annotations

import json
from collections.abc import Sequence

from bitdraft.runs.cell import Cell, Event
from bitdraft.runs.executors.base import Emit, OnEvent, payload_of, raise_user_error, run_function


class Inline:
    """Events go through JSON all the same, as from another process."""

    slots = 1

    def submit(self, cell: Cell, done: Sequence[Event], on_event: OnEvent) -> None:
        """See `Executor`."""

        def hand_over(event: Event) -> None:
            if event["event"] == "user_error":
                raise_user_error(event)
            on_event(json.loads(json.dumps(event)))

        payload = json.loads(json.dumps(payload_of(cell, done)))
        run_function(cell.target, payload, Emit(hand_over))
