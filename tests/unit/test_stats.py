from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from bitdraft.stats.intervals import (
    LINEAR,
    LOG_ABOVE_1,
    LOGIT,
    Scale,
    median_figure,
    ratio_of_rates,
    ratio_of_sums,
)
from bitdraft.stats.selection import for_all, speedup_of_the_best

positive = st.floats(0.1, 100)


def test_ratio_of_sums_is_not_the_mean_of_ratios() -> None:
    figure = ratio_of_sums([10, 1000], [1, 500])
    assert figure.value == pytest.approx(1010 / 501)
    assert figure.median == pytest.approx((10 + 2) / 2)
    assert figure.n == 2


@pytest.mark.parametrize("n", [1, 4])
def test_few_items_have_no_interval(n: int) -> None:
    ones = [1] * n
    for figure in (ratio_of_sums(ones, ones), median_figure(ones), ratio_of_rates(ones, ones, ones, ones)):
        assert (figure.low, figure.high, figure.n) == (None, None, n)


@given(st.lists(st.tuples(positive, positive), min_size=5, max_size=30))
def test_the_interval_is_students_with_the_jackknifes_error(pairs: list[tuple[float, float]]) -> None:
    top, bottom = (np.asarray(column) for column in zip(*pairs, strict=True))
    figure = ratio_of_sums(top, bottom)
    n = len(pairs)
    left_out = [math.log((top.sum() - t) / (bottom.sum() - b)) for t, b in zip(top, bottom, strict=True)]
    error = math.sqrt((n - 1) * statistics.pvariance(left_out))
    half = float(scipy.stats.t.ppf(0.975, n - 1)) * error
    assert figure.low == pytest.approx(figure.value * math.exp(-half), rel=1e-6)
    assert figure.high == pytest.approx(figure.value * math.exp(half), rel=1e-6)


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = [3.0, 5.0, 4.0, 9.0, 1.0, 2.0]
    figure = ratio_of_sums(values, [1] * 6, scale=LINEAR)
    low, high = scipy.stats.t.interval(0.95, 5, loc=4.0, scale=scipy.stats.sem(values))
    assert [figure.low, figure.high] == pytest.approx([low, high])


@pytest.mark.parametrize(
    ("scale", "values", "inside"),
    [(LOGIT, [0.9, 0.99, 1.0, 0.97, 0.95], (0, 1)), (LOG_ABOVE_1, [1.0, 1.1, 4.0, 1.2, 1.05], (1, math.inf))],
)
def test_scales_keep_intervals_where_figures_can_be(
    scale: Scale, values: list[float], inside: tuple[float, float]
) -> None:
    figure = ratio_of_sums(values, [1] * 5, scale=scale)
    assert figure.low is not None
    assert figure.high is not None
    assert inside[0] < figure.low < figure.value < figure.high < inside[1]


def test_what_is_the_same_everywhere_has_an_interval_of_no_width() -> None:
    for scale in (LINEAR, LOGIT):
        figure = ratio_of_sums([1] * 5, [1] * 5, scale=scale)
        assert (figure.low, figure.high) == (1, 1)


def test_no_interval_where_one_item_is_all_there_is() -> None:
    figure = ratio_of_sums([1] * 5, [1, 0, 0, 0, 0])
    assert (figure.value, figure.low, figure.high) == (5, None, None)


@pytest.mark.parametrize("n", [5, 6, 8, 11, 40])
def test_a_medians_interval_lies_between_the_right_order_statistics(n: int) -> None:
    """By counting: how often so many of n items fall below the median."""
    figure = median_figure(range(1, n + 1))
    assert figure.low is not None
    assert figure.high is not None
    assert figure.low - 1 == pytest.approx(n - figure.high)
    chances = [math.comb(n, k) / 2**n for k in range(n + 1)]

    def coverage(depth: int) -> float:
        return float(1 - 2 * sum(chances[:depth]))

    depth = math.floor(figure.low)
    assert coverage(depth + 1) < 0.95
    assert coverage(depth) >= 0.95 or depth == 1


def test_pairing_removes_what_both_runs_share() -> None:
    rng = np.random.default_rng(0)
    prompt_s = rng.uniform(1, 10, 30)
    ratio = ratio_of_rates(np.full(30, 100), prompt_s, np.full(30, 100), prompt_s * 1.25)
    assert ratio.value == pytest.approx(1.25)
    assert ratio.low == pytest.approx(1.25)
    assert ratio.high == pytest.approx(1.25)


@pytest.mark.parametrize(("n", "m"), [(5, 16), (15, 16), (15, 2)])
def test_an_interval_for_many_is_bonferronis(n: int, m: int) -> None:
    values = np.random.default_rng(n).uniform(1, 2, n)
    one = ratio_of_sums(values, np.ones(n))
    many = for_all(one, m)
    assert one.low is not None
    assert many.low is not None
    assert many.high is not None
    error = math.log(one.value / one.low) / scipy.stats.t.ppf(0.975, n - 1)
    half = error * scipy.stats.t.ppf(1 - 0.025 / m, n - 1)
    assert [many.low, many.high] == pytest.approx([one.value * math.exp(-half), one.value * math.exp(half)])
    assert for_all(one, 1) == one


def test_what_the_best_brings_is_told_by_prompts_that_did_not_choose_it() -> None:
    """Two configurations, each of which is much faster on one prompt of its own."""
    work, base_s = np.ones((2, 5)), np.ones(5)
    seconds = np.array([[0.5, 1.0, 1.0, 1.0, 1.0], [1.0, 0.6, 1.0, 1.0, 1.0]])
    # on prompt 0 the others choose the second, which is no faster there; on prompt 1 and the rest the first
    found = speedup_of_the_best(work, seconds, base_s, base_s)
    assert found == pytest.approx(5 / (1.0 + 1.0 + 1.0 + 1.0 + 1.0))
    assert speedup_of_the_best(work[:, :4], seconds[:, :4], base_s[:4], base_s[:4]) is None
