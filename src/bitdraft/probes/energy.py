"""Energy, by counters that count it: NVML's for a CUDA device, RAPL's packages and memory for a CPU.

A counter moves in steps, every millisecond (RAPL) to every tenth of a second (NVML), so that a block of work
must be long against that; and RAPL's begin at zero again when they are full. Without a counter there is no
energy: none is guessed from a thermal limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bitdraft.probes.clock import now
from bitdraft.probes.nvml import nvml_handle
from bitdraft.schema.records import EnergyBlock

POWERCAP = Path("/sys/class/powercap")
LEAST_STEPS = 20
"""Steps of the counter within a block: its two ends then add at most a tenth"""
LEAST_BLOCK_S, IDLE_S = 2.0, 1.0
_MOST_WAIT_S = 1.0


@dataclass(frozen=True)
class Counter:
    """`read` gives the count of each domain; one that wraps has the number of its counts, else 0."""

    source: str
    read: Callable[[], Sequence[int]]
    joules_per_count: float
    wraps: Sequence[int]

    def joules(self, before: Sequence[int], after: Sequence[int]) -> float:
        """Between two readings, at most one time around each."""
        counts = [
            (late - early) % wrap if wrap else late - early
            for early, late, wrap in zip(before, after, self.wraps, strict=True)
        ]
        return sum(counts) * self.joules_per_count


def find_counter(device: torch.device) -> Counter | None:
    """The device's; None where there is none, or none that may be read."""
    found = _nvml(device) if device.type == "cuda" else _rapl() if device.type == "cpu" else None
    try:
        return None if found is None or not found.read() else found
    except (OSError, ValueError, RuntimeError):
        return None


def _nvml(device: torch.device) -> Counter | None:
    nvml = nvml_handle(device)
    if nvml is None:
        return None
    library, handle = nvml

    def read() -> Sequence[int]:
        try:
            return (int(library.nvmlDeviceGetTotalEnergyConsumption(handle)),)
        except library.NVMLError as error:
            raise OSError(str(error)) from error

    return Counter("NVML", read, 1e-3, (0,))


def _rapl(root: Path | None = None) -> Counter | None:
    """Packages, and memory beside them; the whole platform's counter would count them twice."""
    domains = [
        folder
        for folder in sorted((root or POWERCAP).glob("intel-rapl:*"))
        if _name(folder).startswith("package") or _name(folder) == "dram"
    ]
    try:
        wraps = [int((folder / "max_energy_range_uj").read_text()) for folder in domains]
    except (OSError, ValueError):
        return None

    def read() -> Sequence[int]:
        return [int((folder / "energy_uj").read_text()) for folder in domains]

    return Counter("RAPL", read, 1e-6, wraps) if domains else None


def _name(folder: Path) -> str:
    try:
        return (folder / "name").read_text().strip()
    except OSError:
        return ""


class Meter:
    """Joules of blocks of work by a counter, which is looked at first: how often does it move?"""

    def __init__(self, counter: Counter, clock: Callable[[], float] = now) -> None:
        self.counter, self._clock = counter, clock
        self.step_s = self._step()

    def _step(self) -> float:
        """Seconds between two moves; as long as was waited where it doesn't move."""
        start_s = last_s = self._clock()
        moves: list[float] = []
        count = list(self.counter.read())
        while len(moves) < 5 and (at_s := self._clock()) - start_s < _MOST_WAIT_S:
            time.sleep(0)
            found = list(self.counter.read())
            if found != count:
                moves.append(at_s - last_s)
                count, last_s = found, at_s
        # the first began somewhere within a step
        return sorted(moves[1:])[len(moves[1:]) // 2] if len(moves) > 1 else _MOST_WAIT_S

    @property
    def least_block_s(self) -> float:
        """How long a block must be."""
        return max(LEAST_BLOCK_S, LEAST_STEPS * self.step_s)

    def block(self, work: Callable[[], int]) -> EnergyBlock:
        """`work` gives the number of tokens that it made."""
        before, start_s = self.counter.read(), self._clock()
        num_tokens = work()
        spent_s, joules = self._clock() - start_s, self.counter.joules(before, self.counter.read())
        is_valid = joules > 0 and spent_s >= LEAST_STEPS * self.step_s
        return EnergyBlock(joules=joules, seconds=spent_s, num_tokens=num_tokens, is_valid=is_valid)


def idle_watts(device: torch.device) -> tuple[str, float] | None:
    """(counter, W) of the device while this process does nothing; None without a counter."""
    counter = find_counter(device)
    if counter is None:
        return None
    meter = Meter(counter)

    def wait() -> int:
        time.sleep(max(IDLE_S, LEAST_STEPS * meter.step_s))
        return 0

    block = meter.block(wait)
    return (counter.source, block.joules / block.seconds) if block.is_valid else None
