"""Recommendations on constructed results where the right answer is known; the time and code around them."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from typing import Any

import pytest

from bitdraft.config import (
    Precision,
    PrecisionConfig,
    RecommendConfig,
    SpecDecodeConfig,
    make_config,
)
from bitdraft.errors import UserError
from bitdraft.metrics.speed import speed_figures, speed_ratio
from bitdraft.present.recommendation_files import markdown_text
from bitdraft.present.sentences import with_sentences
from bitdraft.recommend.budget import Pace, Work, fit_precisions, fit_sweep, pace_of, sweep_seconds
from bitdraft.recommend.choose import contenders, mixed_could_pay
from bitdraft.recommend.found import Found
from bitdraft.recommend.options import Prediction, pareto, predictions_of
from bitdraft.recommend.record import build
from bitdraft.recommend.snippets import Setting, native_snippet, transformers_snippet, vllm_command
from bitdraft.schema.environment import Environment, ModelRecord, TextRecord
from bitdraft.schema.findings import of_code
from bitdraft.schema.io import to_json
from bitdraft.schema.precision import PrecisionRaw, PrecisionResult, PrecisionRow, Quality
from bitdraft.schema.recommendation import Choice, Recommendation
from bitdraft.schema.records import Divergence, Figure, Generation
from bitdraft.schema.spec_decode import (
    BestK,
    CostRecord,
    DraftPlan,
    LosslessCheck,
    PlanPoint,
    SpecDecodeResult,
    SpecDecodeRow,
)
from bitdraft.spec_decode.verdict import decide
from said import Said, sentences
from tiny import generation

CONFIG = RecommendConfig()


def runs(token_s: float, num_prompts: int = 10, wobble: float = 0.0) -> list[Generation]:
    """Prompts of eight tokens; prompts differ alike wherever there is no wobble."""
    found = []
    for prompt in range(num_prompts):
        pace = token_s * (1 + 0.1 * prompt) * (1 + (wobble if prompt % 2 else -wobble))
        found.append(generation(0, [pace * (place + 1) for place in range(8)]))
    return found


def precision_row(
    precision: str, token_s: float, delta: float | None = None, gib: float = 1.0, num_prompts: int = 10
) -> PrecisionRow:
    own = runs(token_s, num_prompts)
    change = None
    if delta is not None:
        change = Figure(value=delta, low=delta - 1e-4, high=delta + 1e-4, n=50)
    metrics = {**speed_figures(own), "ppl": Figure(value=20.0), "peak_ram_gb": Figure(value=gib)}
    return PrecisionRow(
        precision=precision,
        status="ok",
        metrics=metrics,
        quality=Quality(delta_ln_ppl=change),
        runs=tuple(own),
        raw=PrecisionRaw(calibration_s=(1e-3, 1e-3)),
    )


def precision_result(*rows: PrecisionRow) -> PrecisionResult:
    machine = Environment(device="cpu", cpu="a CPU", torch="2", transformers="5", time_utc="now")
    return PrecisionResult(
        config=make_config(PrecisionConfig, {"precisions": tuple(row.precision for row in rows)}),
        environment=machine,
        model=ModelRecord(name="org/model", stored_dtype="fp32"),
        text=TextRecord(dataset="stdlib"),
        rows=rows,
    )


def sweep(
    precision: str,
    plain_s: float,
    arms: dict[tuple[str, int], float],
    *,
    gib: float = 1.1,
    wobble: float = 0.0,
    num_prompts: int = 10,
    bug: bool = False,
) -> SpecDecodeResult:
    """K = 0 at `plain_s` a token and each (draft, K) at its own pace."""
    base, rows = runs(plain_s, num_prompts), []
    for (draft, k), token_s in arms.items():
        own = runs(token_s, num_prompts, wobble)
        metrics = speed_figures(own) | {"speedup": speed_ratio(own, base), "peak_ram_gb": Figure(value=gib)}
        found = (Divergence(prompt=0, position=0, control_agrees=False),) if bug else ()
        lossless = LosslessCheck(identical=10 - len(found), num_prompts=10, divergences=found)
        rows.append(
            SpecDecodeRow(draft=draft, k=k, status="ok", metrics=metrics, runs=tuple(own), lossless=lossless)
        )
    plain = SpecDecodeRow(draft=None, k=0, status="ok", runs=tuple(base))
    return SpecDecodeResult(
        config=make_config(SpecDecodeConfig, {"precision": precision}), rows=(plain, *rows)
    )


def plan(precision: str, draft: str, points: dict[int, float], cost: float = 0.1) -> SpecDecodeResult:
    """Two tokens a step at these predicted speedups."""
    by_k = {k: PlanPoint(replay=s, replay_end_to_end=s, tokens_per_step=2.0) for k, s in points.items()}
    return SpecDecodeResult(
        config=make_config(SpecDecodeConfig, {"precision": precision, "plan": True}),
        costs=CostRecord(draft_cost={draft: cost}),
        plan={draft: DraftPlan(by_k=by_k, best_k=BestK(replay=next(iter(points))))},
    )


def recommended(
    precision: PrecisionResult | None,
    *sweeps: SpecDecodeResult,
    plans: tuple[SpecDecodeResult, ...] = (),
    **settings: Any,
) -> Recommendation:
    found = Found(precision)
    found.sweeps = {(one.config.precision, None): one for one in sweeps}
    found.plans = {(one.config.precision, None): one for one in plans}
    return with_sentences(build(make_config(RecommendConfig, settings), found))


def standings(result: Recommendation) -> dict[tuple[str, str | None, int], str]:
    return {(row.precision, row.draft, row.k): row.standing for row in result.contenders}


FP32, BF16 = precision_row("fp32", 0.020), precision_row("bf16", 0.010, 1e-4, gib=0.6)


def test_a_clear_winner() -> None:
    result = recommended(
        precision_result(FP32, BF16), sweep("bf16", 0.010, {("ngram", 8): 0.005, ("small", 3): 0.008})
    )
    assert result.choice == Choice(precision="bf16", speculate=True, draft="ngram", k=8)
    summary = result.summary
    assert summary.startswith("Deploy bf16 with ngram, K = 8: ")
    assert "2.00× [2.00, 2.00] the tokens/s of plain decoding at bf16" in summary
    assert "Against plain decoding at fp32: 4.00×" in summary
    assert standings(result) == {
        ("bf16", "ngram", 8): "chosen",
        ("bf16", "small", 3): "slower",
        ("bf16", None, 0): "slower",
        ("fp32", None, 0): "slower",
    }
    # plain bf16 is slower than the choice and takes less memory
    front = {(row.precision, row.k) for row in result.contenders if row.is_pareto}
    assert {("bf16", 8), ("bf16", 0), ("fp32", 0)} == front
    assert Recommendation.model_validate_json(to_json(result)) == result
    assert "| **chosen** | bf16 | ngram | 8 |" in markdown_text(result)


def test_a_tie_is_named_and_the_faster_by_value_chosen() -> None:
    arms = {("ngram", 7): 0.0050, ("ngram", 8): 0.0051}
    result = recommended(precision_result(BF16), sweep("bf16", 0.010, arms, wobble=0.1))
    # the same wobble in both: their ratio has no spread, so it is no tie
    assert standings(result)["bf16", "ngram", 8] == "slower"
    base, noisy = sweep("bf16", 0.010, {("ngram", 7): 0.0050}), sweep("bf16", 0.010, arms, wobble=0.1)
    both = base.model_copy(update={"rows": (*base.rows[:2], noisy.rows[2])})
    result = recommended(precision_result(BF16), both)
    assert result.choice.k == 7
    assert standings(result)["bf16", "ngram", 8] == "indistinguishable"
    assert "Statistically tied in speed: bf16 with ngram, K = 8" in result.summary


def test_the_quality_limit_binds_for_speculation_too() -> None:
    worse = precision_row("bf16", 0.010, 0.02, gib=0.6)
    result = recommended(
        precision_result(FP32, worse),
        sweep("fp32", 0.020, {("ngram", 4): 0.015}),
        sweep("bf16", 0.010, {("ngram", 4): 0.005}),
    )
    assert (result.choice.precision, result.choice.k) == ("fp32", 4)
    [out] = [row for row in result.contenders if row.precision == "bf16" and row.k == 0]
    assert out.standing == "out"
    assert "perplexity" in str(out.reason)
    assert standings(result)["bf16", "ngram", 4] == "out", "it is faster; its precision is out"
    loose = recommended(precision_result(FP32, worse), max_ppl_increase=0.05)
    assert loose.choice.precision == "bf16"


def test_the_memory_limit_binds_for_precision_and_draft() -> None:
    found = precision_result(FP32, BF16), sweep("bf16", 0.010, {("small", 3): 0.005}, gib=0.9)
    assert recommended(*found, max_vram_gb=0.95).choice.draft == "small"
    result = recommended(*found, max_vram_gb=0.8)
    assert (result.choice.precision, result.choice.speculate) == ("bf16", False)
    assert "peak RAM of 0.90 GiB is above the limit of 0.8 GiB" in result.summary
    nothing = recommended(*found, max_vram_gb=0.5)
    assert nothing.choice.precision is None
    assert "within the limits" in nothing.summary


def test_a_drafts_memory_is_what_it_adds_to_plain_decodings() -> None:
    swept = sweep("bf16", 0.010, {("small", 3): 0.005}, gib=0.9)
    for alone, expected in ((0.8, 0.7), (0.95, 0.6)):  # plain decoding has 0.6 of its own
        assert swept.baseline is not None
        plain = swept.baseline.model_copy(update={"metrics": {"peak_ram_gb": Figure(value=alone)}})
        own = swept.model_copy(update={"rows": (plain, *swept.rows[1:])})
        result = recommended(precision_result(FP32, BF16), own)
        [row] = [row for row in result.contenders if row.k]
        assert row.peak_memory_gb == pytest.approx(expected)


def test_the_time_to_the_first_token_is_limited_by_its_upper_end() -> None:
    ttft = BF16.metrics["ttft_ms"]
    assert ttft.high is not None
    result = recommended(precision_result(BF16), max_ttft_ms=ttft.high)
    assert result.choice.precision == "bf16"
    result = recommended(precision_result(BF16), max_ttft_ms=(ttft.value + ttft.high) / 2)
    assert result.choice.precision is None
    assert any("time to the first token may be" in text for text in result.reasons)


def test_all_reasons_to_be_out_are_named() -> None:
    worse = precision_row("bf16", 0.010, 0.02, gib=2.0)
    result = recommended(precision_result(FP32, worse), max_vram_gb=1.5)
    [out] = [row for row in result.contenders if row.precision == "bf16"]
    for text in (str(out.reason), " ".join(result.reasons)):
        assert "perplexity may be" in text
        assert "above the limit of 1.5 GiB" in text


def test_a_quality_that_is_unknown_is_not_called_worse() -> None:
    row = precision_row("bf16", 0.010, gib=0.6)
    unknown = Quality(delta_ln_ppl=Figure(value=0.0, n=3))
    result = recommended(precision_result(FP32, row.model_copy(update={"quality": unknown})))
    assert result.choice.precision == "fp32"
    reasons = " ".join(result.reasons)
    assert "Too little text was scored to judge the quality of bf16" in reasons
    assert "within the quality limit" not in reasons
    assert "--ppl-max-tokens" in reasons


def test_speculation_that_loses_is_refused() -> None:
    result = recommended(precision_result(BF16), sweep("bf16", 0.010, {("small", 3): 0.014}))
    assert result.choice == Choice(precision="bf16", speculate=False, draft=None, k=None)
    assert "Do not speculate" in result.summary
    assert "slower than plain decoding (0.71×)" in result.summary


def test_a_gain_below_what_is_asked_for_is_refused() -> None:
    found = precision_result(BF16), sweep("bf16", 0.010, {("small", 3): 0.0095})
    assert recommended(*found).choice.speculate is True
    assert recommended(*found, min_speedup=1.1).choice.speculate is False


def test_a_wide_interval_leaves_it_open() -> None:
    """On a busy machine: neither to be recommended nor refused, and named beside what is."""
    swept = sweep("bf16", 0.010, {("ngram", 8): 0.006, ("small", 3): 0.014}, wobble=0.9)
    result = recommended(precision_result(BF16), swept)
    assert (result.choice.precision, result.choice.speculate) == ("bf16", None)
    assert "Whether to speculate is open: bf16 with ngram, K = 8 has 1." in result.summary
    assert "bf16 with ngram, K = 8" in result.summary.rpartition("In speed, ")[2]
    assert standings(result)["bf16", "ngram", 8] == "indistinguishable"
    assert any("bf16 with ngram, K = 8 is not shown to pay: its speedup" in text for text in result.reasons)
    assert "Do not speculate" not in result.summary


def test_a_draft_at_another_precision_that_may_be_faster_leaves_it_open() -> None:
    """It pays at its own precision; beside plain decoding at the other, the machine's drift hides what it
    brings."""
    rows = precision_row("fp32", 0.009, gib=0.5), precision_row("bf16", 0.010, 1e-4, gib=0.6)
    found = precision_result(
        *(
            row.model_copy(update={"raw": PrecisionRaw(calibration_s=(second,))})
            for row, second in zip(rows, (1e-3, 2e-3), strict=True)
        )
    )
    result = recommended(found, sweep("bf16", 0.010, {("ngram", 8): 0.006}))
    assert (result.choice.precision, result.choice.speculate) == ("fp32", None)
    assert "Whether to speculate is open: bf16 with ngram, K = 8 has 1.50×" in result.summary
    slow = recommended(found, sweep("bf16", 0.010, {("ngram", 8): 0.0095}))
    assert (slow.choice.precision, slow.choice.speculate) == ("fp32", False)
    assert "bf16 with ngram, K = 8, has 0.95× [0.95, 0.95] the tokens/s of this" in slow.summary


def test_what_pays_is_chosen_though_a_noisier_one_looks_faster() -> None:
    """K = 8 may bring 1.8× or nothing; K = 7 brings 1.3× for sure."""
    noisy = sweep("bf16", 0.010, {("ngram", 8): 0.0072}, wobble=0.9)
    steady = sweep("bf16", 0.010, {("ngram", 7): 0.0077})
    both = steady.model_copy(update={"rows": (*steady.rows, noisy.rows[1])})
    assert both.sweep[1].metrics["speedup"].value > both.sweep[0].metrics["speedup"].value
    result = recommended(precision_result(BF16), both)
    assert (result.choice.speculate, result.choice.k) == (True, 7)
    assert standings(result)["bf16", "ngram", 8] == "indistinguishable"
    verdict = Said(*decide(both.rows, CostRecord()))
    assert (verdict.speculate, verdict.k) == (True, 7)
    assert (verdict.indistinguishable) == (("ngram", 7), ("ngram", 8))


def test_what_was_measured_faster_is_not_called_as_fast() -> None:
    """It brings 1.43× or a little more or less, and 1.5× is asked for."""
    found = precision_result(BF16), sweep("bf16", 0.010, {("ngram", 8): 0.0069}, wobble=0.09)
    result = recommended(*found, min_speedup=1.5)
    assert (result.choice.draft, result.choice.speculate) == (None, None)
    assert "and 1.50× is asked for" in result.summary
    assert "tied" not in result.summary
    assert standings(result)["bf16", "ngram", 8] == "open"
    sure = recommended(*found, min_speedup=2)
    assert sure.choice.speculate is False
    assert "and 2.00× is asked for" in sure.summary


def test_a_threshold_that_is_given_is_the_one_that_refuses() -> None:
    found = precision_result(BF16), sweep("bf16", 0.010, {("small", 3): 0.0095}, wobble=0.03)
    [row] = [row for row in recommended(*found, min_speedup=1.05).contenders if row.k]
    assert [problem.code for problem in row.problems] == ["speculation.unsure"]


def test_the_value_told_is_within_its_interval() -> None:
    """A steady draft beside one that is fast on every other prompt: the others' prompts would choose that."""
    steady = sweep("bf16", 0.010, {("a", 2): 0.0098}, wobble=0.002)
    noisy = sweep("bf16", 0.010, {("b", 2): 0.0099}, wobble=0.6)
    both = steady.model_copy(update={"rows": (*steady.rows, noisy.rows[1])})
    result = recommended(precision_result(BF16), both)
    assert (result.choice.speculate, result.choice.draft) == (True, "a")
    [found] = of_code(result.findings, "recommend.speedup")
    told = found.figure("speedup")
    assert told.low is not None
    assert 1 < told.low <= told.value
    [deploy] = of_code(result.findings, "recommend.deploy")
    plain = next(row for row in result.contenders if not row.k)
    assert plain.throughput_tok_s is not None
    assert deploy.number("throughput") > plain.throughput_tok_s.value


def test_a_sweep_refuses_only_what_cannot_pay_at_any_k() -> None:
    steady = sweep("bf16", 0.010, {("a", 2): 0.00996})
    noisy = sweep("bf16", 0.010, {("b", 2): 0.0100}, wobble=0.5)
    rows = (*steady.rows, noisy.rows[1])
    verdict = Said(*decide(rows, CostRecord()))
    assert verdict.speculate is not False


def test_a_draft_that_was_predicted_and_not_measured_leaves_it_open() -> None:
    """Only one at another precision was measured, and loses."""
    result = recommended(
        precision_result(FP32, BF16),
        sweep("fp32", 0.020, {("ngram", 8): 0.025}),
        plans=(plan("bf16", "ngram", {4: 1.6}),),
    )
    assert (result.choice.precision, result.choice.speculate) == ("bf16", None)
    assert "would bring 1.60×" in result.summary


def test_slower_at_another_precision_is_not_out() -> None:
    found = sweep("fp32", 0.020, {("ngram", 8): 0.0165}, wobble=0.15)
    result = recommended(precision_result(FP32, BF16), found)
    assert (result.choice.precision, result.choice.speculate) == ("bf16", False)
    assert "fp32 with ngram, K = 8, has 0.6" in result.summary
    assert "is out" not in result.summary


def test_a_draft_at_another_precision_must_bring_what_is_asked_over_plain_decoding_here() -> None:
    """2.1× at fp32, and 1.05× plain decoding in bf16."""
    found = precision_result(FP32, BF16), sweep("fp32", 0.020, {("ngram", 8): 0.0095})
    result = recommended(*found)
    assert (result.choice.precision, result.choice.draft) == ("fp32", "ngram")
    assert "Against plain decoding at bf16: 1.05×" in result.summary
    asked = recommended(*found, min_speedup=1.5)
    assert (asked.choice.precision, asked.choice.draft) == ("bf16", None)


def test_a_text_that_is_not_the_targets_is_out() -> None:
    result = recommended(precision_result(BF16), sweep("bf16", 0.010, {("small", 3): 0.005}, bug=True))
    assert result.choice.speculate is False
    assert standings(result)["bf16", "small", 3] == "out"


def test_too_few_prompts_leave_it_open() -> None:
    few = precision_row("bf16", 0.010, num_prompts=4)
    result = recommended(precision_result(few), sweep("bf16", 0.010, {("small", 3): 0.005}, num_prompts=4))
    assert (result.choice.precision, result.choice.speculate) == ("bf16", None)
    assert "4 prompts are too few to say whether to speculate" in result.summary


def test_everything_failed() -> None:
    failed = PrecisionRow(precision="fp32", status="oom", reason="no memory")
    result = recommended(precision_result(failed))
    assert result.choice.precision is None
    assert "No precision could be measured" in result.summary
    assert standings(result) == {("fp32", None, 0): "out"}
    assert "Nothing was measured" in recommended(None).summary


def test_what_was_only_predicted_leaves_it_open() -> None:
    hopeful = recommended(precision_result(BF16), plans=(plan("bf16", "ngram", {4: 1.6}),))
    assert (hopeful.choice.precision, hopeful.choice.speculate) == ("bf16", None)
    assert "nothing was measured" in hopeful.summary
    assert "would bring 1.60×" in hopeful.summary
    lost = recommended(precision_result(BF16), plans=(plan("bf16", "ngram", {4: 0.6}),))
    assert lost.choice.speculate is False
    assert "Do not speculate: the best that is predicted" in lost.summary
    assert recommended(precision_result(BF16)).choice.speculate is None


def test_sweeps_are_compared_at_one_pace() -> None:
    """Twice as slow in fp32's sweep, K = 0 as well: its draft is the faster one all the same."""
    plain = precision_result(precision_row("fp32", 0.010), BF16)
    slowed = sweep("fp32", 0.020, {("ngram", 8): 0.006})
    result = recommended(plain, slowed, sweep("bf16", 0.010, {("ngram", 8): 0.005}))
    assert (result.choice.precision, result.choice.k) == ("fp32", 8)
    assert any("50 % slower in the sweep" in text for text in result.warnings)
    # what is shown divides: a draft's tokens/s are plain decoding's, times its speedup
    shown = {(row.precision, row.k): row for row in result.contenders}
    chosen, base = shown["fp32", 8], shown["fp32", 0]
    assert chosen.throughput_tok_s is not None
    assert base.throughput_tok_s is not None
    assert chosen.speedup is not None
    ratio = chosen.throughput_tok_s.value / base.throughput_tok_s.value
    assert ratio == pytest.approx(chosen.speedup.value)
    assert f"Deploy fp32 with ngram, K = 8: {chosen.throughput_tok_s.value:.0f} tok" in result.summary


def test_the_largest_k_is_no_end() -> None:
    result = recommended(precision_result(BF16), sweep("bf16", 0.010, {("ngram", 10): 0.005}))
    assert any("K = 10 is the largest that was asked for" in text for text in result.reasons)


def test_one_overflowing_precision_leaves_the_others() -> None:
    overflow = PrecisionRow(precision="fp16", status="overflow", reason="at layer 3")
    result = recommended(precision_result(FP32, overflow, BF16))
    assert result.choice.precision == "bf16"
    assert standings(result)["fp16", None, 0] == "out"


def test_another_precision_must_be_faster_beyond_doubt() -> None:
    """Precision first: bf16 stays unless speculation at fp32 is faster than all of bf16's."""
    plain = precision_result(precision_row("fp32", 0.012), BF16)
    own = sweep("bf16", 0.010, {("ngram", 8): 0.006})
    faster = recommended(plain, own, sweep("fp32", 0.012, {("ngram", 8): 0.004}))
    assert faster.choice.precision == "fp32"
    tied = recommended(plain, own, sweep("fp32", 0.012, {("ngram", 8): 0.0059}, wobble=0.1))
    assert tied.choice.precision == "bf16"
    assert standings(tied)["fp32", "ngram", 8] == "indistinguishable"


def test_a_draft_is_compared_with_plain_decoding_at_every_precision() -> None:
    """fp16 is tied with bf16, which takes less memory, because the machine drifted by 8 %; the draft at bf16
    brings less than fp16 has by value."""
    fp16 = precision_row("fp16", 0.0094, 1e-4, gib=0.9)
    slow = FP32.model_copy(update={"raw": PrecisionRaw(calibration_s=(1.08e-3, 1.08e-3))})
    result = recommended(precision_result(slow, fp16, BF16), sweep("bf16", 0.010, {("ngram", 3): 0.0097}))
    assert (result.choice.precision, result.choice.draft) == ("bf16", "ngram")
    assert standings(result)["fp16", None, 0] == "indistinguishable"
    assert standings(result)["bf16", None, 0] == "slower", "measured so in one sweep"
    assert standings(result)["fp32", None, 0] == "slower"
    assert "Statistically tied in speed: fp16, plain decoding" in result.summary
    assert "Against plain decoding at fp16: 0.97×" in " ".join(sentences(result.findings))


def test_a_ratio_between_sweeps_has_the_noise_of_all_its_parts() -> None:
    """Each part alone has a spread of its own; what both sides share cancels."""
    steady = sweep("bf16", 0.010, {("ngram", 7): 0.005})
    noisy = sweep("fp32", 0.020, {("ngram", 7): 0.010}, wobble=0.1)
    found = Found(precision_result(FP32, BF16))
    found.sweeps = {("bf16", None): steady, ("fp32", None): noisy}
    one, other = found.measured(CONFIG)
    ratio = one.ratio(other)
    assert ratio.value == pytest.approx(2.0, rel=0.02)
    assert ratio.low is not None
    assert ratio.low < 0.95 * ratio.value
    assert (one.ratio(one).value, one.ratio(one).low) == (1.0, None)
    plain = found.plain(CONFIG)[1]
    assert one.ratio(plain) == steady.sweep[0].metrics["speedup"].model_copy(update={"median": None})


def test_where_nothing_is_chosen_nothing_is_called_slower() -> None:
    lost = PrecisionRow(precision="fp32", status="oom", reason="no memory")
    result = recommended(precision_result(lost, BF16), sweep("bf16", 0.010, {("ngram", 8): 0.005}))
    assert result.choice.precision is None
    assert set(standings(result).values()) == {"out", "open"}
    assert "| open | bf16 |" in markdown_text(result)


def test_the_stand_in_of_a_failed_reference_is_what_is_compared_with() -> None:
    lost = PrecisionRow(precision="fp32", status="oom", reason="no memory")
    fp16 = precision_row("fp16", 0.02)
    result = recommended(precision_result(lost, fp16, BF16), sweep("bf16", 0.010, {("ngram", 8): 0.005}))
    assert "Against plain decoding at fp16: 4.00×" in result.summary


def test_the_chosen_drafts_value_is_of_prompts_that_did_not_choose_it() -> None:
    """Two drafts of the same speed on the whole, each lucky on every other prompt: by value the luckier is
    1.25 times plain decoding, and on a prompt left out less."""
    base = sweep("bf16", 0.010, {("one", 3): 0.008}, wobble=0.1)
    other = sweep("bf16", 0.010, {("two", 3): 0.008}, wobble=-0.1)
    both = base.model_copy(update={"rows": (*base.rows, other.rows[1])})
    result = recommended(precision_result(BF16), both)
    [said] = [one for one in result.findings if one.code == "recommend.speedup"]
    raw = max(row.metrics["speedup"].value for row in both.sweep)
    assert said.figure("speedup").value < raw
    [deploy] = [one for one in result.findings if one.code == "recommend.deploy"]
    plain = BF16.metrics["throughput_tok_s"].value
    assert deploy.number("throughput") == pytest.approx(plain * said.figure("speedup").value)
    assert "spec.chosen_among" in {one.code for one in result.findings}


def test_pareto_by_hand() -> None:
    points = [(10.0, 0.0, 2.0), (10.0, 0.0, 1.0), (5.0, 0.0, 0.5), (4.0, 0.0, 0.6), (20.0, 0.1, 3.0)]
    assert pareto(points) == [False, True, True, False, True]
    # equal points do not dominate each other
    assert pareto([(1.0, 0.0, 1.0)] * 2) == [True, True]


# --- what is worth measuring -----------------------------------------------------------------------


def test_predictions_and_their_bound_by_hand() -> None:
    [one, two] = predictions_of(plan("fp32", "a", {2: 1.25, 4: 1.0}, cost=0.2), plain_tok_s=100)
    assert (one.k, one.speedup, one.throughput) == (2, 1.25, 125)
    # a step of 2 tokens takes 1.6 target forwards, of which 2 · 0.2 are the draft's
    assert one.bound == pytest.approx(2 / 1.2)
    assert two.bound == pytest.approx(2 / 1.2)


def predictions(*points: tuple[str, str, int, float, float]) -> list[Prediction]:
    """(precision, draft, K, speedup, plain tokens/s)"""
    return [Prediction(p, d, k, None, s, s * 1.5, s * plain) for p, d, k, s, plain in points]


def test_few_of_each_draft_and_the_first_precision_are_measured() -> None:
    found = predictions(
        ("fp32", "ngram", 8, 2.0, 100),
        ("fp32", "ngram", 9, 1.99, 100),
        ("fp32", "ngram", 7, 1.98, 100),
        ("fp32", "a", 3, 1.8, 100),
        ("fp32", "b", 3, 1.2, 100),
        ("bf16", "ngram", 4, 1.1, 110),
        ("bf16", "a", 4, 0.7, 110),
    )
    picked = [(one.precision, one.draft, one.k) for one in contenders(found, "bf16", CONFIG)]
    assert picked == [("fp32", "ngram", 8), ("fp32", "ngram", 9), ("fp32", "a", 3), ("bf16", "ngram", 4)]
    # what is predicted to lose clearly is not measured at all
    assert contenders(found[-1:], "bf16", CONFIG) == []
    strict = make_config(RecommendConfig, {"min_speedup": 1.5})
    assert [one.speedup for one in contenders(found, "bf16", strict)] == [2.0, 1.99, 1.8]


def test_costs_in_doubt_drop_no_draft() -> None:
    found = predictions(
        ("fp32", "a", 5, 13.0, 100),
        ("fp32", "a", 7, 11.0, 100),
        ("fp32", "ngram", 8, 1.6, 100),
        ("fp32", "b", 3, 0.5, 100),
    )
    assert [one.draft for one in contenders(found, "fp32", CONFIG)] == ["a"]
    unsure = [replace(one, is_sure=False) for one in found]
    assert [one.draft for one in contenders(unsure, "fp32", CONFIG)] == ["a", "a", "ngram", "b"]


def test_a_cheaper_draft_is_tried_where_it_could_be_the_fastest() -> None:
    found = predictions(("fp32", "a", 3, 1.2, 100), ("fp32", "ngram", 8, 1.7, 100))
    assert mixed_could_pay(found, "a")  # 1.2 · 1.5 is more than 1.7
    assert not mixed_could_pay([found[1], *predictions(("fp32", "a", 3, 1.1, 100))], "a")
    assert not mixed_could_pay(found, "unknown")


# --- time ------------------------------------------------------------------------------------------


def test_the_pace_of_a_pilot_by_hand() -> None:
    row = precision_row("fp32", 0.02)
    row.metrics.update(ttft_ms=Figure(value=100.0), tpot_ms=Figure(value=20.0))
    # it reads 2 · 50 and 2 · 512 tokens, and writes 2 · 16
    pace = pace_of(row, 50, before_s=6.0, loaded_s=5.0)
    assert (pace.read_s, pace.write_s, pace.once_s) == pytest.approx((0.002, 0.02, 4.2))
    assert pace.process_s == pytest.approx(1.8 + 5.0 - (0.2 + 0.64 + 2.048))
    assert pace_of(row, 50, 6.0, 1.0).process_s == pytest.approx(2.3), "never none"


def test_work_is_cut_in_the_stated_order() -> None:
    pace = Pace(process_s=10, read_s=0.001, write_s=0.01)
    three: tuple[Precision, ...] = ("fp32", "fp16", "bf16")
    work = Work(three, num_prompts=15, scored=16_384, compared=4096)
    # 10 + 0.001 · 2 · (16384 + 4096) + 16 · (0.1 + 1)
    assert work.seconds(pace, 100, 100) == pytest.approx(3 * (10 + 40.96 + 17.6))
    config = make_config(RecommendConfig, {"max_new_tokens": 100})

    def fitted(within_s: float) -> tuple[Work, list[str]]:
        part, cuts = fit_precisions(work, pace, 100, config, "fp32", within_s)
        return part, sentences(cuts)

    assert fitted(1000) == (work, [])
    part, cuts = fitted(150)
    assert (part.precisions, part.num_prompts) == (three, 15)
    assert part.scored < 16_384
    assert any("perplexity on" in cut for cut in cuts)
    part, cuts = fitted(70)
    assert (part.num_prompts, part.scored) == (7, 2048)
    part, cuts = fitted(45)
    assert part.precisions == ("fp32", "bf16")
    assert "for the budget: fp16 was not measured" in cuts
    part, _ = fitted(1)
    assert part == Work(("fp32",), 5, 2048, 0)


def test_as_many_arms_as_fit() -> None:
    speedups = [2.0, 1.5, 1.0]
    all_s = sweep_seconds(speedups, 10, 1.0, 5.0)
    assert all_s == pytest.approx(17.5 + 11 * (2 + 0.5 + 2 / 3 + 1))
    assert fit_sweep(speedups, 10, 1.0, 5.0, all_s) == 3
    assert fit_sweep(speedups, 10, 1.0, 5.0, all_s - 1) == 2
    assert fit_sweep(speedups, 10, 1.0, 5.0, 1) == 0


# --- code ------------------------------------------------------------------------------------------

NASTY = "a'; rm -rf ~ #"


def test_names_are_quoted_in_every_snippet() -> None:
    setting = Setting(NASTY, NASTY, "bf16", draft=NASTY, own_draft=NASTY, k=3, draft_precision="fp32")
    words = shlex.split(vllm_command(setting), comments=True)
    assert words[:5] == ["vllm", "serve", NASTY, "--dtype", "bfloat16"]
    assert words[5:7] == ["--generation-config", "vllm"]
    assert json.loads(words[-1]) == {"num_speculative_tokens": 3, "method": "draft_model", "model": NASTY}
    for code in (transformers_snippet(setting, CONFIG), native_snippet(setting, CONFIG)):
        compile(code, "snippet", "exec")
        assert repr(NASTY) in code


def test_the_snippets_name_what_makes_k_real() -> None:
    setting = Setting("org/t", "org/t", "fp16", draft="org/d", own_draft="org/d", k=5, revision="v1")
    code = transformers_snippet(setting, CONFIG)
    assert "num_assistant_tokens = 5" in code
    assert 'num_assistant_tokens_schedule = "constant"' in code
    assert "assistant_confidence_threshold = 0.0" in code
    assert "assistant_model=draft" in code
    assert "revision='v1'" in code
    lookup = Setting("org/t", "org/t", "fp16", draft="ngram", own_draft="ngram", k=5)
    assert "prompt_lookup_num_tokens=5" in transformers_snippet(lookup, CONFIG)
    assert '"method": "ngram"' in vllm_command(lookup)
    sampled = make_config(RecommendConfig, {"temperature": 0.8})
    # transformers cuts to 50 tokens where top_k is left out
    assert "top_k=0" in transformers_snippet(lookup, sampled)
    assert "temperature=0.8" in native_snippet(lookup, sampled)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"max_vram_gb": 0}, "max_vram_gb"),
        ({"max_ttft_ms": -1}, "max_ttft_ms"),
        ({"min_speedup": 0.5}, "min_speedup"),
        ({"budget_s": "soon"}, "budget_s"),
        ({"budget_s": 3}, "budget_s"),
        ({"precisions": ("fp32", "fp32")}, "precisions"),
        ({"k": "5-3"}, "k"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(UserError) as caught:
        make_config(RecommendConfig, settings)
    assert caught.value.field == field
