from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from bitdraft.errors import UserError
from bitdraft.runs.cell import Cell, Event, Failure
from bitdraft.runs.executors.local import Local
from bitdraft.runs.failures import classify

HERE = "unit.test_executors"


@pytest.fixture(autouse=True)
def _jobs_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))


def job_that_chatters(payload: Any, emit: Callable[..., None]) -> None:
    print("noise on standard output")
    os.write(1, b"{broken json\n")
    emit("progress", done=payload["count"])
    emit("result", doubled=2 * payload["count"])


def job_that_is_killed(_payload: Any, emit: Callable[..., None]) -> None:
    emit("result", before=True)
    os.kill(os.getpid(), signal.SIGKILL)


def job_that_aborts(_payload: Any, _emit: Callable[..., None]) -> None:
    os.abort()


def job_that_fails(_payload: Any, _emit: Callable[..., None]) -> None:
    raise ValueError("three of four\nmore detail")


def job_that_runs_out_of_memory(_payload: Any, _emit: Callable[..., None]) -> None:
    import torch

    torch.empty(2**60)


def job_with_a_bad_request(_payload: Any, _emit: Callable[..., None]) -> None:
    raise UserError("device", "cuda:9", "no such device", "Choose cpu")


def job_that_sleeps(_payload: Any, emit: Callable[..., None]) -> None:
    emit("started", pid=os.getpid())
    time.sleep(60)


def run(job: Callable[..., None], payload: Any = None) -> tuple[Any, list[Event]]:
    events: list[Event] = []
    Local(timeout_s=20).submit(cell_of(job, payload), [], events.append)
    failure = Failure.of(events.pop()) if events and events[-1]["event"] == "failure" else None
    return failure, events


def cell_of(job: Callable[..., None], payload: Any = None) -> Cell:
    return Cell("a cell", f"{HERE}:{job.__name__}", payload or {})


def test_events_arrive_whole_whatever_the_job_prints() -> None:
    failure, events = run(job_that_chatters, {"count": 21})
    assert failure is None
    assert events == [{"event": "progress", "done": 21}, {"event": "result", "doubled": 42}]


def test_a_killed_job_is_a_reason_and_keeps_its_events() -> None:
    failure, events = run(job_that_is_killed)
    assert (failure.status, failure.reason) == ("failed", "killed (SIGKILL)"), "and not guessed to be memory"
    assert events == [{"event": "result", "before": True}]


def test_a_crashed_job_is_a_reason() -> None:
    failure, _ = run(job_that_aborts)
    assert failure.status == "failed"
    assert "SIGABRT" in failure.reason


def test_an_exception_is_a_reason_with_its_traceback() -> None:
    failure, _ = run(job_that_fails)
    assert (failure.status, failure.reason) == ("failed", "ValueError: three of four")
    assert "job_that_fails" in failure.detail


def test_out_of_memory_is_told_apart() -> None:
    failure, _ = run(job_that_runs_out_of_memory)
    assert failure.status == "oom"


def test_a_bad_request_is_raised_here() -> None:
    with pytest.raises(UserError, match="no such device"):
        run(job_with_a_bad_request)


def test_missing_operators_are_unsupported() -> None:
    assert classify(RuntimeError("\"addmm_impl_cpu_\" not implemented for 'Half'")) == "unsupported"
    assert classify(NotImplementedError("no kernel")) == "unsupported"
    assert classify(RuntimeError("CUDA error")) == "failed"


def test_an_interrupt_ends_the_job() -> None:
    seen: list[int] = []

    def interrupt(event: Event) -> None:
        seen.append(event["pid"])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Local().submit(cell_of(job_that_sleeps), [], interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(seen[0], 0)
