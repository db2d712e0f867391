"""Fixed work of decoding's kind, which tells how fast the machine itself is now."""

from __future__ import annotations

import functools
import os

import torch

from bitdraft.probes.clock import now, synchronize
from bitdraft.probes.memory import forget_peaks

_LEAST_STREAMED, _MOST_STREAMED = 64 * 2**20, 256 * 2**20
_NUM_PRODUCTS = 30


def reference_work_s(device: torch.device) -> float:
    """Seconds of fixed work, some ten ms: a stream that no cache holds, as weights are read, and thirty small
    products that all threads share, one after another, as a step's operations are.

    The same each time unless something else slows the machine down: its memory, its clock, or threads that
    wait for one another. The stream is let go again, and no part of a phase's peak memory.
    """
    stream = torch.ones(streamed_bytes() // 4, device=device)
    matrix = torch.full((256, 256), 1 / 256, device=device)
    synchronize(device)
    start = now()
    stream.sum()
    for _ in range(_NUM_PRODUCTS):
        matrix = matrix @ matrix
    synchronize(device)
    spent_s = now() - start
    del stream, matrix
    forget_peaks(device)
    return spent_s


@functools.cache
def streamed_bytes() -> int:
    """Twice the last cache, within bounds."""
    try:
        cache = os.sysconf("SC_LEVEL3_CACHE_SIZE")
    except (ValueError, OSError, AttributeError):
        cache = 0
    return min(max(2 * cache, _LEAST_STREAMED), _MOST_STREAMED)
