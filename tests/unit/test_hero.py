"""The first screen: one answer, one number, and how far to trust it."""

from __future__ import annotations

from typing import Any

import pytest

from bitdraft.present.page.hero import drifts_of, hero_of, trust_of
from bitdraft.schema.findings import answer, reason, warning
from bitdraft.schema.precision import PrecisionRaw
from bitdraft.schema.records import Figure
from bitdraft.schema.spec_decode import SpecDecodeVerdict
from report_results import plan_result, precision_result, recommendation, said, sweep_result

MANY = {"dataset": "stdlib", "prompt_ids": [f"p{i}" for i in range(15)]}


def swept(work_s: tuple[float, ...] = (), **changes: Any) -> Any:
    return sweep_result(text=MANY, reference_work_s=work_s, **{"findings": said("An answer.")} | changes)


def test_a_recommendation_is_told_with_its_speed_before_and_after() -> None:
    result = recommendation()
    plain = result.contenders[0].model_copy(
        update={"draft": None, "k": 0, "standing": "slower", "throughput_tok_s": Figure(value=200.0)}
    )
    result = result.model_copy(update={"contenders": (*result.contenders, plain)})
    hero = hero_of([result, precision_result(), sweep_result()], "bitdraft recommend x")
    assert hero.answer == "Deploy bf16 with a, K = 3."
    assert (hero.before, hero.after, hero.ratio) == ("200", "320", "1.60× [1.44, 1.76]")
    assert dict(hero.facts) == {"peak RAM": "0.60 GiB", "TTFT": "20 ms", "PPL": "+0.20 % [+0.10 %, +0.30 %]"}
    assert hero.code is not None
    assert hero.code.text == "bitdraft spec-decode", "the snippet that is whole"


def test_precisions_are_told_against_the_reference() -> None:
    hero = hero_of([precision_result()], "")
    assert (hero.before, hero.before_is, hero.after) == ("100", "fp32", "200")
    assert hero.ratio == "2.00× [1.90, 2.10]"


def test_the_number_is_the_verdicts_own() -> None:
    """The figure that is not chosen for its luck, not the row's."""
    told = Figure(value=1.5, low=1.2, high=1.76, n=6)
    bare = (
        answer("spec.speculate", "a, K = 3", speedup=told),
        reason("spec.step", "other, K = 2"),
        reason("spec.step", "a, K = 3"),
    )
    findings = tuple(f.model_copy(update={"text": f"About {f.subject}."}) for f in bare)
    hero = hero_of([swept(findings=findings, verdict=SpecDecodeVerdict(speculate=True, draft="a", k=3))], "")
    assert hero.ratio == "1.50× [1.20, 1.76]"
    assert (hero.before, hero.after) == ("100", "160")
    assert hero.why == "About a, K = 3.", "of the draft that was chosen"


def test_what_was_only_predicted_has_no_pair_of_numbers() -> None:
    hero = hero_of([plan_result()], "")
    assert (hero.before, hero.after, hero.ratio) == ("", "", "")
    assert hero.chart is not None
    assert hero.chart.panel.title == "Predicted speedup"


@pytest.mark.parametrize(
    ("drift", "level"), [(1.0, "good"), (1.05, "good"), (1.2, "fair"), (1.4, "poor"), (34.0, "poor")]
)
def test_a_machine_that_changed_its_pace_takes_trust(drift: float, level: str) -> None:
    found = trust_of([swept((1.0, 1.0, drift))])
    assert found.level == level
    assert ("34-fold" in found.text) == (drift == 34)


def test_few_prompts_warnings_and_repetition_take_trust() -> None:
    assert trust_of([swept()]).level == "good"
    assert trust_of([sweep_result(findings=said("An answer."))]).level == "fair", "six prompts"
    assert trust_of([swept(findings=said("An answer.", warnings=["One."]))]).level == "fair"
    for share, level in ((0.3, "fair"), (0.8, "poor")):
        repeats = warning("spec.repeats", "ngram, K = 7", repeated=share, kept=0.9, k=7)
        found = trust_of([swept(findings=(*said("An answer."), repeats))])
        assert found.level == level
        assert f"{100 * share:.0f} % of the text repeats itself" in found.text
    assert "15 条提示词" in trust_of([swept()], "zh").text


def test_processes_that_differ_take_trust() -> None:
    noisy = precision_result(findings=(warning("precision.noisy", factor=2.0),))
    assert trust_of([noisy]).level == "poor"
    assert "2-fold" in trust_of([noisy]).text


def test_warnings_of_the_steps_of_a_search_count_once() -> None:
    assert "1 warning" in trust_of([recommendation(), precision_result(), sweep_result()]).text


def test_the_drift_is_the_slowest_over_the_fastest() -> None:
    rows = [
        row.model_copy(update={"raw": PrecisionRaw(reference_work_s=(seconds,))})
        for row, seconds in zip(precision_result().rows, (1.0, 1.5, 1.25), strict=True)
    ]
    assert drifts_of(precision_result(rows=tuple(rows))) == [1.5]
    assert drifts_of(precision_result()) == []
    assert drifts_of(recommendation()) == []
