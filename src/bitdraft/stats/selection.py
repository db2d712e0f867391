"""Many figures looked at together.

The best of several that were measured on the same prompts: is it better than plain decoding, and by how much?

The best by value is partly the luckiest. So whether it is better is judged by a lower end that holds for all
m at once (Bonferroni: Student's t at 1 − 0.0125/m in place of 1 − 0.025), and what it brings is taken from
prompts that had no part in choosing it: each prompt counts with the configuration that is best on all the
others (leave-one-out cross-validation; Stone 1974).

Many ratios of two runs: which differ from 1? By Holm's procedure (1979) over their p-values, at most 5 % of
comparisons of equal runs call any of their ratios different.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr, stdtrit

from bitdraft.schema.records import Figure
from bitdraft.stats.intervals import FEWEST_ITEMS, LEVEL, Clusters, together, with_noise

# what is surely below a tenth is not worth a second model, where no other threshold is given
LEAST_WORTH = 1.1
# a speedup so many times what a step's tokens can give was not measured, whatever its interval
BEYOND_A_STEP = 1.1

# so far out few prompts' tails are twice as heavy as Student's t: docs/metrics.md, "The best of several"
_FAR = 2


def for_all(figure: Figure, num_looked_at: int) -> Figure:
    """A ratio's interval (Student's t on the logarithm) made wide enough for so many ratios at once."""
    return with_noise(figure, None, 0, num_looked_at)[0]


def of_the_best(figure: Figure, num_looked_at: int) -> Figure:
    """The interval of a ratio (Student's t on the logarithm) that was looked at among so many. Its lower end
    is that of an interval for all of them at once, because the highest is partly the luckiest. Its upper end
    is its own, which luck only makes safer."""
    if num_looked_at < 2:
        return figure
    low = for_all(figure, _FAR * num_looked_at).low
    return figure.model_copy(update={"low": low, "high": None if low is None else figure.high})


def told(figure: Figure, unlucky: float | None, *, does_pay: bool | None) -> Figure:
    """A chosen one's figure with the value by prompts that did not choose it, never above its own. Where the
    others' prompts say less than the interval's lower end, that end is said of one that pays, and of any
    other the interval reaches down to it."""
    if unlucky is None or figure.low is None:
        return figure
    value = min(unlucky, figure.value)
    if does_pay:
        return figure.model_copy(update={"value": max(value, figure.low)})
    return figure.model_copy(update={"value": value, "low": min(value, figure.low)})


def pays(speedup: Figure, at_least: float = 1.0) -> bool | None:
    """Whether an interval says that speculation pays: yes where all of it is above 1 and at least what is
    asked for; no where all of it is below that, or, where nothing is asked for, below what is worth a draft.
    None where it holds both, or where there is none: more prompts, or a quieter machine, would tell."""
    if speedup.low is None or speedup.high is None:
        return None
    if speedup.low > 1 and speedup.low >= at_least:
        return True
    worth = at_least if at_least > 1 else LEAST_WORTH
    return None if speedup.high >= worth else False


def speedup_of_the_best(
    work: ArrayLike,
    seconds: ArrayLike,
    base_work: ArrayLike,
    base_seconds: ArrayLike,
    *,
    clusters: Clusters = (),
) -> float | None:
    """What choosing the configuration with the highest throughput brings over the base. `work` and `seconds`
    are configurations × prompts, those of the base one a prompt; prompts of one cluster count as one. None
    below five of them."""
    done, took = (together(np.asarray(one, float), clusters) for one in (work, seconds))
    base = np.asarray(base_work, float).sum() / np.asarray(base_seconds, float).sum()
    num_prompts = done.shape[1]
    if num_prompts < FEWEST_ITEMS:
        return None
    without = (done.sum(1, keepdims=True) - done) / (took.sum(1, keepdims=True) - took)
    chosen, prompts = without.argmax(0), np.arange(num_prompts)
    return float(done[chosen, prompts].sum() / took[chosen, prompts].sum() / base)


def p_value(ratio: Figure, degrees: float) -> float | None:
    """Two-sided, of the true ratio being 1, by its interval (Student's t on the logarithm, with so many
    degrees of freedom); None without."""
    if ratio.low is None or ratio.high is None or ratio.low <= 0:
        return None
    centre, half = math.log(ratio.low * ratio.high) / 2, math.log(ratio.high / ratio.low) / 2
    if half <= 1e-12:
        return float(abs(centre) <= 1e-12)
    statistic = abs(centre) / half * float(stdtrit(degrees, (1 + LEVEL) / 2))
    return float(2 * stdtr(degrees, -statistic))


def t_p_value(mean: float, error: float, degrees: float) -> float:
    """One-sided, of the true mean being 0 or less, by Student's t."""
    return float(stdtr(degrees, -mean / error)) if error > 0 else float(mean <= 0)


def mean_p_value(values: Sequence[float]) -> float:
    """The same of two values or more."""
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return t_p_value(float(np.mean(values)), error, len(values) - 1)


def holm(p_values: Sequence[float], level: float = 1 - LEVEL) -> list[bool]:
    """Which hold, all of them together at the level."""
    held = [False] * len(p_values)
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] > level / (len(p_values) - place):
            break
        held[index] = True
    return held
