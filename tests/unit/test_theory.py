"""The cost model against hand-worked values and against simulated acceptances."""

from __future__ import annotations

import dataclasses
import random

import pytest

from bitdraft.schema.records import Generation, Step
from bitdraft.spec_decode.replay import Chain, expected, model_chain
from bitdraft.spec_decode.theory import (
    Costs,
    CostSample,
    StepCost,
    attribute_gap,
    cost_record,
    expected_tokens,
    gather_costs,
    leviathan_speedup,
    plan_draft,
    replay_seconds,
    replay_speedup,
)

COSTS = Costs(target_s={1: 0.010, 3: 0.012, 5: 0.016}, draft_s={"draft": 0.001})


def test_costs_are_ratios_to_one_decode_forward() -> None:
    assert COSTS.draft_cost("draft") == pytest.approx(0.1)
    assert COSTS.verify_cost(2) == pytest.approx(1.2)
    assert COSTS.verify_s(4) == pytest.approx(0.014)  # between the measured ones
    assert COSTS.verify_cost(0) == 1


def test_costs_are_medians_over_all_prompts() -> None:
    samples = [
        CostSample({1: [0.01, 0.02], 3: [0.03]}, {"draft": [0.001], "gone": []}),
        CostSample.of({"target_s": {"1": [0.05], "3": [0.05]}, "draft_s": {"draft": [0.003, 0.002]}}),
    ]
    costs = gather_costs(samples)
    assert costs == Costs({1: 0.02, 3: 0.04}, {"draft": 0.002})
    record = cost_record(samples, ["draft", "gone"])
    assert record.verify_cost == {0: 1.0, 2: pytest.approx(2.0)}
    assert record.draft_cost == {"draft": pytest.approx(0.1)}


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize("k", [1, 4])
def test_expected_tokens_are_those_of_simulated_steps(alpha: float, k: int) -> None:
    chance = random.Random(0)
    total, num_steps = 0, 20_000
    for _ in range(num_steps):
        kept = 0
        while kept < k and chance.random() < alpha:
            kept += 1
        total += kept + 1
    assert expected_tokens(alpha, k) == pytest.approx(total / num_steps, rel=0.02)


def test_leviathans_speedup_by_hand() -> None:
    # E[τ] = (1 − 0.5³)/(1 − 0.5) = 1.75 tokens for 2 · 0.1 + 1.2 = 1.4 decode forwards
    assert leviathan_speedup(0.5, 2, 0.1, 1.2) == pytest.approx(1.25)
    assert leviathan_speedup(None, 2, 0.1, 1.2) is None


def test_replays_speedup_by_hand() -> None:
    # 7 tokens in two steps of two drafted and one of none: 2 · (2 · 1 + 12) + 10 = 38 ms against 70
    found = expected([model_chain([1, 1, 1, 0, 1, 1, 1, 1], first=1, limit=8)], 2)
    assert replay_seconds(found, "draft", COSTS) == pytest.approx(0.038)
    assert replay_speedup(found, "draft", COSTS) == pytest.approx(70 / 38)


def test_a_step_costs_what_it_costs_in_the_path_that_ran() -> None:
    """The third step, which has no room for a draft, is a whole one on the static path; one that found
    nothing to draft is so in captured graphs alone."""
    found = expected([model_chain([1, 1, 1, 0, 1, 1, 1, 1], first=1, limit=8)], 2)
    both: tuple[StepCost, ...] = ("whole", "always whole")
    for path in both:
        costs = dataclasses.replace(COSTS, steps=path)
        assert replay_seconds(found, "draft", costs) == pytest.approx(3 * 0.014)
    nothing = expected([Chain(num_tokens=8, first=1, limit=8, keeps=((),) * 8)], 2)
    assert nothing.num_drafted == 0
    expected_s: dict[StepCost, float] = {"as drafted": 0.07, "whole": 0.05 + 0.028, "always whole": 7 * 0.014}
    for path, seconds in expected_s.items():
        costs = dataclasses.replace(COSTS, steps=path)
        assert replay_seconds(nothing, "draft", costs) == pytest.approx(seconds), path


def test_a_steps_time_is_divided_and_compared() -> None:
    found = expected([model_chain([1, 1, 1, 0, 1, 1, 1, 1], first=1, limit=8)], 2)
    run = Generation(
        prompt_tokens=3,
        submit_s=0,
        emissions=((0.0, 1), (0.05, 7)),
        steps=(Step(2, 2), Step(2, 2), Step(0, 0, True)),
        phase_s={"draft": 0.006, "verify": 0.036, "host": 0.003},
        token_ids=tuple(range(8)),
        finish_reason="length",
    )
    step = attribute_gap([run], found, "draft", COSTS)
    assert step is not None
    assert (step.draft_ms, step.verify_ms, step.host_ms) == pytest.approx((2, 12, 1))
    assert step.draft_predicted_ms == pytest.approx(4 / 3)
    assert step.verify_predicted_ms == pytest.approx(34 / 3)
    assert step.host_gap_ms == pytest.approx(1)


def test_a_plan_names_the_best_k_of_each_prediction() -> None:
    chain = model_chain([1, 1, 1, 0] * 8, first=1, limit=40)
    expectations = {k: expected([chain], k) for k in (1, 2, 4)}
    plan = plan_draft(expectations, "draft", 0.75, COSTS, prefill_s=(0.02, 0.01))
    by_k = plan.by_k
    assert set(by_k) == {1, 2, 4}
    tokens = expectations[2].num_tokens
    steps_s = replay_seconds(expectations[2], "draft", COSTS)
    assert by_k[2].replay == pytest.approx(tokens * 0.01 / steps_s)
    assert by_k[2].replay_end_to_end == pytest.approx((0.02 + tokens * 0.01) / (0.03 + steps_s))
    best = max(by_k, key=lambda k: by_k[k].replay_end_to_end)
    assert plan.best_k.replay == best
    assert plan_draft(expectations, "draft", None, COSTS, (0.0, 0.0)).best_k.leviathan is None
