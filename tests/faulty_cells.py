"""The precision module's cells, of which bf16's does what the environment variable FAULT names first."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path
from typing import Any

from bitdraft.precision import cells
from bitdraft.runs.executors.base import Emit


def measure_machine(payload: dict[str, Any], emit: Emit) -> None:
    cells.measure_machine(payload, emit)


def measure(payload: dict[str, Any], emit: Emit) -> None:
    if payload["precision"] == "bf16":
        _FAULTS[os.environ["FAULT"]]()
    cells.measure(payload, emit)


def _out_of_memory() -> None:
    import torch

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))
    torch.ones(2**30)


def _clock_jumps() -> None:
    """The wall clock goes back to 1970, and then an hour on at every look."""
    looks = iter(range(10**9))
    time.time = lambda: 3600.0 * next(looks)


_FAULTS = {
    "oom": _out_of_memory,
    "segv": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "clock": _clock_jumps,
}
