"""Rows compared, where the right answer is known by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitdraft.compare import gate
from bitdraft.compare.measured import Measurement, rows_of
from bitdraft.compare.pairing import judge, ratio_of_parts, ratio_of_ttft
from bitdraft.compare.rows import Pair, compare_rows
from bitdraft.metrics.speed import speed_ratio, tokens_and_seconds
from bitdraft.schema.comparison import Comparison
from bitdraft.schema.precision import PrecisionResult
from bitdraft.schema.records import Figure, Generation
from comparing import (
    batch_row,
    compare_in,
    failed_row,
    precision_result,
    precision_row,
    row_of,
    runs,
    sweep,
    sweep_row,
)
from said import sentences


def regressions_of(comparison: Comparison, limit: float) -> list[str]:
    """As if both sides had been measured in turn."""
    in_turn = comparison.model_copy(update={"rounds": 2})
    return sentences(gate.regressions_of(in_turn, gate.Limits(limit, limit)))


Compare = Callable[[Measurement, Measurement], Comparison]


def wobbling(place: int) -> float:
    """Half of the prompts 5 % faster, half 5 % slower."""
    return 0.95 if place % 2 else 1.05


@pytest.fixture
def compared(tmp_path: Path) -> Compare:
    return partial(compare_in, tmp_path)


def one_precision(generations: list[Generation], **changes: Any) -> PrecisionResult:
    return precision_result(precision_row("fp32", generations, **changes))


def test_a_clear_regression(compared: Compare) -> None:
    comparison = compared(one_precision(runs()), one_precision(runs(1.25)))
    ratios = comparison.rows[0].ratios
    assert ratios["throughput_tok_s"].ratio.value == pytest.approx(0.8)
    assert ratios["throughput_tok_s"].ratio.low == pytest.approx(0.8)
    for name in ("tpot_ms", "ttft_ms"):  # a time that grows is worse
        assert ratios[name].ratio.value == pytest.approx(1.25)
        assert (ratios[name].better, ratios[name].standing) == ("lower", "worse")
    assert comparison.summary.startswith("B is faster in none of 1 rows, slower in 1.")
    assert "Largest regression: fp32, T" in comparison.summary
    (line,) = regressions_of(comparison, 0.2)  # of the limit exactly, but for rounding
    assert line.startswith("fp32: tokens/s 0.800×")
    assert "tokens/s" not in regressions_of(comparison, 0.21)[0]
    assert regressions_of(comparison, 0.26) == []


def test_an_improvement_fails_nothing(compared: Compare) -> None:
    comparison = compared(one_precision(runs()), one_precision(runs(0.8)))
    ratios = comparison.rows[0].ratios
    assert ratios["throughput_tok_s"].ratio.value == pytest.approx(1.25)
    assert {ratios[name].standing for name in ("throughput_tok_s", "tpot_ms", "ttft_ms")} == {"better"}
    assert "B is faster in 1 of 1 rows, slower in none" in comparison.summary
    assert regressions_of(comparison, 0.0) == []


def test_a_first_token_that_comes_later_is_worse_though_the_rest_is_faster(compared: Compare) -> None:
    comparison = compared(one_precision(runs()), one_precision(runs(0.5, 1.2)))
    ratios = comparison.rows[0].ratios
    assert ratios["ttft_ms"].ratio.value == pytest.approx(1.2)
    assert ratios["ttft_ms"].standing == "worse"
    assert ratios["tpot_ms"].standing == "better"
    (line,) = regressions_of(comparison, 0.05)
    assert line == "fp32: TTFT 1.200× [1.200, 1.200]"


def test_what_differs_either_way_cannot_be_told_apart(compared: Compare) -> None:
    comparison = compared(one_precision(runs()), one_precision(runs(wobbling)))
    ratio = comparison.rows[0].ratios["throughput_tok_s"]
    assert ratio.standing == "same"
    assert ratio.ratio.low is not None
    assert ratio.ratio.high is not None
    assert ratio.ratio.low < 1 < ratio.ratio.high
    assert comparison.summary.startswith("The speeds of A and B are statistically tied.")
    assert "No significant regression" in comparison.summary


def test_too_few_prompts_are_never_significant(compared: Compare) -> None:
    comparison = compared(one_precision(runs(num_prompts=4)), one_precision(runs(2.0, num_prompts=4)))
    assert comparison.rows[0].ratios["throughput_tok_s"].standing == "unknown"
    assert "fewer than 5 prompts" in comparison.summary
    assert regressions_of(comparison, 0.0) == []


def test_peak_memory_has_a_ratio_and_no_claim(compared: Compare) -> None:
    comparison = compared(one_precision(runs()), one_precision(runs(), gib=2.0))
    ratio = comparison.rows[0].ratios["peak_ram_gb"]
    assert (ratio.ratio.value, ratio.ratio.low, ratio.standing) == (2.0, None, "unknown")
    assert regressions_of(comparison, 0.0) == []


def test_what_no_longer_runs_is_a_regression_at_any_limit(compared: Compare) -> None:
    a = precision_result(precision_row("fp32", runs()), precision_row("bf16", runs()))
    b = precision_result(precision_row("fp32", runs()), failed_row("bf16"))
    comparison = compared(a, b)
    row = row_of(comparison, "bf16")
    assert (row.status_a, row.status_b, row.status_change, row.ratios) == ("ok", "oom", "worse", {})
    assert regressions_of(comparison, 0.9) == ["bf16 (ok → oom: out of memory)"]
    back = compared(b, a)
    assert row_of(back, "bf16").status_change == "better"
    assert regressions_of(back, 0.0) == []
    assert "Failed in A, runs in B" in back.summary


def test_rows_of_one_side_are_listed(compared: Compare) -> None:
    a = precision_result(precision_row("fp32", runs()), precision_row("fp16", runs()))
    b = precision_result(precision_row("fp32", runs()), precision_row("bf16", runs()))
    comparison = compared(a, b)
    assert [row.name.short for row in comparison.rows] == ["fp32"]
    assert [name.short for name in comparison.only_a] == ["fp16"]
    assert [name.short for name in comparison.only_b] == ["bf16"]
    assert {"Only in A: fp16.", "Only in B: bf16."} <= set(comparison.reasons)


def test_perplexity_is_paired_block_by_block(compared: Compare) -> None:
    """Blocks differ by up to 9 nats; the change by 0.256 in each is told from 0 all the same."""
    b = one_precision(runs(), log_prob=lambda block: -500.0 - block - 25.6)
    comparison = compared(one_precision(runs()), b)
    ratio = comparison.rows[0].ratios["ppl"]
    assert ratio.ratio.value == pytest.approx(math.exp(0.1))
    assert ratio.b / ratio.a == pytest.approx(ratio.ratio.value)
    assert ratio.a == pytest.approx(math.exp(sum(500 + i for i in range(10)) / 2560))
    assert (ratio.ratio.n, ratio.standing) == (10, "worse")
    assert "Perplexity: fp32 +10.517 %" in comparison.summary
    assert regressions_of(comparison, 0.1) == ["fp32: PPL +10.517 % [+10.517, +10.517]"]
    assert regressions_of(comparison, 0.11) == []


def test_perplexity_of_documents_is_the_mean_of_their_means(compared: Compare) -> None:
    settings: dict[str, Any] = {"card": {"normaliser": "documents"}, "lengths": range(100, 200, 10)}
    a = precision_row("fp32", runs(), log_prob=lambda _: -500.0, **settings)
    b = precision_row("fp32", runs(), log_prob=lambda block: -500.0 - block, **settings)
    ratio = compared(precision_result(a), precision_result(b)).rows[0].ratios["ppl"]
    assert ratio.ratio.value == pytest.approx(math.exp(sum(i / (100 + 10 * i) for i in range(10)) / 10))
    assert ratio.b / ratio.a == pytest.approx(ratio.ratio.value)


def test_other_token_ids_are_counted(compared: Compare) -> None:
    others = [*runs()[:7], *runs(ids=5)[7:]]
    comparison = compared(one_precision(runs()), one_precision(others))
    assert comparison.rows[0].same_ids == (7, 10)
    assert "Greedy texts: 7 of 10 have the same token ids." in comparison.reasons


def test_a_slower_machine_explains_what_is_no_larger(compared: Compare) -> None:
    """B's fixed work took 1.3 times as long: 20 % less throughput says nothing, 40 % less does."""
    a = one_precision(runs())
    for slower, standing in ((1.25, "drift"), (1.6, "worse"), (0.8, "better")):
        comparison = compared(a, one_precision(runs(slower), calibration_s=1.3e-3))
        assert comparison.rows[0].ratios["throughput_tok_s"].standing == standing
        assert comparison.rows[0].machine == pytest.approx(1 / 1.3)
    assert any("fp32 0.77×" in reason for reason in comparison.reasons)


def test_another_torch_or_machine_explains_nothing(compared: Compare) -> None:
    """What made the fixed work slower may be what is compared."""
    slower = precision_row("fp32", runs(1.25), calibration_s=1.3e-3)
    changes = ({"torch": "2.14.0"}, "With torch 2.13.0 → 2.14.0"), ({"cpu": "B"}, "Another machine")
    for change, words in changes:
        comparison = compared(one_precision(runs()), precision_result(slower, environment=change))
        assert comparison.rows[0].ratios["throughput_tok_s"].standing == "worse"
        assert any(words in reason for reason in comparison.reasons)


def test_a_drift_takes_what_is_no_larger_however_small_it_is(compared: Compare) -> None:
    comparison = compared(one_precision(runs()), one_precision(runs(1.05), calibration_s=1.08e-3))
    assert comparison.rows[0].ratios["throughput_tok_s"].standing == "drift"
    assert any("fp32 0.93×" in reason for reason in comparison.reasons)
    assert any("were not measured in turn" in reason for reason in comparison.reasons)


def test_one_of_many_rows_is_what_chance_brings(compared: Compare) -> None:
    """Barely significant alone, and not among eleven; a clear one holds among them."""

    def barely(place: int) -> float:
        return 1.02 + (0.025 if place % 2 else -0.025)

    names = [f"fp8_{index}" for index in range(10)]
    plain = [precision_row("fp32", runs()), *(precision_row(name, runs(wobbling)) for name in names)]
    one, many = [precision_row("fp32", runs(barely))], [precision_row(name, runs(wobbling)) for name in names]
    for rows, standing in (([], "worse"), (many, "same")):
        found = compared(precision_result(*plain[: 1 + len(rows)]), precision_result(*one, *rows))
        assert found.rows[0].ratios["throughput_tok_s"].standing == standing
        assert found.rows[0].ratios["throughput_tok_s"].ratio.high < 1  # type: ignore[operator]
    clear = [precision_row("fp32", runs(1.2)), *many]
    found = compared(precision_result(*plain), precision_result(*clear))
    assert [row.ratios["throughput_tok_s"].standing for row in found.rows] == ["worse"] + ["same"] * 10


def test_a_stall_cannot_hide_a_regression(compared: Compare) -> None:
    """B is slower by a tenth in every prompt, and the machine stalled in one of A's."""
    a = runs(lambda place: 3.0 if place == 4 else 1.0)
    comparison = compared(one_precision(a), one_precision(runs(1.1)))
    ratio = comparison.rows[0].ratios["throughput_tok_s"]
    assert (ratio.standing, ratio.num_worse) == ("same", 9)
    assert ratio.ratio.value > 1, "by the ratio of sums B is the faster"
    (line,) = regressions_of(comparison, 0.05)
    assert "tokens/s worse in 9 of 10 prompts, 0.909× in their median" in line
    assert regressions_of(comparison, 0.15) == []
    few = compared(one_precision(a[:5]), one_precision(runs(1.1)[:5]))
    assert "tokens/s worse in 4 of 5 prompts" in regressions_of(few, 0.05)[0]
    # a machine that was slower by as much explains it
    slow = compared(one_precision(a), one_precision(runs(1.1), calibration_s=1.2e-3))
    assert regressions_of(slow, 0.05) == []


def test_a_first_token_that_drift_explains_is_no_regression_and_no_crash(compared: Compare) -> None:
    a, b = one_precision(runs(num_prompts=8)), one_precision(runs(1.15, num_prompts=8), calibration_s=1.3e-3)
    comparison = compared(a, b)
    assert comparison.rows[0].ratios["ttft_ms"].ratio.median == pytest.approx(1.15)
    assert gate.suspected(comparison, gate.Limits(slowdown=0.05)) == []
    stalled = runs(lambda place: 3.0 if place == 4 else 1.0, num_prompts=8)
    slower = compared(one_precision(stalled), one_precision(runs(1.15, num_prompts=8)))
    lines = sentences(gate.suspected(slower, gate.Limits(slowdown=0.05)))
    assert "TTFT" in lines[0]


def test_what_a_has_and_cannot_be_compared_is_named_and_no_pass(compared: Compare) -> None:
    a = precision_result(*(precision_row(name, runs()) for name in ("fp32", "bf16")))
    bare = precision_row("bf16", runs())
    bare = bare.model_copy(update={"raw": bare.raw.model_copy(update={"score_blocks": None})})
    comparison = compared(a, precision_result(precision_row("fp32", runs()), bare))
    limits = gate.Limits(ppl_increase=0.01)
    assert comparison.rows[1].missing == ("ppl",)
    [line] = sentences(gate.blind_spots(comparison, limits))
    assert line == "PPL of bf16: A has it, and it cannot be compared with B"
    assert sentences(gate.not_judged(comparison, limits))[0] == line
    assert gate.blind_spots(comparison, gate.Limits(slowdown=0.05)) == []


def test_times_that_were_measured_apart_fail_no_build_and_pass_none(compared: Compare) -> None:
    comparison = compared(one_precision(runs()), one_precision(runs(1.25)))
    limits = gate.Limits(slowdown=0.1)
    assert gate.regressions_of(comparison, limits) == []
    assert sentences(gate.suspected(comparison, limits))[0].startswith("fp32: tokens/s 0.800×")
    assert "measured apart" in sentences(gate.not_judged(comparison, limits))[0]
    in_turn = comparison.model_copy(update={"rounds": 2})
    assert gate.suspected(in_turn, limits) == gate.not_judged(in_turn, limits) == []


def test_rounds_are_summed_and_their_spread_is_in_the_interval() -> None:
    """B's first round is a tenth slower than A's, its second a tenth faster: the prompts have no spread."""
    one, slow, fast = runs(), runs(1.1), runs(0.9)
    a = [[(run,), (run,)] for run in one]
    b = [[(first,), (second,)] for first, second in zip(slow, fast, strict=True)]
    found = ratio_of_parts(tokens_and_seconds, a, b, "higher")
    assert found is not None
    assert found.ratio.value == pytest.approx(1.0)
    spread = math.log(1.1 / 0.9) / 2  # the standard error of the mean of two is half of their distance
    high = math.exp(12.706 * spread)  # t(1)
    assert found.ratio.high == pytest.approx(high, rel=1e-3)
    assert found.standing == "same"
    first_s = ratio_of_ttft(a, b)
    assert first_s is not None
    assert first_s.ratio.value == pytest.approx(1.0)


def test_identical_results_have_every_ratio_1(compared: Compare) -> None:
    a = sweep(runs(), sweep_row("small", 3, runs(wobbling, step=2)), batches=(batch_row(2, None, 0, runs()),))
    for result in (a, one_precision(runs(wobbling))):
        comparison = compared(result, result)
        for row in comparison.rows:
            for ratio in row.ratios.values():
                assert ratio.ratio.value == pytest.approx(1)
                assert ratio.standing in ("same", "unknown")
        assert regressions_of(comparison, 0.0) == []
        assert comparison.differences == ()


def test_throughput_is_the_speed_ratio_of_metrics() -> None:
    a, b = runs(), runs(wobbling)
    found = ratio_of_parts(tokens_and_seconds, [[(g,)] for g in a], [[(g,)] for g in b], "higher")
    assert found is not None
    assert found.ratio.model_copy(update={"median": None}) == speed_ratio(b, a)


def test_what_was_not_measured_has_no_ratio() -> None:
    assert ratio_of_parts(tokens_and_seconds, [], [], "higher") is None
    assert ratio_of_ttft([], []) is None


@pytest.mark.parametrize(
    ("interval", "better", "machine", "standing"),
    [
        ((0.9, 0.8, 1.0), "higher", 1.0, "same"),  # 1 is in the interval
        ((0.9, 0.8, 0.99), "higher", 1.0, "worse"),
        ((0.9, 0.8, 0.99), "lower", 1.0, "better"),
        ((0.9, 0.8, 0.99), "higher", 0.85, "drift"),
        ((0.9, 0.8, 0.99), "higher", 0.92, "worse"),  # more than the drift
        ((0.95, 0.92, 0.99), "higher", 0.94, "drift"),  # however small it is
        ((0.9, 0.8, 0.99), "higher", 1.2, "worse"),  # the machine was faster
        ((1.1, 1.01, 1.2), "lower", 0.85, "drift"),
        ((1.1, 1.01, 1.2), "lower", 1.2, "worse"),
    ],
)
def test_what_a_ratio_means(
    interval: tuple[float, float, float], better: Any, machine: float, standing: str
) -> None:
    value, low, high = interval
    assert judge(Figure(value=value, low=low, high=high, n=9), better, machine) == standing


FACTORS = st.lists(st.floats(0.5, 2.0), min_size=6, max_size=6)


@settings(max_examples=25, deadline=None)
@given(FACTORS, FACTORS)
def test_turned_around_every_ratio_is_the_reciprocal(first: list[float], second: list[float]) -> None:
    """Values exactly; ends up to the interpolation between two resamples."""
    sides = []
    for factors in (first, second):
        drafted = runs(factors[::-1].__getitem__, num_prompts=6, step=2)
        sides.append(sweep(runs(factors.__getitem__, num_prompts=6), sweep_row("d", 3, drafted)))
    both = [rows_of(side, "s") for side in sides]
    pair = Pair(is_greedy=True, tokenizer_problem=None, same_work=True)
    for name in both[0]:
        there = compare_rows(name, both[0][name], both[1][name], pair).ratios
        back = compare_rows(name, both[1][name], both[0][name], pair).ratios
        assert there.keys() == back.keys()
        for key, ratio in there.items():
            assert ratio.ratio.value * back[key].ratio.value == pytest.approx(1)
            low, high = ratio.ratio.low, back[key].ratio.high
            assert low is not None
            assert high is not None
            assert low * high == pytest.approx(1, rel=0.02)
