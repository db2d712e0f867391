"""How much the machine's own speed changed, from fixed work that is timed again and again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

DRIFT_WARNING = 1.10
"""From here on differences are no larger than what the machine did itself."""


def drift_of(times_s: Iterable[Sequence[float]]) -> float:
    """Slowest over fastest mean of the samples, a sequence for each thing measured; 1 without any."""
    means = [sum(samples) / len(samples) for samples in times_s if samples]
    return max(means) / min(means) if means else 1.0


def counted(drift: float) -> float:
    """What differences are held against: 1 where the drift is below the warning."""
    return drift if drift > DRIFT_WARNING else 1.0
