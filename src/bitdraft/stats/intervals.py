"""Interval estimates: Student's t with the jackknife's standard error, over prompts or blocks of text.

A figure is a function of sums over its items: θ = f(Σ a, Σ b, …). Left out one at a time, the items give n
values θ₍ᵢ₎, whose spread is the standard error (jackknife; Tukey 1958):

    se² = (n − 1)/n · Σ (θ₍ᵢ₎ − mean θ₍·₎)²        interval: θ ± t(n − 1, 0.975) · se

on a scale on which the figure is closest to normal: ratios on the logarithm, shares on the logit. How often
such intervals hold the truth is in docs/metrics.md (`scripts/simulate_verdicts`). A percentile bootstrap,
whose intervals are too narrow for few items, does so much less often.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, expit, logit, stdtrit

from bitdraft.schema.records import Figure

FEWEST_ITEMS = 5
"""Of fewer, one can be the whole spread."""
WIDEST = 100.0
"""An interval whose upper end is more times its lower one than this says nothing: there is none"""
LEVEL = 0.95

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""Sums over items, a row each → the figure's value, for each column"""


@dataclass(frozen=True)
class Scale:
    """What an interval is symmetric on."""

    to: Callable[[Floats], Floats]
    back: Callable[[Floats], Floats]


LINEAR = Scale(np.positive, np.positive)
LOG = Scale(np.log, np.exp)
LOGIT = Scale(logit, expit)
LOG_ABOVE_1 = Scale(lambda values: np.log(values - 1), lambda values: 1 + np.exp(values))
"""Of tokens per step, which are never less than one"""


Clusters = Sequence[str]
"""What each item shares with those of the same name; "" shares nothing"""


def figure_of_sums(
    columns: Sequence[ArrayLike], statistic: Statistic, scale: Scale = LOG, clusters: Clusters = ()
) -> Figure:
    """`statistic` of the columns' sums over paired items, and its interval; none below five items, or where
    leaving one out leaves no value (a division by nothing), or on the logarithm where it would be wider than
    `WIDEST`. Items of one cluster count as one. Where the scale does not hold all values, a share of exactly
    1 say, the interval is symmetric around the value itself."""
    parts = together(np.stack([np.asarray(column, float) for column in columns]), clusters)
    num_items = parts.shape[1]
    assert num_items > 0
    totals = parts.sum(1, keepdims=True)
    value = statistic(totals)
    if num_items < FEWEST_ITEMS:
        return Figure(value=float(value[0]), n=num_items)
    with np.errstate(divide="ignore", invalid="ignore"):
        left_out = statistic(totals - parts)
        if not np.isfinite(scale.to(np.append(left_out, value))).all():
            scale = LINEAR
        low, high = _interval(value, left_out, scale)
    is_empty = scale is LOG and high > WIDEST * low
    if is_empty or not math.isfinite(low) or not math.isfinite(high):
        return Figure(value=float(value[0]), n=num_items)
    return Figure(value=float(value[0]), low=low, high=high, n=num_items)


def together(parts: Floats, clusters: Clusters) -> Floats:
    """Columns of the last axis summed by cluster."""
    names = [name for name in clusters if name]
    if len(set(names)) == len(names):
        return parts
    members: dict[str, list[int]] = {}
    for item, name in enumerate(clusters):
        members.setdefault(name or f"\0{item}", []).append(item)
    return np.stack([parts[..., items].sum(-1) for items in members.values()], axis=-1)


def _interval(value: Floats, left_out: Floats, scale: Scale) -> tuple[float, float]:
    half = float(stdtrit(left_out.size - 1, (1 + LEVEL) / 2)) * standard_error(scale.to(left_out))
    low, high = scale.back(scale.to(value) + half * np.array([-1.0, 1.0]))
    return float(low), float(high)


def standard_error(left_out: Floats) -> float:
    """The jackknife's, of the values with each item left out."""
    num_items = left_out.size
    return float(np.sqrt((num_items - 1) / num_items * np.sum((left_out - left_out.mean()) ** 2)))


def ratio_of_sums(
    numerators: ArrayLike,
    denominators: ArrayLike,
    transform: Callable[[Floats], Floats] = np.positive,
    scale: Scale = LOG,
    clusters: Clusters = (),
) -> Figure:
    """Σ numerators / Σ denominators over the paired items, transformed.

    The figure's median is that of the items' own (transformed) ratios. The denominators' sum is above zero.
    """
    top, bottom = np.asarray(numerators, float), np.asarray(denominators, float)
    assert top.shape == bottom.shape
    used = bottom > 0
    median = float(np.median(transform(top[used] / bottom[used])))
    found = figure_of_sums((top, bottom), lambda sums: transform(sums[0] / sums[1]), scale, clusters)
    return found.model_copy(update={"median": median})


def ratio_of_rates(
    work: ArrayLike,
    seconds: ArrayLike,
    base_work: ArrayLike,
    base_seconds: ArrayLike,
    *,
    clusters: Clusters = (),
) -> Figure:
    """(Σ work / Σ seconds) / (Σ base_work / Σ base_seconds) over items paired by index."""
    columns = (work, seconds, base_work, base_seconds)
    return figure_of_sums(columns, lambda sums: (sums[0] / sums[1]) / (sums[2] / sums[3]), clusters=clusters)


@dataclass(frozen=True)
class Noise:
    """Between processes: the variance of the logarithm of how fast one is beside another, in all prompts
    alike, and on how many degrees of freedom it is known."""

    variance: float
    degrees: float

    @classmethod
    def of(cls, groups: Sequence[Sequence[float]]) -> Noise | None:
        """From speeds of processes that did the same, group by group; None where no group has two."""
        logs = [np.log(speeds) for speeds in groups if len(speeds) > 1]
        degrees = sum(own.size - 1 for own in logs)
        if not degrees:
            return None
        return cls(sum(float(((own - own.mean()) ** 2).sum()) for own in logs) / degrees, degrees)


def with_noise(
    figure: Figure, noise: Noise | None, num_processes: float, num_looked_at: int = 1
) -> tuple[Figure, float]:
    """A figure on the logarithm (Student's t) with the noise between processes, where there is any: se² = se²
    over prompts + variance × `num_processes`, which is the sum of 1 / processes over what the figure is made
    of. Degrees of freedom, the second value, by Welch and Satterthwaite. The interval holds for so many
    figures at once (Bonferroni); there is none where it would be wider than `WIDEST`."""
    degrees = figure.n - 1.0
    if figure.low is None or figure.high is None or figure.low <= 0:
        return figure, degrees
    within = (math.log(figure.high / figure.low) / 2 / float(stdtrit(degrees, (1 + LEVEL) / 2))) ** 2
    between = 0.0 if noise is None else noise.variance * num_processes
    if noise is not None and between > 0:
        degrees = (within + between) ** 2 / (within**2 / degrees + between**2 / noise.degrees)
    elif num_looked_at < 2:
        return figure, degrees
    beyond = 1 - (1 - LEVEL) / 2 / max(num_looked_at, 1)
    half = float(stdtrit(degrees, beyond)) * math.sqrt(within + between)
    if 2 * half > math.log(WIDEST):
        return figure.model_copy(update={"low": None, "high": None}), degrees
    centre = math.sqrt(figure.high * figure.low)
    ends = {"low": centre * math.exp(-half), "high": centre * math.exp(half)}
    return figure.model_copy(update=ends), degrees


def over_rounds(ratio: Figure, of_rounds: Sequence[float]) -> tuple[Figure, float]:
    """A ratio of two sides that were measured again and again, in turn, with the noise between rounds: that
    of the mean of the rounds' own ratios. As `with_noise`."""
    return with_noise(ratio, Noise.of([of_rounds]), 1 / max(len(of_rounds), 1))


def noise_of_turns(ratios: Sequence[Sequence[float]]) -> Noise | None:
    """Of engines that ran one at a time, in turns, from each one's ratios to a common baseline turn by turn.
    The baseline's own noise is in the ratios of all, so that they know it from half as many."""
    noise = Noise.of(ratios)
    return None if noise is None else Noise(noise.variance, max(1.0, noise.degrees / 2))


def median_figure(values: ArrayLike) -> Figure:
    """The median of the items, and its interval between order statistics, whatever their distribution
    (interpolated: Hettmansperger and Sheather 1986). Of five items it is their range, which holds the median
    in 94 % of experiments."""
    items = np.sort(np.asarray(values, float))
    num_items = items.size
    assert num_items > 0
    value = float(np.median(items))
    if num_items < FEWEST_ITEMS:
        return Figure(value=value, n=num_items, median=value)
    depth = 1
    while _coverage(depth + 1, num_items) >= LEVEL:
        depth += 1
    wide, narrow = _coverage(depth, num_items), _coverage(depth + 1, num_items)
    share = max(0.0, (wide - LEVEL) / (wide - narrow))
    weight = (num_items - depth) * share / (depth + (num_items - 2 * depth) * share)
    low = (1 - weight) * items[depth - 1] + weight * items[depth]
    high = (1 - weight) * items[-depth] + weight * items[-depth - 1]
    return Figure(value=value, low=float(low), high=float(high), n=num_items, median=value)


def _coverage(depth: int, num_items: int) -> float:
    """How often the `depth`-th smallest and largest items have the median between them."""
    return float(1 - 2 * bdtr(depth - 1, num_items, 0.5))
