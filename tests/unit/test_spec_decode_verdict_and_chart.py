"""Verdicts on constructed sweeps where the right answer is known, and what is drawn and written of them."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from bitdraft.metrics.acceptance import speculation_figures
from bitdraft.metrics.speed import speed_figures, speed_ratio
from bitdraft.present.charts import sweep as chart
from bitdraft.present.charts.anatomy import anatomy
from bitdraft.present.sentences import with_sentences
from bitdraft.present.sweep_files import csv_of, markdown_text
from bitdraft.schema.records import Divergence, Generation, Step
from bitdraft.schema.spec_decode import (
    CostRecord,
    DraftPlan,
    LosslessCheck,
    Predicted,
    ReplayCheck,
    SpecDecodeResult,
    SpecDecodeRow,
)
from bitdraft.spec_decode.plan_verdict import decide_plan
from bitdraft.spec_decode.verdict import decide, repetition_of, warnings_of, withheld
from said import Said, sentences

COSTS = CostRecord(draft_cost={"a": 0.1, "b": 0.2}, verify_cost={0: 1.0, 2: 1.2, 4: 1.3})
PNG = b"\x89PNG\r\n\x1a\n"


def runs(token_s: float, num_prompts: int = 10, wobble: float = 0.0) -> list[Generation]:
    """Prompts of 13 tokens at `token_s` each, in steps of three; prompts differ alike in every row."""
    found = []
    for prompt in range(num_prompts):
        pace = token_s * (1 + 0.1 * prompt) * (1 + (wobble if prompt % 2 else -wobble))
        found.append(
            Generation(
                prompt_tokens=5,
                submit_s=0,
                emissions=((pace, 1), *((pace * (1 + 3 * i), 3) for i in range(1, 5))),
                steps=(Step(2, 2),) * 4,
                token_ids=tuple(range(13)),
                finish_reason="length",
            )
        )
    return found


class Sweep:
    """Rows that are built from runs at a pace, beside a baseline of 10 ms a token."""

    def __init__(self, num_prompts: int = 10) -> None:
        self.base = runs(0.010, num_prompts)
        self.rows: list[SpecDecodeRow] = []

    def add(self, draft: str, k: int, token_s: float, wobble: float = 0.0, **changes: Any) -> Sweep:
        found = runs(token_s, len(self.base), wobble)
        metrics = speed_figures(found) | speculation_figures([(run,) for run in found], k)
        metrics["speedup"] = metrics["decode_speedup"] = speed_ratio(found, self.base)
        fields: dict[str, Any] = {"draft": draft, "k": k, "backend": "native", "status": "ok"}
        self.rows.append(SpecDecodeRow(**fields, metrics=metrics, runs=tuple(found), **changes))
        return self

    def fail(self, draft: str, k: int, reason: str) -> Sweep:
        self.rows.append(SpecDecodeRow(draft=draft, k=k, backend="native", status="failed", reason=reason))
        return self

    def verdict(self) -> Said:
        return Said(*decide(self.rows, COSTS))


def test_a_clear_winner_is_named_with_its_speedup() -> None:
    verdict = Sweep().add("a", 2, 0.005).add("a", 4, 0.007).add("b", 2, 0.008).verdict()
    assert (verdict.speculate, verdict.draft, verdict.k) == (True, "a", 2)
    assert verdict.summary.startswith("Speculate with a, K = 2: 2.00× [2.00, 2.00]")
    assert verdict.indistinguishable == ()
    assert any("a, K = 2: a step brings 3.00 tokens for the time of 1.40" in r for r in verdict.reasons)


def test_rows_within_the_noise_are_named_beside_it() -> None:
    sweep = Sweep().add("a", 2, 0.0050).add("a", 4, 0.0051, wobble=0.1).add("b", 2, 0.009)
    verdict = sweep.verdict()
    assert verdict.speculate is True
    assert sorted(verdict.indistinguishable) == [("a", 2), ("a", 4)]
    assert "Statistically tied: " in verdict.summary


def test_a_slower_sweep_says_not_to_speculate() -> None:
    verdict = Sweep().add("a", 2, 0.012).add("b", 2, 0.02).verdict()
    assert (verdict.speculate, verdict.draft, verdict.k) == (False, None, None)
    assert verdict.summary.startswith("Do not speculate: even the fastest, a, K = 2, is slower than plain")


def test_a_tie_with_plain_decoding_says_not_to_speculate_either() -> None:
    verdict = Sweep().add("a", 2, 0.0099, wobble=0.1).verdict()
    assert verdict.speculate is False
    assert "is statistically tied with plain decoding" in verdict.summary


def test_a_wide_interval_decides_nothing() -> None:
    """Prompts of which every other one is slowed down: it may bring much, or nothing."""
    verdict = Sweep().add("a", 2, 0.006, wobble=0.9).add("b", 2, 0.0061, wobble=0.9).verdict()
    assert verdict.speculate is None
    assert (verdict.draft, verdict.k) == ("a", 2)
    assert verdict.summary.startswith(
        "Whether to speculate is open: the fastest that may pay, a, K = 2, has 1."
    )
    assert "machine with nothing else to do" in verdict.summary


def test_a_gain_that_is_sure_to_be_small_is_refused() -> None:
    verdict = Sweep().add("a", 2, 0.0098, wobble=0.03).verdict()
    assert verdict.speculate is False
    assert "Do not speculate: even the fastest, a, K = 2, is statistically tied with plain" in verdict.summary


def test_the_largest_k_is_named_where_it_was_asked_for() -> None:
    rows = Sweep().add("a", 2, 0.006).add("a", 4, 0.005).rows
    for largest_k, is_named in ((4, True), (8, False), (None, False)):
        said = Said(*decide(rows, COSTS, largest_k))
        assert any("K = 4 is the largest that was asked for" in r for r in said.reasons) is is_named


def test_few_prompts_decide_nothing() -> None:
    verdict = Sweep(num_prompts=3).add("a", 2, 0.005).verdict()
    assert verdict.speculate is None
    assert verdict.summary.startswith("3 prompts are too few to say. By value the best is a, K = 2: 2.00×")


@pytest.mark.parametrize("num_prompts", [3, 10])
def test_a_speedup_above_what_a_step_can_give_names_no_best(num_prompts: int) -> None:
    """Steps bring three tokens, so that four times the speed says that plain decoding was slowed down."""
    verdict = Sweep(num_prompts).add("a", 2, 0.0025).add("b", 2, 0.009).verdict()
    assert (verdict.speculate, verdict.draft, verdict.k) == (None, None, None)
    assert verdict.summary.startswith("Whether to speculate is open: a, K = 2 came out at 4.00×")
    assert "its steps can give 3.00× at most" in verdict.summary
    # a hair above is noise
    assert Sweep().add("a", 2, 0.0031).verdict().speculate is True


def test_a_verification_that_costs_less_than_a_forward_allows_for_more() -> None:
    costs = COSTS.model_copy(update={"verify_cost": {0: 1.0, 2: 0.7}})
    assert Said(*decide(Sweep().add("a", 2, 0.0025).rows, costs)).speculate is True


def test_engines_that_ran_apart_on_a_changing_machine_are_not_compared() -> None:
    decided = decide(Sweep().add("a", 2, 0.005).rows, COSTS)
    said = Said(*withheld(decided, 1.6))
    assert (said.speculate, said.draft) == (None, None)
    assert said.summary.startswith("Whether to speculate is open: engines ran one at a time")
    assert "changed its speed by 60 %" in said.summary
    assert any("a step brings 3.00 tokens" in reason for reason in said.reasons)


def test_too_wild_for_all_at_once_is_noise_and_not_too_few_prompts() -> None:
    sweep = Sweep(5).add("a", 2, 0.006, wobble=0.9)
    for k in range(3, 9):
        sweep.add("a", k, 0.0061, wobble=0.9)
    own = sweep.rows[0].metrics["speedup"]
    wild = own.model_copy(update={"low": own.value / 9, "high": own.value * 9})
    rows = [row.model_copy(update={"metrics": row.metrics | {"speedup": wild}}) for row in sweep.rows]
    said = Said(*decide(rows, COSTS))
    assert said.summary.startswith("Whether to speculate is open: the fastest that may pay, a, K = 2, has")
    assert "too few" not in said.summary


def test_failures_are_reasons_and_the_rest_decides() -> None:
    sweep = Sweep().fail("a", 2, "out of memory").fail("a", 4, "out of memory").add("b", 2, 0.005)
    verdict = sweep.verdict()
    assert verdict.draft == "b"
    assert "a, K = 2 and 4: failed (out of memory)." in verdict.reasons
    nothing = Sweep().fail("a", 2, "out of memory").verdict()
    assert nothing.speculate is None
    assert "nothing can be recommended" in nothing.summary


def lossless(kind: str, num: int = 1) -> LosslessCheck:
    agrees = {"bug": False, "unchecked": None}.get(kind, True)
    gap = 5.0 if kind == "unexplained" else 0.01
    found = Divergence(
        prompt=3, position=7, expected=1, found=2, logit_gap=gap, tie_lead=0.5, control_agrees=agrees
    )
    assert found.kind == kind
    return LosslessCheck(identical=10 - num, num_prompts=10, divergences=(found,) * num)


@pytest.mark.parametrize("kind", ["rounding tie", "bug", "unchecked", "unexplained"])
def test_differences_to_plain_decoding_are_told_apart(kind: str) -> None:
    sweep = Sweep().add("a", 2, 0.005, lossless=lossless(kind))
    assert any(
        f"9 of 10 runs gave the token ids of plain decoding; the others: 1 {kind}." in r
        for r in sweep.verdict().reasons
    )
    twice = Sweep().add("a", 2, 0.005, lossless=lossless(kind)).add("a", 3, 0.005, lossless=lossless(kind))
    many = kind if kind.startswith("un") else f"{kind}s"
    assert any(f"the others: 2 {many}." in reason for reason in twice.verdict().reasons)
    warnings = sentences(warnings_of(sweep.rows))
    assert any("prompt 3 leaves the text of plain decoding at token 7" in w for w in warnings) == (
        kind == "bug"
    )


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("bug", "rounding does not explain it: they differ at a wider precision as well"),
        ("unchecked", "rounding is not shown to explain it"),
        ("unexplained", "rounding does not explain it: tokens 5 logits apart, where a tie's are within 0.5"),
    ],
)
def test_what_rounding_does_not_explain_is_never_recommended(kind: str, why: str) -> None:
    """A divergence at a gap of five logits, though a control agrees; the next best is recommended."""
    sweep = (
        Sweep()
        .add("a", 2, 0.004, lossless=lossless(kind))
        .add("b", 2, 0.008, lossless=lossless("rounding tie"))
    )
    verdict = sweep.verdict()
    assert (verdict.speculate, verdict.draft, verdict.k) == (True, "b", 2)
    assert (
        f"a, K = 2 is not recommended: 1 of 10 texts are not those of plain decoding, and {why}."
        in verdict.reasons
    )
    alone = Sweep().add("a", 2, 0.004, lossless=lossless(kind)).verdict()
    assert (alone.speculate, alone.draft) == (False, None)
    assert alone.summary.startswith(
        "Do not speculate: of no (draft, K) that ran are the texts shown to be those of plain"
    )


def test_a_difference_without_any_record_is_not_recommended() -> None:
    """The check ended before it: nothing is taken for granted."""
    sweep = Sweep().add("a", 2, 0.004, lossless=LosslessCheck(identical=9, num_prompts=10))
    assert sweep.verdict().speculate is False


def test_a_replay_that_disagrees_is_a_warning_unless_it_is_a_tie() -> None:
    for tie in (True, False):
        check: dict[str, Any] = {
            "num_compared": 10,
            "num_identical": 9,
            "mismatches": [{"prompt": 2, "step": 5, "measured": [2, 1, 0], "replayed": [2, 2, 0]}],
            "agrees": False,
        }
        if tie:
            check["mismatches"][0]["rounding_tie"] = True
        rows = Sweep().add("a", 2, 0.005, replay_check=ReplayCheck.model_validate(check)).rows
        warnings = sentences(warnings_of(rows))
        assert any("measurement and replay disagree (prompt 2, step 5)" in w for w in warnings) is not tie


def test_text_that_repeats_itself_is_a_warning() -> None:
    sweep = Sweep().add("a", 2, 0.005)
    plain = SpecDecodeRow(draft=None, k=0, status="ok", runs=tuple(sweep.base))
    assert repetition_of([plain, *sweep.rows]) == ()
    loop = [run.model_copy(update={"token_ids": (7, 8, 9) * 4 + (7,)}) for run in sweep.base]
    [found] = repetition_of([plain.model_copy(update={"runs": tuple(loop)}), *sweep.rows])
    # ten 4-grams, of which three are new; all but the prefill's token come from full steps
    assert found.figures == {"repeated": 0.7, "kept": pytest.approx(12 / 13), "k": 2}
    assert "70 % of its 4-grams" in sentences([found])[0]


def planned(speedup: float) -> DraftPlan:
    point = {"leviathan": speedup, "replay": speedup, "replay_end_to_end": speedup, "tokens_per_step": 2.0}
    worse = point | {"replay_end_to_end": speedup * 0.9}
    by_k = {2: worse, 4: point}
    return DraftPlan.model_validate({"alpha": 0.7, "by_k": by_k, "best_k": {"leviathan": 2, "replay": 4}})


def test_plans_name_the_best_draft_or_none() -> None:
    verdict = Said(*decide_plan({"a": planned(1.3), "b": planned(1.6)}, 15))
    assert (verdict.speculate, verdict.draft, verdict.k) == (True, "b", 4)
    assert "Speculate with b, K = 4: predicted 1.60×" in verdict.summary
    assert any("15 prompts" in reason for reason in verdict.reasons)
    refused = Said(*decide_plan({"a": planned(0.8)}, 15))
    assert (refused.speculate, refused.draft) == (False, None)
    assert decide_plan({}, 0)[0].speculate is None


@pytest.mark.parametrize(
    ("speedup", "speculate"), [(1.3, True), (1.1, True), (1.05, None), (0.95, None), (0.85, False)]
)
def test_a_plan_decides_what_a_prediction_can(speedup: float, speculate: bool | None) -> None:
    verdict = Said(*decide_plan({"a": planned(speedup)}, 15))
    assert verdict.speculate is speculate
    assert ("is open" in verdict.summary) == (speculate is None)


@pytest.mark.parametrize(
    ("costs", "warning"),
    [
        ({"verify_cost": {0: 1.0, 2: 0.06}}, "Verifying 3 tokens was timed at 0.06 of a forward over one"),
        (
            {"target_forward_ms": {1: {"value": 1080, "low": 52, "high": 1827, "n": 6}}},
            "A forward over one token took 52.0 to 1827.0 ms",
        ),
        ({"verify_cost": {0: 1.0, 2: 0.97}}, None),
    ],
)
def test_a_plan_from_costs_that_cannot_be_right_is_open(costs: Any, warning: str | None) -> None:
    verdict = Said(*decide_plan({"a": planned(13.0)}, 15, CostRecord.model_validate(costs)))
    assert verdict.speculate is (True if warning is None else None)
    assert [text for text in verdict.warnings if warning is None or warning not in text] == []
    assert bool(verdict.warnings) == (warning is not None)


def result_of(sweep: Sweep, *, plan: bool = False, name: str = "a $model$") -> SpecDecodeResult:
    k = sorted({row.k for row in sweep.rows}) or [2, 4]
    config = {
        "k": k,
        "plan": plan,
        "temperature": 0.0,
        "ignore_eos": True,
        "max_new_tokens": 13,
        "precision": "fp32",
    }
    replay = {k: {"acceptance_rate": 1 / k, "tokens_per_step": 2.0} for k in range(1, 33)}
    base = SpecDecodeRow(
        draft=None, k=0, status="ok", metrics=speed_figures(sweep.base), runs=tuple(sweep.base)
    )
    fields: dict[str, Any] = {
        "config": config | {"draft_precision": None, "backend": "native"},
        "environment": {"cpu": "a processor", "torch": "2", "transformers": "5", "time_utc": "now"},
        "model": {"name": name},
        "text": {"dataset": "story", "sha256": "0" * 64, "prompt_ids": ["1"] * len(sweep.base)},
        "replay": {"a": replay, "b": replay},
    }
    found = SpecDecodeResult(
        rows=() if plan else (base, *sweep.rows),
        plan={"a": planned(1.3), "b": planned(0.9)} if plan else {},
        **fields,
    )
    return with_sentences(found)


@pytest.mark.parametrize("case", ["all", "one k", "some failed", "all failed", "few prompts"])
def test_charts_are_drawn_whatever_failed(case: str) -> None:
    sweep = Sweep(num_prompts=3 if case == "few prompts" else 10)
    if case != "all failed":
        sweep.add("a", 2, 0.005, predicted=Predicted(replay=1.9, leviathan=1.8))
    if case in ("all", "few prompts"):
        sweep.add("a", 4, 0.006).add("b", 2, 0.012).add("b", 4, 0.013)
    if case in ("some failed", "all failed"):
        sweep.fail("b", 2, "out of memory").fail("b", 4, "out of memory")
    for draw in (chart.comparison, anatomy):
        assert draw(result_of(sweep)).png().startswith(PNG)


def test_a_plan_is_drawn() -> None:
    assert chart.plan(result_of(Sweep(), plan=True)).png().startswith(PNG)


def test_csv_and_markdown_hold_every_row() -> None:
    sweep = Sweep().add("a|b", 2, 0.005, lossless=lossless("bug")).fail("b", 2, "out of memory")
    result = result_of(sweep)
    lines = list(csv.DictReader(io.StringIO(csv_of(result))))
    assert [(line["draft"], line["status"]) for line in lines] == [
        ("", "ok"),
        ("a|b", "ok"),
        ("b", "failed"),
    ]
    assert float(lines[1]["speedup"]) == pytest.approx(2)
    assert lines[1]["same_ids"] == "9/10"
    text = markdown_text(result)
    assert "| a\\|b | 2 | ok |  |" in text
    assert "| b | 2 | failed | out of memory |" in text
    planned_lines = list(csv.DictReader(io.StringIO(csv_of(result_of(Sweep(), plan=True)))))
    assert [(line["draft"], line["k"]) for line in planned_lines] == [
        ("a", "2"),
        ("a", "4"),
        ("b", "2"),
        ("b", "4"),
    ]
    assert "| a | 4 | **1.30** | 1.30 | 2.00 |" in markdown_text(result_of(Sweep(), plan=True))
