"""B over A, from the raw generations. Pure.

An item is what was decoded at once: one prompt, or a group of them. Items are paired, so what makes one
prompt slower than another cancels; intervals are over the pairs. The two sides were measured at different
times, and no interval over prompts can contain what the machine did in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from bitdraft.metrics.speed import Item, tokens_and_seconds, ttft_ms
from bitdraft.schema.comparison import Better, Ratio, Standing
from bitdraft.schema.records import Figure
from bitdraft.stats.drift import DRIFT_WARNING
from bitdraft.stats.intervals import Floats, figure_of_sums, median_figure, ratio_of_rates

Items = Sequence[Item]
Part = tuple[float, float]
"""(numerator, denominator) of one item"""


def judge(ratio: Figure, better: Better, machine: float = 1.0) -> Standing:
    """`machine` is the speed of the same fixed work in B over A. As in the verdict of `precision`, a drift
    above 10 % takes with it every difference in its own direction that is no larger."""
    if ratio.low is None or ratio.high is None:
        return "unknown"
    if ratio.low <= 1 <= ratio.high:
        return "same"
    speed, drift = math.log(ratio.value), math.log(machine)
    speed = speed if better == "higher" else -speed
    if abs(drift) > math.log(DRIFT_WARNING) and speed * drift > 0 and abs(speed) <= abs(drift):
        return "drift"
    return "better" if speed > 0 else "worse"


def ratio_of_parts(
    measure: Callable[[Item], Part], a: Items, b: Items, better: Better, machine: float = 1.0
) -> Ratio | None:
    """Σ numerators / Σ denominators of B over that of A; items without any on one side are left out."""
    pairs = [(measure(one), measure(other)) for one, other in zip(a, b, strict=True)]
    pairs = [pair for pair in pairs if min(*pair[0], *pair[1]) > 0]
    if not pairs:
        return None
    (top_a, bottom_a), (top_b, bottom_b) = (zip(*side, strict=True) for side in zip(*pairs, strict=True))
    found = ratio_of_rates(top_b, bottom_b, top_a, bottom_a)
    values = sum(top_a) / sum(bottom_a), sum(top_b) / sum(bottom_b)
    return Ratio(a=values[0], b=values[1], ratio=found, better=better, standing=judge(found, better, machine))


def ratio_of_ttft(a: Items, b: Items, machine: float = 1.0) -> Ratio | None:
    """The median of the ratios of prompts, each decoded alone; `a` and `b` are the sides' own medians."""
    first_a, first_b = (np.asarray([ttft_ms(run) for (run,) in side], float) for side in (a, b))
    if not first_a.size or min(first_a.min(), first_b.min()) <= 0:
        return None
    values = float(np.median(first_a)), float(np.median(first_b))
    on_log = median_figure(np.log(first_b / first_a))
    ends = {
        name: math.exp(end) for name in ("value", "low", "high") if (end := getattr(on_log, name)) is not None
    }
    found = Figure(**ends, n=on_log.n)
    return Ratio(
        a=values[0], b=values[1], ratio=found, better="lower", standing=judge(found, "lower", machine)
    )


def ratio_of_speedups(a: tuple[Items, Items], b: tuple[Items, Items]) -> Ratio | None:
    """Of the speedups over K = 0, each side given with its own K = 0. Within a side both were measured in
    turn, so this ratio alone is free of the machine's drift."""
    parts = [[tokens_and_seconds(item) for item in items] for side in (a, b) for items in side]
    if not parts[0] or any(min(part) <= 0 for column in parts for part in column):
        return None
    # tokens and seconds of A, of its K = 0, of B, and of its K = 0
    columns = [np.asarray(column, float) for part in parts for column in zip(*part, strict=True)]
    value_a, value_b = (
        float(_speedup(np.stack([column.sum() for column in side]))) for side in (columns[:4], columns[4:])
    )
    found = figure_of_sums(columns, lambda sums: _speedup(sums[4:]) / _speedup(sums[:4]))
    return Ratio(a=value_a, b=value_b, ratio=found, better="higher", standing=judge(found, "higher"))


def _speedup(sums: Floats) -> Floats:
    """Of sums of tokens, seconds, and those of K = 0."""
    return np.asarray((sums[0] / sums[1]) / (sums[2] / sums[3]))


def ratio_of_values(a: float, b: float, better: Better) -> Ratio | None:
    """Of what has no interval, such as peak memory: never significant."""
    if min(a, b) <= 0:
        return None
    return Ratio(a=a, b=b, ratio=Figure(value=b / a), better=better, standing="unknown")
