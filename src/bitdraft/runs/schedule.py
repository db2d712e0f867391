"""Take cells through an executor into their journals, in order or several at once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence

from bitdraft.runs.cell import Cell, Event, Failure
from bitdraft.runs.executors.base import TRANSIENT, Executor
from bitdraft.runs.store import Run

OnEvent = Callable[[Cell, Event], None]


def run_cell(run: Run, cell: Cell, executor: Executor, on_event: OnEvent) -> Failure | None:
    """Compute what is missing of a cell. `on_event` gets every event: those of the journal first, then new
    ones as they arrive, `progress` among them. Returns why it did not end well, or None.

    An interrupt ends the cell and goes on; what had arrived is in the journal. Raises `UserError` where the
    cell does.
    """
    journal = run.journal(cell)
    earlier = list(journal.events)
    for event in earlier:
        on_event(cell, event)
    if journal.has_ended:
        return journal.failure
    run.note_computed()
    failures: list[Failure] = []

    def take(event: Event) -> None:
        if event["event"] == "machine":
            run.note_machine(cell, str(event["name"]))
        if event["event"] not in TRANSIENT:
            journal.append(event)
        if event["event"] == "failure":
            failures.append(Failure.of(event))
        on_event(cell, event)

    take({"event": "progress", "stage": cell.stage, "done": 0, "total": 1})
    executor.submit(cell, earlier, take)
    if failures:
        return failures[-1]
    journal.append({"event": "done"})
    return None


def run_cells(
    run: Run, cells: Sequence[Cell], executor: Executor, on_event: OnEvent
) -> dict[str, Failure | None]:
    """All cells, by name; as many at once as the executor has slots. Events reach `on_event` one at a time,
    on the caller's thread."""
    run.begin(cells)
    if executor.slots <= 1 or len(cells) <= 1:
        return {cell.name: run_cell(run, cell, executor, on_event) for cell in cells}
    return _at_once(run, cells, executor, on_event)


def _at_once(
    run: Run, cells: Sequence[Cell], executor: Executor, on_event: OnEvent
) -> dict[str, Failure | None]:
    """A thread a slot. An error of one cell is raised here when the cells that have begun are ended."""
    waiting: queue.SimpleQueue[Cell] = queue.SimpleQueue()
    for cell in cells:
        waiting.put(cell)
    arrived: queue.SimpleQueue[tuple[Cell, Event] | None] = queue.SimpleQueue()
    ended: dict[str, Failure | None] = {}
    errors: list[BaseException] = []
    stop = threading.Event()

    def hand_over(cell: Cell, event: Event) -> None:
        if stop.is_set():
            raise _Stopped
        arrived.put((cell, event))

    def work() -> None:
        try:
            while not stop.is_set():
                cell = waiting.get_nowait()
                ended[cell.name] = run_cell(run, cell, executor, hand_over)
        except (queue.Empty, _Stopped):
            pass
        except BaseException as error:  # raised again on the caller's thread
            errors.append(error)
            stop.set()
        finally:
            arrived.put(None)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(executor.slots, len(cells)))]
    for thread in threads:
        thread.start()
    left = len(threads)
    try:
        while left:
            found = arrived.get()
            if found is None:
                left -= 1
            else:
                on_event(*found)
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=30)
    if errors:
        raise errors[0]
    return ended


class _Stopped(Exception):
    """Another cell has ended the run."""
