from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdraft.stats.intervals import median_figure, ratio_of_rates, ratio_of_sums

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
def test_interval_holds_the_extremes_of_no_resample(pairs: list[tuple[float, float]]) -> None:
    top, bottom = zip(*pairs, strict=True)
    figure = ratio_of_sums(top, bottom)
    ratios = np.asarray(top) / np.asarray(bottom)
    assert figure.low is not None
    assert figure.high is not None
    slack = 1e-9 * ratios.max()
    assert ratios.min() - slack <= figure.low <= figure.high <= ratios.max() + slack


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(200):
        figure = ratio_of_sums(rng.normal(10, 2, 40), np.ones(40), seed=trial)
        assert figure.low is not None
        assert figure.high is not None
        hits += figure.low <= 10 <= figure.high
    assert 180 <= hits <= 199


def test_same_seed_same_interval() -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert median_figure(values, seed=3) == median_figure(values, seed=3)
    assert median_figure(values, seed=3) != median_figure(values, seed=4)


def test_pairing_removes_what_both_runs_share() -> None:
    rng = np.random.default_rng(0)
    prompt_s = rng.uniform(1, 10, 30)
    ratio = ratio_of_rates(np.full(30, 100), prompt_s, np.full(30, 100), prompt_s * 1.25)
    assert ratio.value == pytest.approx(1.25)
    assert ratio.low == pytest.approx(1.25)
    assert ratio.high == pytest.approx(1.25)
