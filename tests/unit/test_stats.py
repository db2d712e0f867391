from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from bitdraft.schema.records import Figure
from bitdraft.stats.intervals import (
    LINEAR,
    LOG_ABOVE_1,
    LOGIT,
    WIDEST,
    Noise,
    Scale,
    median_figure,
    over_rounds,
    ratio_of_rates,
    ratio_of_sums,
    with_noise,
)
from bitdraft.stats.selection import holm, mean_p_value, of_the_best, p_value, pays, speedup_of_the_best

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
    if 2 * half > math.log(WIDEST):
        assert figure.low is None
        return
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
def test_the_lower_end_of_the_best_of_many_is_bonferronis(n: int, m: int) -> None:
    values = np.random.default_rng(n).uniform(1, 2, n)
    one = ratio_of_sums(values, np.ones(n))
    many = of_the_best(one, m)
    assert one.low is not None
    error = math.log(one.value / one.low) / scipy.stats.t.ppf(0.975, n - 1)
    half = error * scipy.stats.t.ppf(1 - 0.0125 / m, n - 1)
    assert many.low == pytest.approx(one.value * math.exp(-half))
    assert many.high == one.high
    assert of_the_best(one, 1) == one


@pytest.mark.parametrize(
    ("low", "high", "at_least", "answer"),
    [
        (1.01, 3.0, 1.0, True),
        (1.0, 1.05, 1.0, False),
        (1.0, 1.1, 1.0, None),
        (0.5, 2.6, 1.0, None),
        (0.7, 0.9, 1.0, False),
        (1.3, 1.4, 1.2, True),
        (1.15, 1.4, 1.2, None),
        (1.15, 1.19, 1.2, False),
        (None, None, 1.0, None),
    ],
)
def test_whether_speculation_pays(
    low: float | None, high: float | None, at_least: float, answer: bool | None
) -> None:
    value = 2.0 if low is None or high is None else (low + high) / 2
    assert pays(Figure(value=value, low=low, high=high, n=10), at_least) is answer


def test_what_the_best_brings_is_told_by_prompts_that_did_not_choose_it() -> None:
    """Two configurations, each of which is much faster on one prompt of its own."""
    work, base_s = np.ones((2, 5)), np.ones(5)
    seconds = np.array([[0.5, 1.0, 1.0, 1.0, 1.0], [1.0, 0.6, 1.0, 1.0, 1.0]])
    # on prompt 0 the others choose the second, which is no faster there; on prompt 1 and the rest the first
    found = speedup_of_the_best(work, seconds, base_s, base_s)
    assert found == pytest.approx(5 / (1.0 + 1.0 + 1.0 + 1.0 + 1.0))
    assert speedup_of_the_best(work[:, :4], seconds[:, :4], base_s[:4], base_s[:4]) is None


def test_holm_by_hand() -> None:
    """0.01 ≤ 0.05/4, 0.014 ≤ 0.05/3, and 0.03 > 0.05/2 ends it."""
    assert holm([0.03, 0.01, 0.04, 0.014]) == [False, True, False, True]
    assert holm([]) == []
    assert holm([0.05]) == [True]


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_between_bonferroni_and_nothing(p_values: list[float]) -> None:
    held = holm(p_values)
    for p, is_held in zip(p_values, held, strict=True):
        assert is_held or p > 0.05 / len(p_values)
        assert not is_held or p <= 0.05


@given(st.lists(st.tuples(positive, positive), min_size=5, max_size=30))
def test_a_p_value_is_the_level_at_which_the_interval_touches_1(pairs: list[tuple[float, float]]) -> None:
    top, bottom = (np.asarray(column) for column in zip(*pairs, strict=True))
    figure = ratio_of_sums(top, bottom)
    found = p_value(figure, figure.n - 1)
    if figure.low is None or figure.high is None:  # too wide to say anything
        assert found is None
        return
    assert found is not None
    if abs(found - 0.05) > 1e-6:
        assert (found < 0.05) == (not figure.low <= 1 <= figure.high)


def test_p_values_by_hand() -> None:
    figure = ratio_of_sums([2.0] * 6, [1.0] * 6)
    assert p_value(figure, figure.n - 1) == 0, "no spread at all"
    assert p_value(ratio_of_sums([1.0] * 6, [1.0] * 6), 5) == 1
    assert p_value(ratio_of_sums([1.0] * 4, [1.0] * 4), 3) is None


def test_the_spread_of_rounds_is_added_by_hand() -> None:
    """Standard errors of 0.02 over 11 prompts and of 0.01 over 4 rounds."""
    half = float(scipy.stats.t.ppf(0.975, 10)) * 0.02
    ratio = ratio_of_sums([1.0] * 11, [1.0] * 11).model_copy(
        update={"low": math.exp(-half), "high": math.exp(half)}
    )
    logs = [0.02 * z / statistics.stdev([-1.0, 0.0, 0.5, 0.5]) for z in (-1.0, 0.0, 0.5, 0.5)]
    found, freedom = over_rounds(ratio, [math.exp(value) for value in logs])
    degrees = (4e-4 + 1e-4) ** 2 / (4e-4**2 / 10 + 1e-4**2 / 3)
    assert freedom == pytest.approx(degrees)
    wider = float(scipy.stats.t.ppf(0.975, degrees)) * math.sqrt(5e-4)
    assert found.high == pytest.approx(math.exp(wider), rel=1e-9)
    assert over_rounds(ratio, [1.1]) == (ratio, 10)
    assert over_rounds(ratio, [1.1, 1.1]) == (ratio, 10), "rounds that agree add nothing"


def test_a_mean_is_judged_by_students_t() -> None:
    values = [0.02, 0.03, 0.01]
    peer = scipy.stats.ttest_1samp(values, 0, alternative="greater")
    assert mean_p_value(values) == pytest.approx(peer.pvalue)
    assert (mean_p_value([0.1, 0.1]), mean_p_value([-0.1, -0.1])) == (0, 1)


@given(st.lists(st.tuples(positive, positive), min_size=10, max_size=20))
def test_items_of_one_cluster_count_as_one(pairs: list[tuple[float, float]]) -> None:
    top, bottom = (np.asarray(column) for column in zip(*pairs, strict=True))
    clusters = ["a", "b", "c", "", "a", *[f"{item}" for item in range(len(pairs) - 5)]]
    found = ratio_of_sums(top, bottom, clusters=clusters)
    kept = [0, 1, 2, 3, *range(5, len(pairs))]
    tops, bottoms = (np.array([column[0] + column[4], *column[kept[1:]]]) for column in (top, bottom))
    by_hand = ratio_of_sums(tops, bottoms)
    assert found.n == len(pairs) - 1
    assert found.value == pytest.approx(by_hand.value)
    assert found.low == pytest.approx(by_hand.low)
    own = ratio_of_sums(top, bottom, clusters=["", *[f"{item}" for item in range(len(pairs) - 1)]])
    assert own == ratio_of_sums(top, bottom), "clusters of one change nothing"
    best = speedup_of_the_best([top], [bottom], bottom, bottom, clusters=clusters)
    assert best == pytest.approx(found.value)


def test_an_interval_that_says_nothing_is_none() -> None:
    figure = Figure(value=10, low=9, high=11, n=10)
    wide, _ = with_noise(figure, Noise(variance=0.5, degrees=1), 1)
    assert (wide.value, wide.low, wide.high) == (10, None, None)
    assert wide.no_interval == "pooled over all items, or too wide"
    kept, _ = with_noise(figure, Noise(variance=0.01, degrees=1), 1)
    assert kept.low is not None
    assert kept.high is not None
    assert 1.5 < kept.high / kept.low < WIDEST
