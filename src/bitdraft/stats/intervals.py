"""Interval estimates: percentile bootstrap over prompts or over blocks of text (Efron 1979)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitdraft.schema.records import Figure

NUM_RESAMPLES = 2000

FEWEST_ITEMS = 5  # resampling fewer gives intervals that are far too narrow

Floats = NDArray[np.float64]


def resample_counts(num_items: int, seed: int, num_resamples: int = NUM_RESAMPLES) -> Floats:
    """How often each item is drawn in each resample: shape (num_resamples, num_items)."""
    rng = np.random.default_rng(seed)
    shares = np.full(num_items, 1 / num_items)
    return rng.multinomial(num_items, shares, size=num_resamples).astype(np.float64)


def interval(resampled: Floats) -> tuple[float, float] | tuple[None, None]:
    """The central 95 % of resampled statistics; none where a resample has no value (a division by
    nothing)."""
    if not np.isfinite(resampled).all():
        return None, None
    low, high = np.percentile(resampled, [2.5, 97.5])
    return float(low), float(high)


def ratio_of_sums(
    numerators: ArrayLike,
    denominators: ArrayLike,
    seed: int = 0,
    transform: Callable[[Floats], Floats] = lambda ratio: ratio,
) -> Figure:
    """Σ numerators / Σ denominators, and its interval over the paired items, both transformed.

    The figure's median is that of the items' own (transformed) ratios. Fewer than five items have no
    interval. The denominators' sum is above zero.
    """
    top, bottom = np.asarray(numerators, float), np.asarray(denominators, float)
    assert top.shape == bottom.shape
    assert top.size > 0
    value = float(transform(np.asarray(top.sum() / bottom.sum())))
    used = bottom > 0
    median = float(np.median(transform(top[used] / bottom[used])))
    if top.size < FEWEST_ITEMS:
        return Figure(value=value, n=top.size, median=median)
    counts = resample_counts(top.size, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = interval(transform((counts @ top) / (counts @ bottom)))
    return Figure(value=value, low=low, high=high, n=top.size, median=median)


def median_figure(values: ArrayLike, seed: int = 0) -> Figure:
    """The median of the items and its bootstrap interval."""
    items = np.asarray(values, float)
    assert items.size > 0
    value = float(np.median(items))
    if items.size < FEWEST_ITEMS:
        return Figure(value=value, n=items.size, median=value)
    draws = np.random.default_rng(seed).integers(items.size, size=(NUM_RESAMPLES, items.size))
    low, high = interval(np.median(items[draws], axis=1))
    return Figure(value=value, low=low, high=high, n=items.size, median=value)


def ratio_of_rates(
    work: ArrayLike, seconds: ArrayLike, base_work: ArrayLike, base_seconds: ArrayLike, seed: int = 0
) -> Figure:
    """(Σ work / Σ seconds) / (Σ base_work / Σ base_seconds) over items paired by index."""
    columns = [np.asarray(column, float) for column in (work, seconds, base_work, base_seconds)]
    num_items = columns[0].size
    assert all(column.shape == (num_items,) for column in columns)
    assert num_items > 0

    def speedup(weights: Floats) -> Floats:
        sums = [weights @ column for column in columns]
        return np.asarray((sums[0] / sums[1]) / (sums[2] / sums[3]))

    value = float(speedup(np.ones(num_items)))
    if num_items < FEWEST_ITEMS:
        return Figure(value=value, n=num_items)
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = interval(speedup(resample_counts(num_items, seed)))
    return Figure(value=value, low=low, high=high, n=num_items)
