"""Joules per output token, from blocks of requests that a counter was read around. Definitions:
docs/metrics.md."""

from __future__ import annotations

from collections.abc import Sequence

from bitdraft.schema.records import EnergyBlock, Figure
from bitdraft.stats.intervals import ratio_of_sums


def joules_per_token(blocks: Sequence[EnergyBlock]) -> Figure | None:
    """Σ joules / Σ tokens over the valid blocks, with their interval; None where there is none. What the
    device takes when idle is part of it."""
    valid = [block for block in blocks if block.is_valid and block.num_tokens]
    if not valid:
        return None
    return ratio_of_sums([block.joules for block in valid], [block.num_tokens for block in valid])
