"""How much the machine's own speed changed, from fixed work that is timed again and again."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

DRIFT_WARNING = 1.10
"""From here on a drift is warned of. No difference that is smaller than the drift counts, whatever it is."""
DRIFT_LIMIT = 1.30
"""Beyond this what was measured one after another is measured again, in turn; and not compared if that is no
better"""


def drift_of(times_s: Iterable[Sequence[float]]) -> float:
    """Slowest over fastest median of the samples, a sequence for each thing measured; 1 without any. A stall
    of the machine in one sample among several is no drift."""
    medians = [statistics.median(samples) for samples in times_s if samples]
    return max(medians) / min(medians) if medians else 1.0


def drift_over_time(times_s: Sequence[float]) -> float | None:
    """Between the thirds of what was timed one after another; None below three."""
    third = len(times_s) // 3
    return drift_of((times_s[:third], times_s[third:-third], times_s[-third:])) if third else None
