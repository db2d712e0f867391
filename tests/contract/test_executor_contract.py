"""What every executor promises, whatever it runs cells on."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bitdraft.config.running import RunOptions
from bitdraft.errors import UserError
from bitdraft.runs.cell import Cell, Event
from bitdraft.runs.executors import make_executor
from bitdraft.runs.executors.base import Executor
from bitdraft.runs.executors.inline import Inline
from bitdraft.runs.executors.local import Local
from bitdraft.runs.schedule import run_cells
from bitdraft.runs.store import Run
from toy_cells import HERE, counting

MAKE: dict[str, Callable[[], Executor]] = {
    "inline": Inline,
    "local": lambda: Local(timeout_s=60),
    "ray": lambda: make_executor(RunOptions(executor="ray", cell_timeout_s=60)),
}


@pytest.fixture(scope="module", params=list(MAKE))
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    if request.param == "ray":
        ray = pytest.importorskip("ray", reason="install the ray extra: pip install 'bitdraft[ray]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        yield MAKE[request.param]()
    if request.param == "ray":
        ray.shutdown()


def submitted(executor: Executor, cell: Cell, done: tuple[Event, ...] = ()) -> list[Event]:
    """Its events, but for those of the executor itself and progress."""
    events: list[Event] = []
    executor.submit(cell, done, events.append)
    return [event for event in events if event["event"] not in ("machine", "progress", "heartbeat")]


def numbers(events: list[Event]) -> list[int]:
    return [event["n"] for event in events if event["event"] == "number"]


def test_events_arrive_in_order(executor: Executor) -> None:
    assert numbers(submitted(executor, counting(to=20))) == list(range(20))


def test_a_cell_goes_on_behind_what_is_done(executor: Executor) -> None:
    done = ({"event": "number", "n": 0, "pid": 1}, {"event": "number", "n": 1, "pid": 1})
    assert numbers(submitted(executor, counting(to=4), done)) == [2, 3]


def test_an_exception_is_the_last_event_and_keeps_those_before(executor: Executor) -> None:
    events = submitted(executor, counting(to=4, fail_at=2))
    assert numbers(events) == [0, 1]
    assert (events[-1]["event"], events[-1]["status"]) == ("failure", "failed")
    assert events[-1]["reason"] == "ValueError: cannot count 2"
    assert "toy_cells" in events[-1]["detail"]


def test_a_bad_request_is_raised_here(executor: Executor) -> None:
    with pytest.raises(UserError) as caught:
        submitted(executor, Cell("ask", f"{HERE}:ask_badly", {}))
    error = caught.value
    assert (error.field, error.value, error.problem, error.remedy) == (
        "device",
        "cuda:9",
        "no such device",
        "Choose cpu",
    )


def test_what_a_library_prints_damages_nothing(executor: Executor) -> None:
    events = submitted(executor, Cell("print", f"{HERE}:print_much", {"to": 7}))
    assert events == [{"event": "number", "n": 7}]


def test_a_killed_process_is_a_reason(executor: Executor) -> None:
    if isinstance(executor, Inline):
        pytest.skip("this process is the cell's")
    events = submitted(executor, counting(to=4, kill_at=1))
    assert numbers(events) == [0]
    assert (events[-1]["status"], events[-1]["reason"]) == ("failed", "killed (SIGKILL)")


def test_an_interrupt_ends_the_cell_and_the_next_attempt_goes_on(executor: Executor, tmp_path: Path) -> None:
    file = tmp_path / "go"
    cell = Cell("wait", f"{HERE}:wait_for", {"file": str(file)}, {"file": 1})
    seen: list[Any] = []

    def interrupt(_: Cell, event: Event) -> None:
        seen.append(event)
        if any(one["event"] == "first" for one in seen):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Run("toy", {}, tmp_path / "run", RunOptions()) as run:
        run_cells(run, [cell], executor, interrupt)
    file.write_text("")
    events: list[Event] = []
    with Run("toy", {}, tmp_path / "run", RunOptions()) as run:
        assert run_cells(run, [cell], executor, lambda _, event: events.append(event)) == {"wait": None}
    kinds = [event["event"] for event in events if event["event"] in ("first", "second")]
    assert kinds == ["first", "second"]
    assert next(event for event in events if event["event"] == "second")["behind"] >= 1
