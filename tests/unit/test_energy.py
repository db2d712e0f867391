"""Energy by a simulated counter, whose truth is known: it moves in steps and begins at zero again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from bitdraft.metrics.energy import joules_per_token
from bitdraft.probes import energy
from bitdraft.probes.energy import LEAST_STEPS, Counter, Meter, find_counter, idle_watts
from bitdraft.schema.records import EnergyBlock


class Machine:
    """A clock that goes on at every look, and a counter of so many watts that moves every `step_s`."""

    def __init__(self, watts: float, step_s: float, wrap: int = 0, first: int = 0) -> None:
        self.now_s, self.watts, self.step_s, self.wrap, self.first = 0.0, watts, step_s, wrap, first

    def clock(self) -> float:
        self.now_s += 1e-4
        return self.now_s

    def read(self) -> Sequence[int]:
        steps = int(self.now_s / self.step_s)
        count = self.first + int(steps * self.step_s * self.watts * 1e6)
        return (count % self.wrap if self.wrap else count,)

    def counter(self) -> Counter:
        return Counter("simulated", self.read, 1e-6, (self.wrap,))

    def work(self, seconds: float, num_tokens: int) -> Callable[[], int]:
        def do() -> int:
            self.now_s += seconds
            return num_tokens

        return do


@pytest.mark.parametrize("step_s", [0.001, 0.1])
def test_joules_are_watts_times_seconds(step_s: float) -> None:
    machine = Machine(60.0, step_s)
    meter = Meter(machine.counter(), machine.clock)
    assert meter.step_s == pytest.approx(step_s, rel=0.25)
    block = meter.block(machine.work(meter.least_block_s, 100))
    assert block.is_valid
    assert block.joules == pytest.approx(60 * block.seconds, rel=2 / LEAST_STEPS)


def test_a_counter_that_is_full_begins_at_zero_again() -> None:
    machine = Machine(50.0, 0.001, wrap=200_000_000, first=199_000_000)
    meter = Meter(machine.counter(), machine.clock)
    block = meter.block(machine.work(3.0, 10))
    assert block.joules == pytest.approx(150, rel=0.01)


def test_a_block_that_is_short_against_the_steps_is_not_valid() -> None:
    machine = Machine(60.0, 0.1)
    meter = Meter(machine.counter(), machine.clock)
    block = meter.block(machine.work(0.5, 10))
    assert not block.is_valid
    assert joules_per_token([block]) is None
    still = Machine(0.0, 0.1)
    stuck = Meter(still.counter(), still.clock)
    assert not stuck.block(still.work(100.0, 10)).is_valid, "a counter that never moves counts nothing"


def test_joules_per_token_is_a_ratio_of_sums_with_an_interval() -> None:
    blocks = [
        EnergyBlock(joules=j, seconds=2.0, num_tokens=n, is_valid=True)
        for j, n in ((10.0, 100), (12.0, 100), (11.0, 110), (13.0, 120), (9.0, 95))
    ]
    found = joules_per_token(blocks)
    assert found is not None
    assert found.value == pytest.approx(55 / 525)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high
    assert joules_per_token([]) is None


def rapl(root: Path, energies: dict[str, tuple[str, int, int]]) -> None:
    for folder, (name, count, wrap) in energies.items():
        (root / folder).mkdir(parents=True)
        (root / folder / "name").write_text(f"{name}\n")
        (root / folder / "energy_uj").write_text(f"{count}\n")
        (root / folder / "max_energy_range_uj").write_text(f"{wrap}\n")


def test_rapl_counts_packages_and_memory_and_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rapl(
        tmp_path,
        {
            "intel-rapl:0": ("package-0", 5_000_000, 10_000_000),
            "intel-rapl:0:0": ("core", 4_000_000, 10_000_000),
            "intel-rapl:0:1": ("dram", 1_000_000, 10_000_000),
            "intel-rapl:1": ("psys", 9_000_000, 10_000_000),
        },
    )
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    counter = find_counter(torch.device("cpu"))
    assert counter is not None
    assert counter.read() == [5_000_000, 1_000_000]
    before = counter.read()
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("1000000\n")
    assert counter.joules(before, counter.read()) == pytest.approx(6.0), "around the end once"


def test_without_a_counter_there_is_no_energy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    assert find_counter(torch.device("cpu")) is None
    assert idle_watts(torch.device("cpu")) is None
    rapl(tmp_path, {"intel-rapl:0": ("package-0", 0, 10)})
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("not for you")
    assert find_counter(torch.device("cpu")) is None, "one that may not be read is none"
