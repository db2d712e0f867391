"""In which order requests are sent. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

ROUNDS_OF_A_BLOCK = 2
NUM_TURNS = 2
"""Of each server, where only one can run at a time"""


def blocks_of(num_prompts: int, load: int, start: int = 0) -> list[range]:
    """Prompts that one server is sent before the next one has its turn: a single one where one is in flight,
    twice as many as are in flight, or all of those that come at a rate (load 0). `start` is the first."""
    size = num_prompts if load == 0 else 1 if load == 1 else ROUNDS_OF_A_BLOCK * load
    stop = start + num_prompts
    return [range(first, min(first + size, stop)) for first in range(start, stop, size or 1)]


def turns(servers: Sequence[str], block: int) -> list[str]:
    """A B C, C B A, …: who comes first changes with every block."""
    return list(servers) if block % 2 == 0 else list(reversed(servers))


def halves(num_prompts: int) -> list[range]:
    """What a server that runs alone is sent at its turns: as many prompts each time, all of them once."""
    ends = [num_prompts * turn // NUM_TURNS for turn in range(NUM_TURNS + 1)]
    return [range(start, stop) for start, stop in pairwise(ends) if stop > start]


def arrivals_s(num_requests: int, rate: float, seed: int) -> list[float]:
    """Seconds from the first: gaps are exponential (a Poisson process), the same for every server."""
    chance = random.Random(seed)
    found = [0.0]
    for _ in range(num_requests - 1):
        found.append(found[-1] + chance.expovariate(rate))
    return found[:num_requests]
