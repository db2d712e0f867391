"""Fixed work that tells how fast the machine itself is now."""

from __future__ import annotations

import torch

from bitdraft.probes.clock import now, synchronize


def calibration_s(device: torch.device) -> float:
    """Seconds of fixed work, a few ms: thirty products that all threads share, one after another.

    The same each time unless something else slows the machine down, threads that wait for one
    another included. Small enough not to move peak memory.
    """
    matrix = torch.full((256, 256), 1 / 256, device=device)
    synchronize(device)
    start = now()
    for _ in range(30):
        matrix = matrix @ matrix
    synchronize(device)
    return now() - start
