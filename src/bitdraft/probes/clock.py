"""Clocks. Times are `time.perf_counter()` seconds taken when token ids have reached the host, so the device
is synchronised by the transfer itself and nowhere else.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import torch

now = time.perf_counter


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class PhaseClock:
    """Divides a device's time among named phases. On CUDA by events in its stream, which need no
    synchronisation while the work runs; elsewhere by the host's clock."""

    def __init__(self, device: torch.device) -> None:
        self._on_cuda = device.type == "cuda"
        self._marks: list[tuple[str, Any]] = []

    def mark(self, phase: str) -> None:
        """The time since the last mark belongs to `phase`; the first mark starts the clock."""
        if self._on_cuda:
            event: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            self._marks.append((phase, event))
        else:
            self._marks.append((phase, now()))

    def seconds(self) -> dict[str, float]:
        if self._on_cuda and self._marks:
            self._marks[-1][1].synchronize()
        totals: dict[str, float] = {}
        for (_, before), (phase, after) in pairwise(self._marks):
            spent = before.elapsed_time(after) / 1000 if self._on_cuda else after - before
            totals[phase] = totals.get(phase, 0.0) + spent
        return totals
