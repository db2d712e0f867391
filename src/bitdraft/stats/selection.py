"""The best of several that were measured on the same prompts: is it better than plain decoding, and by how
much?

The best by value is partly the luckiest. So whether it is better is judged by an interval that holds for all
m at once (Bonferroni: Student's t at 1 − 0.025/m in place of 1 − 0.025), and what it brings is taken from
prompts that had no part in choosing it: each prompt counts with the configuration that is best on all the
others (leave-one-out cross-validation; Stone 1974).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from bitdraft.schema.records import Figure
from bitdraft.stats.intervals import FEWEST_ITEMS, LEVEL


def for_all(figure: Figure, num_looked_at: int) -> Figure:
    """A ratio's interval (Student's t on the logarithm) made wide enough for so many ratios at once."""
    if figure.low is None or figure.high is None or figure.low <= 0 or num_looked_at < 2:
        return figure
    degrees, beyond = figure.n - 1, (1 - LEVEL) / 2
    wider = float(stdtrit(degrees, 1 - beyond / num_looked_at) / stdtrit(degrees, 1 - beyond))
    half = wider * math.log(figure.high / figure.low) / 2
    centre = math.sqrt(figure.high * figure.low)
    ends = {"low": centre * math.exp(-half), "high": centre * math.exp(half)}
    return figure.model_copy(update=ends)


def speedup_of_the_best(
    work: ArrayLike, seconds: ArrayLike, base_work: ArrayLike, base_seconds: ArrayLike
) -> float | None:
    """What choosing the configuration with the highest throughput brings over the base. `work` and `seconds`
    are configurations × prompts, those of the base one a prompt. None below five prompts."""
    done, took = np.asarray(work, float), np.asarray(seconds, float)
    base = np.asarray(base_work, float).sum() / np.asarray(base_seconds, float).sum()
    num_prompts = done.shape[1]
    if num_prompts < FEWEST_ITEMS:
        return None
    without = (done.sum(1, keepdims=True) - done) / (took.sum(1, keepdims=True) - took)
    chosen, prompts = without.argmax(0), np.arange(num_prompts)
    return float(done[chosen, prompts].sum() / took[chosen, prompts].sum() / base)
