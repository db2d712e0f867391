"""What speculation should buy, from measured costs. Pure.

Times are relative to one target decode forward: c = draft forward, v(T) = target forward over T
tokens. Leviathan et al. 2023 (theorem 3.8, with a measured instead of a free verification):
    E[τ] = (1 − α^(K+1)) / (1 − α),   speedup = E[τ] / (c·K + v(K + 1))
The second prediction replaces E[τ] by the replay's steps, truncated ones included.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bitdraft.schema.records import Figure, Generation
from bitdraft.schema.spec_decode import BestK, CostRecord, DraftPlan, PlanPoint, StepTimes
from bitdraft.spec_decode.replay import Expectation
from bitdraft.stats.intervals import median_figure

StepCost = Literal["as drafted", "whole", "always whole"]


@dataclass(frozen=True)
class Costs:
    """Medians in seconds: target forwards by number of tokens (from 1), draft forwards by draft. `steps` says
    what a step of fewer than K tokens costs in the path that ran: what it drafted (eager), a whole one's
    where anything was drafted or did not fit (static), or always a whole one's (captured graphs)."""

    target_s: dict[int, float]
    draft_s: dict[str, float]
    steps: StepCost = "as drafted"

    def num_paid(self, k: int, num_drafted: int, *, truncated: bool) -> int:
        """Drafted tokens that a step costs."""
        is_whole = self.steps == "always whole" or (self.steps == "whole" and (truncated or num_drafted > 0))
        return k if is_whole else num_drafted

    def verify_s(self, num_tokens: int) -> float:
        """Between measured token counts by interpolation."""
        sizes = sorted(self.target_s)
        return float(np.interp(num_tokens, sizes, [self.target_s[size] for size in sizes]))

    def draft_cost(self, draft: str) -> float:
        return self.draft_s[draft] / self.target_s[1]

    def verify_cost(self, k: int) -> float:
        return self.verify_s(k + 1) / self.target_s[1]


@dataclass(frozen=True)
class CostSample:
    """One prompt's: seconds of target forwards by number of tokens, and of one draft forward by draft, each
    timed several times."""

    target_s: Mapping[int, Sequence[float]]
    draft_s: Mapping[str, Sequence[float]]

    @classmethod
    def of(cls, found: Mapping[str, Mapping[str, Sequence[float]]]) -> CostSample:
        """From `measure_costs`' record, as JSON has it."""
        return cls({int(size): s for size, s in found["target_s"].items()}, found["draft_s"])


def gather_costs(samples: Sequence[CostSample]) -> Costs:
    """Medians over the samples of all prompts."""
    sizes = dict.fromkeys(size for sample in samples for size in sample.target_s)
    drafts = dict.fromkeys(draft for sample in samples for draft in sample.draft_s)
    target = {size: [x for sample in samples for x in sample.target_s.get(size, ())] for size in sizes}
    draft = {name: [x for sample in samples for x in sample.draft_s.get(name, ())] for name in drafts}
    return Costs(
        {size: float(np.median(found)) for size, found in target.items() if found},
        {name: float(np.median(found)) for name, found in draft.items() if found},
    )


def cost_record(samples: Sequence[CostSample], drafts: Sequence[str]) -> CostRecord:
    """What a result keeps: the costs as figures over prompts, c and verify_cost."""
    costs = gather_costs(samples)
    sizes, timed = sorted(costs.target_s), [draft for draft in drafts if draft in costs.draft_s]

    def figure(columns: Iterable[Sequence[float] | None]) -> Figure:
        return median_figure([1000 * float(np.median(own)) for own in columns if own])

    return CostRecord(
        target_forward_ms={size: figure(sample.target_s.get(size) for sample in samples) for size in sizes},
        draft_forward_ms={draft: figure(sample.draft_s.get(draft) for sample in samples) for draft in timed},
        draft_cost={draft: costs.draft_cost(draft) for draft in timed},
        verify_cost={size - 1: costs.verify_cost(size - 1) for size in sizes},
    )


def expected_tokens(alpha: float, k: int) -> float:
    """E[τ] for independent acceptances of probability α."""
    return k + 1.0 if alpha == 1 else (1 - alpha ** (k + 1)) / (1 - alpha)


def leviathan_speedup(alpha: float | None, k: int, draft_cost: float, verify_cost: float) -> float | None:
    """None without an α: prompt lookup's acceptances are neither independent nor everywhere."""
    if alpha is None:
        return None
    return expected_tokens(alpha, k) / (draft_cost * k + verify_cost)


def replay_seconds(expectation: Expectation, draft: str, costs: Costs) -> float:
    """Seconds that the replayed steps take at the measured costs, drafting and verifying; a truncated step
    takes what it takes in the path that ran."""
    return sum(_replay_times(expectation, draft, costs))


def _replay_times(expectation: Expectation, draft: str, costs: Costs) -> tuple[float, float]:
    """(drafting, verifying) in seconds."""
    draft_s = verify_s = 0.0
    for counts, truncated in ((expectation.realised, False), (expectation.realised_truncated, True)):
        for num_drafted, num_steps in counts.items():
            paid = costs.num_paid(expectation.k, num_drafted, truncated=truncated)
            draft_s += num_steps * paid * costs.draft_s[draft]
            verify_s += num_steps * costs.verify_s(paid + 1)
    return draft_s, verify_s


def replay_speedup(expectation: Expectation, draft: str, costs: Costs) -> float:
    """Speedup of the time after the prefill."""
    return expectation.num_tokens * costs.target_s[1] / replay_seconds(expectation, draft, costs)


def attribute_gap(
    generations: Sequence[Generation], expectation: Expectation, draft: str, costs: Costs
) -> StepTimes | None:
    """Milliseconds a step: measured drafting, verifying and host, what the costs predict for the first
    two, and by how much each exceeds that. None where no step was made."""
    num_steps = sum(len(generation.steps) for generation in generations)
    if not num_steps or not expectation.num_steps:
        return None
    draft_ms, verify_ms, host_ms = (
        1000 * sum(g.phase_s.get(phase, 0.0) for g in generations) / num_steps
        for phase in ("draft", "verify", "host")
    )
    draft_s, verify_s = _replay_times(expectation, draft, costs)
    predicted_draft_ms = 1000 * draft_s / expectation.num_steps
    predicted_verify_ms = 1000 * verify_s / expectation.num_steps
    return StepTimes(
        draft_ms=draft_ms,
        verify_ms=verify_ms,
        host_ms=host_ms,
        draft_predicted_ms=predicted_draft_ms or None,
        verify_predicted_ms=predicted_verify_ms or None,
        draft_gap_ms=draft_ms - predicted_draft_ms,
        verify_gap_ms=verify_ms - predicted_verify_ms,
        host_gap_ms=host_ms,
    )


def plan_draft(
    expectations: Mapping[int, Expectation],
    draft: str,
    alpha: float | None,
    costs: Costs,
    prefill_s: tuple[float, float],
) -> DraftPlan:
    """The predicted speedups of one draft over all K, and the best K by each prediction.

    `prefill_s` are the target's and the draft's, summed over the prompts: `replay_end_to_end` counts
    them, as `speedup` does.
    """
    by_k: dict[int, PlanPoint] = {}
    for k, expectation in expectations.items():
        plain_s = expectation.num_tokens * costs.target_s[1]
        steps_s = replay_seconds(expectation, draft, costs)
        by_k[k] = PlanPoint(
            leviathan=leviathan_speedup(alpha, k, costs.draft_cost(draft), costs.verify_cost(k)),
            replay=plain_s / steps_s,
            replay_end_to_end=(prefill_s[0] + plain_s) / (sum(prefill_s) + steps_s),
            tokens_per_step=expectation.num_tokens / expectation.num_steps,
        )
    by_formula = {k: point.leviathan for k, point in by_k.items() if point.leviathan is not None}
    best_k = BestK(
        leviathan=max(by_formula, key=lambda k: by_formula[k]) if by_formula else None,
        replay=max(by_k, key=lambda k: by_k[k].replay_end_to_end),
    )
    return DraftPlan(alpha=alpha, by_k=by_k, best_k=best_k)
