"""Sweeps and larger batches compared, where the right answer is known by hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from bitdraft.compare import gate
from bitdraft.schema.comparison import Comparison
from bitdraft.schema.records import Divergence
from bitdraft.schema.spec_decode import LosslessCheck, SpecDecodeResult
from comparing import batch_row, compare_in, failed_sweep_row, row_of, runs, sweep, sweep_row
from said import sentences


def regressions_of(comparison: Comparison, limit: float) -> list[str]:
    return sentences(gate.regressions_of(comparison, gate.Limits(limit, limit)))


Compare = Callable[[SpecDecodeResult, SpecDecodeResult], Comparison]


@pytest.fixture
def compared(tmp_path: Path) -> Compare:
    return partial(compare_in, tmp_path)


def test_a_sweep_is_compared_over_k_0_too(compared: Compare) -> None:
    """B is slower by half throughout, so its speedups are A's; one draft is slower still."""
    a = sweep(runs(), sweep_row("small", 2, runs(0.5, step=2)), sweep_row("other", 3, runs(0.8, step=4)))
    b = sweep(runs(1.5), sweep_row("small", 2, runs(0.75, step=2)), sweep_row("other", 3, runs(2.4, step=4)))
    comparison = compared(a, b)
    plain, small, other = comparison.rows
    assert [row.name.short for row in comparison.rows] == ["K = 0", "small, K = 2", "other, K = 3"]
    assert "speedup" not in plain.ratios
    assert "tokens_per_step" not in plain.ratios
    assert small.ratios["throughput_tok_s"].ratio.value == pytest.approx(2 / 3)
    assert small.ratios["speedup"].ratio.value == pytest.approx(1.0)
    assert small.ratios["speedup"].a == pytest.approx(2.0)
    assert small.ratios["speedup"].standing == "same"
    assert other.ratios["speedup"].ratio.value == pytest.approx(0.5)
    assert other.ratios["speedup"].standing == "worse"
    assert other.same_ids == (10, 10)  # ids that the file left out are those of K = 0
    assert any("No fixed work was timed" in reason for reason in comparison.reasons)


def test_tokens_per_step_change_with_the_acceptance(compared: Compare) -> None:
    a = sweep(runs(), sweep_row("small", 3, runs(step=2)))
    b = sweep(runs(), sweep_row("small", 3, runs(step=4)))
    row = compared(a, b).rows[1]
    assert (row.ratios["tokens_per_step"].a, row.ratios["tokens_per_step"].b) == (2.0, 4.0)
    assert row.ratios["tokens_per_step"].ratio.value == 2.0
    assert row.acceptance == pytest.approx((1 / 3, 1.0))


def test_a_draft_that_fails_is_one_regression(compared: Compare) -> None:
    a = sweep(runs(), *(sweep_row("small", k, runs(step=2)) for k in (1, 2, 3, 4)))
    b = sweep(runs(), *(failed_sweep_row("small", k) for k in (1, 2, 3, 4)))
    (line,) = regressions_of(compared(a, b), 0.05)
    assert line.startswith("stdlib, fp32: small, K = 1; small, K = 2; small, K = 3 and 1 more rows (ok → oom")


def test_a_sweep_that_ended_early_is_compared_over_its_prompts(compared: Compare) -> None:
    a = sweep(runs(), sweep_row("small", 2, runs(step=2)))
    b = sweep(
        runs(1.25)[:6],
        sweep_row("small", 2, runs(step=2)[:6]),
        config={"num_prompts": 10},
    )
    comparison = compared(a, b)
    assert {row.status_b for row in comparison.rows} == {"ended early"}
    assert comparison.rows[0].ratios["throughput_tok_s"].ratio.value == pytest.approx(0.8)
    assert comparison.rows[0].ratios["throughput_tok_s"].ratio.n == 6
    assert "ok → ended early" in regressions_of(comparison, 0.9)[0]


def test_a_sweep_without_a_finished_prompt_is_a_regression(compared: Compare) -> None:
    a = sweep(runs(), sweep_row("small", 2, runs(step=2)))
    b = sweep([], failed_sweep_row("small", 2))
    comparison = compared(a, b)
    assert [(row.status_a, row.status_b) for row in comparison.rows] == [("ok", "failed"), ("ok", "oom")]
    assert len(regressions_of(comparison, 0.9)) == 2


def test_a_new_bug_is_a_regression_and_a_rounding_tie_is_none(compared: Compare) -> None:
    def with_divergence(kind: str) -> SpecDecodeResult:
        agrees = {"none": None, "rounding tie": True, "bug": False}[kind]
        found = Divergence(prompt=0, position=0, control_agrees=agrees)
        divergences = () if kind == "none" else (found,)
        lossless = LosslessCheck(identical=10 - len(divergences), num_prompts=10, divergences=divergences)
        return sweep(runs(), sweep_row("small", 2, runs(step=2), lossless))

    good, tie, bug = (with_divergence(kind) for kind in ("none", "rounding tie", "bug"))
    assert regressions_of(compared(good, tie), 0.05) == []
    (line,) = regressions_of(compared(good, bug), 0.05)
    assert "not the text of plain decoding in 1 of 10, and rounding does not explain it" in line
    assert regressions_of(compared(bug, bug), 0.05) == []


def test_larger_batches_are_matched_by_size_and_group(compared: Compare) -> None:
    """A group takes as long as its slowest row; five groups of two make an interval."""
    rows = {
        side: (batch_row(2, None, 0, runs(slow)), batch_row(2, "small", 3, runs(0.5 * fast * slow, step=2)))
        for side, slow, fast in (("a", 1.0, 1.0), ("b", 1.25, 1.6))
    }
    a, b = (sweep(runs(), sweep_row("small", 3, runs(step=2)), batches=rows[side]) for side in "ab")
    comparison = compared(a, b)
    plain, drafted = (row_of(comparison, f"{name}, batch 2") for name in ("K = 0", "small, K = 3"))
    assert plain.ratios["throughput_tok_s"].ratio.value == pytest.approx(0.8)
    assert plain.ratios["throughput_tok_s"].ratio.n == 5
    assert "ttft_ms" not in plain.ratios
    assert drafted.ratios["throughput_tok_s"].ratio.value == pytest.approx(0.5)
    assert drafted.ratios["speedup"].ratio.value == pytest.approx(1 / 1.6)
    assert drafted.ratios["speedup"].a == pytest.approx(2.0)
    assert drafted.same_ids == (10, 10)


def test_sampled_texts_are_not_compared(compared: Compare) -> None:
    a = sweep(runs(), sweep_row("small", 3, runs(step=2)), config={"temperature": 1.0})
    assert [row.same_ids for row in compared(a, a).rows] == [None, None]
