"""In which order requests are sent. Pure."""

from __future__ import annotations

import random

ROUNDS_OF_A_BLOCK = 2


def blocks_of(num_prompts: int, load: int, start: int = 0) -> list[range]:
    """Prompts that one server is sent before the next one has its turn: a single one where one is in flight,
    twice as many as are in flight, or all of those that come at a rate (load 0). `start` is the first."""
    size = num_prompts if load == 0 else 1 if load == 1 else ROUNDS_OF_A_BLOCK * load
    stop = start + num_prompts
    return [range(first, min(first + size, stop)) for first in range(start, stop, size or 1)]


def arrivals_s(num_requests: int, rate: float, seed: int) -> list[float]:
    """Seconds from the first: gaps are exponential (a Poisson process), the same for every server."""
    chance = random.Random(seed)
    found = [0.0]
    for _ in range(num_requests - 1):
        found.append(found[-1] + chance.expovariate(rate))
    return found[:num_requests]
