"""Fixed work of decoding's kind, which tells how fast the machine itself is now."""

from __future__ import annotations

import functools
import os
from statistics import median
from typing import NamedTuple

import torch

from bitdraft.probes.clock import now, synchronize
from bitdraft.probes.memory import forget_peaks

_LEAST_STREAMED, _MOST_STREAMED = 64 * 2**20, 256 * 2**20


class _Amount(NamedTuple):
    """How often the stream is read, how many products, and how often all of it is timed."""

    num_streams: int
    num_products: int
    num_times: int


_CPU = _Amount(1, 30, 1)
# a GPU reads hundreds of MiB in a tenth of a millisecond, less than what its host's launches waver by
_GPU = _Amount(30, 100, 5)


def reference_work_s(device: torch.device) -> float:
    """Seconds of fixed work, some ten ms: a stream that no cache holds, as weights are read, and small
    products that all threads share, one after another, as a step's operations are. On a GPU more of both, and
    the median of five times.

    The same each time unless something else slows the machine down: its memory, its clock, or threads that
    wait for one another. The stream is let go again, and no part of a phase's peak memory.
    """
    amount, num_bytes = (_CPU, streamed_bytes()) if device.type == "cpu" else (_GPU, _MOST_STREAMED)
    stream = torch.ones(num_bytes // 4, device=device)
    matrix = torch.full((256, 256), 1 / 256, device=device)
    spent_s = median(_time_s(amount, stream, matrix) for _ in range(amount.num_times))
    del stream, matrix
    forget_peaks(device)
    return spent_s


def _time_s(amount: _Amount, stream: torch.Tensor, matrix: torch.Tensor) -> float:
    synchronize(stream.device)
    start = now()
    for _ in range(amount.num_streams):
        stream.sum()
    for _ in range(amount.num_products):
        matrix = matrix @ matrix
    synchronize(stream.device)
    return now() - start


@functools.cache
def streamed_bytes() -> int:
    """Twice the processor's last cache, within bounds; the most is more than an NVIDIA GPU's cache."""
    try:
        cache = os.sysconf("SC_LEVEL3_CACHE_SIZE")
    except (ValueError, OSError, AttributeError):
        cache = 0
    return min(max(2 * cache, _LEAST_STREAMED), _MOST_STREAMED)
