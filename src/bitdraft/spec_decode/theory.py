"""What speculation should buy, from measured costs. Pure.

Times are relative to one target decode forward: c = draft forward, v(T) = target forward over T
tokens. Leviathan et al. 2023 (theorem 3.8, with a measured instead of a free verification):
    E[τ] = (1 − α^(K+1)) / (1 − α),   speedup = E[τ] / (c·K + v(K + 1))
The second prediction replaces E[τ] by the replay's steps, truncated ones included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bitdraft.schema.records import Generation
from bitdraft.spec_decode.replay import Expectation
from bitdraft.stats.intervals import median_figure


@dataclass(frozen=True)
class Costs:
    """Medians in seconds: target forwards by number of tokens (from 1), draft forwards by draft."""

    target_s: dict[int, float]
    draft_s: dict[str, float]

    def verify_s(self, num_tokens: int) -> float:
        """Between measured token counts by interpolation."""
        sizes = sorted(self.target_s)
        return float(np.interp(num_tokens, sizes, [self.target_s[size] for size in sizes]))

    def draft_cost(self, draft: str) -> float:
        return self.draft_s[draft] / self.target_s[1]

    def verify_cost(self, k: int) -> float:
        return self.verify_s(k + 1) / self.target_s[1]


def gather_costs(samples: Sequence[Mapping[str, Any]]) -> Costs:
    """Medians over the samples of all prompts: `target_s` {tokens: seconds}, `draft_s` {draft: seconds}."""

    def medians(key: str) -> dict[str, float]:
        names = dict.fromkeys(name for sample in samples for name in sample[key])
        values = {n: [x for sample in samples for x in sample[key].get(n, ())] for n in names}
        return {name: float(np.median(found)) for name, found in values.items() if found}

    return Costs({int(size): value for size, value in medians("target_s").items()}, medians("draft_s"))


def cost_record(samples: Sequence[Mapping[str, Any]], drafts: Sequence[str], seed: int) -> dict[str, Any]:
    """What a result keeps: the costs as figures over prompts, c and verify_cost."""
    costs = gather_costs(samples)

    def figure(key: str, name: str) -> dict[str, Any]:
        per_prompt = [1000 * float(np.median(s[key][name])) for s in samples if s[key].get(name)]
        return median_figure(per_prompt, seed).model_dump()

    return {
        "target_forward_ms": {str(size): figure("target_s", str(size)) for size in sorted(costs.target_s)},
        "draft_forward_ms": {d: figure("draft_s", d) for d in drafts if d in costs.draft_s},
        "draft_cost": {d: costs.draft_cost(d) for d in drafts if d in costs.draft_s},
        "verify_cost": {str(size - 1): costs.verify_cost(size - 1) for size in sorted(costs.target_s)},
    }


def expected_tokens(alpha: float, k: int) -> float:
    """E[τ] for independent acceptances of probability α."""
    return k + 1.0 if alpha == 1 else (1 - alpha ** (k + 1)) / (1 - alpha)


def leviathan_speedup(alpha: float | None, k: int, draft_cost: float, verify_cost: float) -> float | None:
    """None without an α: prompt lookup's acceptances are neither independent nor everywhere."""
    if alpha is None:
        return None
    return expected_tokens(alpha, k) / (draft_cost * k + verify_cost)


def replay_seconds(expectation: Expectation, draft: str, costs: Costs) -> float:
    """Seconds that the replayed steps take at the measured costs; a truncated step costs less."""
    total = 0.0
    for counts in (expectation.realised, expectation.realised_truncated):
        for num_drafted, num_steps in counts.items():
            total += num_steps * (num_drafted * costs.draft_s[draft] + costs.verify_s(num_drafted + 1))
    return total


def replay_speedup(expectation: Expectation, draft: str, costs: Costs) -> float:
    """Speedup of the time after the prefill."""
    return expectation.num_tokens * costs.target_s[1] / replay_seconds(expectation, draft, costs)


def attribute_gap(
    generations: Sequence[Generation], expectation: Expectation, draft: str, costs: Costs
) -> dict[str, float]:
    """Milliseconds a step: measured drafting, verifying and host, what the costs predict for the first
    two, and by how much each exceeds that."""
    num_steps = sum(len(generation.steps) for generation in generations)
    measured = {
        phase: 1000 * sum(g.phase_s.get(phase, 0.0) for g in generations) / num_steps
        for phase in ("draft", "verify", "host")
    }
    draft_s = expectation.num_drafted * costs.draft_s[draft]
    verify_s = replay_seconds(expectation, draft, costs) - draft_s
    predicted = {
        "draft": 1000 * draft_s / expectation.num_steps,
        "verify": 1000 * verify_s / expectation.num_steps,
        "host": 0.0,
    }
    record = {f"{phase}_ms": value for phase, value in measured.items()}
    record |= {f"{phase}_predicted_ms": value for phase, value in predicted.items() if value}
    return record | {f"{phase}_gap_ms": measured[phase] - predicted[phase] for phase in measured}


def plan_draft(
    expectations: Mapping[int, Expectation],
    draft: str,
    alpha: float | None,
    costs: Costs,
    prefill_s: tuple[float, float],
) -> dict[str, Any]:
    """The predicted speedups of one draft over all K, and the best K by each prediction.

    `prefill_s` are the target's and the draft's, summed over the prompts: `replay_end_to_end` counts
    them, as `speedup` does.
    """
    by_k: dict[str, dict[str, Any]] = {}
    for k, expectation in expectations.items():
        plain_s = expectation.num_tokens * costs.target_s[1]
        steps_s = replay_seconds(expectation, draft, costs)
        by_k[str(k)] = {
            "leviathan": leviathan_speedup(alpha, k, costs.draft_cost(draft), costs.verify_cost(k)),
            "replay": plain_s / steps_s,
            "replay_end_to_end": (prefill_s[0] + plain_s) / (sum(prefill_s) + steps_s),
            "tokens_per_step": expectation.num_tokens / expectation.num_steps,
        }

    def best(name: str) -> int:
        return int(max(by_k, key=lambda k: by_k[k][name]))

    return {
        "alpha": alpha,
        "by_k": by_k,
        "best_k": {
            "leviathan": None if alpha is None else best("leviathan"),
            "replay": best("replay_end_to_end"),
        },
    }
