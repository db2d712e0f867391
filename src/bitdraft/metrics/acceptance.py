"""What drafts bring: tokens a step, acceptance, realised K. Definitions: docs/metrics.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from bitdraft.schema.records import Figure, Generation
from bitdraft.stats.intervals import ratio_of_sums


def step_tokens(generation: Generation) -> int:
    """Output tokens that came from verifications: all but the prefill's, where that is no verification."""
    emissions = generation.emissions[len(generation.emissions) - len(generation.steps) :]
    return sum(num_tokens for _, num_tokens in emissions)


def speculation_figures(generations: Sequence[Generation], k: int, seed: int = 0) -> dict[str, Figure]:
    """Tokens per step, acceptance rate (τ − 1)/K, and the share of drafted tokens that were kept."""
    used = [g for g in generations if g.steps]
    if not used:
        return {}
    tokens, num_steps = [step_tokens(g) for g in used], [len(g.steps) for g in used]
    figures = {
        "tokens_per_step": ratio_of_sums(tokens, num_steps, seed),
        "acceptance_rate": ratio_of_sums(tokens, num_steps, seed, lambda tau: (tau - 1) / k),
    }
    # prompt lookup may draft nothing for a whole prompt, which then says nothing about acceptance
    drafting = [g.steps for g in used if any(step.num_drafted for step in g.steps)]
    if drafting:
        drafted = [sum(step.num_drafted for step in steps) for steps in drafting]
        kept = [sum(step.num_accepted for step in steps) for steps in drafting]
        figures["draft_acceptance"] = ratio_of_sums(kept, drafted, seed)
    return figures


def acceptance_by_position(generations: Sequence[Generation], k: int) -> list[dict[str, Any]]:
    """For i = 1 … K, among the steps that drafted at least i tokens: the share that kept the i-th, and
    the share of those that had kept the one before (None where there were none)."""
    steps = [step for generation in generations for step in generation.steps]
    table = []
    for place in range(1, k + 1):
        there = [step for step in steps if step.num_drafted >= place]
        before = sum(step.num_accepted >= place - 1 for step in there)
        kept = sum(step.num_accepted >= place for step in there)
        table.append(
            {
                "position": place,
                "n": len(there),
                "share": kept / len(there) if there else None,
                "conditional": kept / before if before else None,
            }
        )
    return table


def realised_k(generations: Sequence[Generation]) -> tuple[dict[str, int], int]:
    """How many steps drafted how many tokens, truncated steps apart; and the number of those."""
    steps = [step for generation in generations for step in generation.steps]
    counts = Counter(step.num_drafted for step in steps if not step.truncated)
    return {str(k): counts[k] for k in sorted(counts)}, sum(step.truncated for step in steps)
