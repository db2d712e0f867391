"""Runs that end before their end, as users have them: killed, terminated, hung, started twice."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from bitdraft.config.running import RunOptions
from bitdraft.errors import Interrupted
from bitdraft.runs.cell import Cell, Event
from bitdraft.runs.conduct import interruptible
from bitdraft.runs.executors.local import Local
from bitdraft.runs.schedule import run_cells
from bitdraft.runs.store import Run
from toy_cells import HERE

PROGRAM = """
import sys
from bitdraft.runs.cell import Cell
from bitdraft.runs.executors.local import Local

cell = Cell("wait", "toy_cells:wait", {"seconds": 120})
Local().submit(cell, [], lambda event: print(event.get("pid", ""), flush=True))
"""


@pytest.fixture(autouse=True)
def _cells_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))


@pytest.fixture
def waiting() -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """A process with a cell that sleeps, and all that it has started."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    cell = int(process.stdout.readline())
    members = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    assert cell in {member.pid for member in members}
    assert len(members) >= 3, "the cell, and its guardian"
    yield process, members
    process.kill()
    process.wait()


def test_a_killed_run_leaves_no_process(
    waiting: tuple[subprocess.Popen[str], list[psutil.Process]],
) -> None:
    process, members = waiting
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(members, timeout=5)
    assert [one for one in alive if one.is_running() and one.status() != psutil.STATUS_ZOMBIE] == []


def test_a_killed_cell_takes_its_own_processes_along(
    waiting: tuple[subprocess.Popen[str], list[psutil.Process]],
) -> None:
    process, members = waiting
    cell = next(member for member in members if member.pid != process.pid)
    cell.kill()
    process.communicate(timeout=20)
    _, alive = psutil.wait_procs(members, timeout=5)
    assert [one for one in alive if one.is_running() and one.status() != psutil.STATUS_ZOMBIE] == []


def test_a_silent_cell_is_ended_and_the_others_run() -> None:
    events: list[Event] = []

    def stop(event: Event) -> None:
        events.append(event)
        if event["event"] == "started":
            os.kill(event["pid"], signal.SIGSTOP)

    Local(timeout_s=2).submit(Cell("wait", f"{HERE}:wait", {"seconds": 60}), [], stop)
    assert [event["event"] for event in events] == ["started", "failure"]
    assert events[-1]["reason"] == "no sign of life for 2 s, so it was ended (--cell-timeout)"
    with pytest.raises(ProcessLookupError):
        os.kill(events[0]["pid"], 0)


def test_what_is_slow_by_design_gives_signs_of_life() -> None:
    events: list[Event] = []
    cell = Cell("wait", f"{HERE}:wait", {"seconds": 5, "beats": True})
    Local(timeout_s=3.5).submit(cell, [], events.append)
    assert [event["event"] for event in events] == ["started", "woke"]


def test_several_cells_at_once_each_have_a_device_of_their_own() -> None:
    cells = [Cell(f"cell {n}", f"{HERE}:which_device", {}) for n in range(4)]
    found: dict[str, dict[str, Any]] = {cell.name: {} for cell in cells}
    with Run("toy", {}, None, RunOptions()) as run:
        executor = Local(devices=("0", "3"))
        ended = run_cells(run, cells, executor, lambda cell, event: found[cell.name].update(event))
    assert ended == {cell.name: None for cell in cells}
    assert {entry["visible"] for entry in found.values()} == {"0", "3"}
    for device in ("0", "3"):
        spans = sorted((e["start_s"], e["end_s"]) for e in found.values() if e["visible"] == device)
        assert all(end_s <= start_s for (_, end_s), (start_s, _) in itertools.pairwise(spans)), spans


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_a_run_as_an_interrupt_does(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as caught, interruptible():
        os.kill(os.getpid(), number)
    assert caught.value.signal_number == number
    assert signal.getsignal(number) == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_a_terminated_command_shows_what_is_finished(
    number: signal.Signals, code: int, checkpoint: Path, text_file: Path, tmp_path: Path
) -> None:
    size = ["--num-prompts", "2", "--max-prompt-tokens", "16", "--max-new-tokens", "6", "--device", "cpu"]
    arguments = ["precision", str(checkpoint), "--dataset", f"file:{text_file}", *size]
    # its cells in its own process, which is quicker; the signal comes when the first precision has ended
    program = f"""
import os
from bitdraft.cli import main
from bitdraft.runs import schedule
from in_process import jobs_in_process

real, ended = schedule.run_cell, []

def run_cell(*given):
    if len(ended) == 2:
        os.kill(os.getpid(), {int(number)})
    ended.append(real(*given))
    return ended[-1]

schedule.run_cell = run_cell
with jobs_in_process():
    main({[*arguments, "--output", str(tmp_path / "out")]!r})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Tok/s" in done.stdout
    assert f"what was measured is in {tmp_path / 'out'}" in done.stderr
    assert "Give the same command again to go on." in done.stderr


def test_runs_that_are_killed_hold_what_others_hold(tmp_path: Path) -> None:
    """A few kills; `scripts/torture` has two hundred."""
    program = f"""
from pathlib import Path
from typing import Any
import torture
if __name__ == "__main__":
    tally = torture.torture(Path({str(tmp_path)!r}), 4, 3, only_forked=True, say=False)
    print("same after", tally.kills)
    assert tally.kills >= 4
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "same after" in done.stdout
