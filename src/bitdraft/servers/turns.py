"""In which order engines are asked that are compared. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

T = TypeVar("T")

NUM_TURNS = 2
"""Of each server, where only one can run at a time"""


def turns(engines: Sequence[T], block: int) -> list[T]:
    """A B C, C B A, …: who comes first changes with every block."""
    return list(engines) if block % 2 == 0 else list(reversed(engines))


def halves(num_prompts: int) -> list[range]:
    """What an engine that runs alone is sent at its turns: as many prompts each time, all of them once."""
    ends = [num_prompts * turn // NUM_TURNS for turn in range(NUM_TURNS + 1)]
    return [range(start, stop) for start, stop in pairwise(ends) if stop > start]
