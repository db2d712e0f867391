"""What drafts bring: tokens a step, acceptance, realised K. Definitions: docs/metrics.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bitdraft.metrics.speed import clusters_of_items
from bitdraft.schema.records import Figure, Generation
from bitdraft.schema.spec_decode import PositionAcceptance
from bitdraft.stats.intervals import LOG_ABOVE_1, LOGIT, ratio_of_sums

# intervals are symmetric on these
STEP_SCALE, SHARE_SCALE = LOG_ABOVE_1, LOGIT


def step_tokens(generation: Generation) -> int:
    """Output tokens that came from verifications: all but the prefill's, where that is no verification."""
    emissions = generation.emissions[len(generation.emissions) - len(generation.steps) :]
    return sum(num_tokens for _, num_tokens in emissions)


def tokens_and_steps(item: Sequence[Generation]) -> tuple[int, int]:
    """Of what was decoded at once: tokens that came from verifications, and the verifications."""
    return sum(step_tokens(run) for run in item if run.steps), sum(len(run.steps) for run in item)


def speculation_figures(
    items: Sequence[Sequence[Generation]], k: int, *, drafts_too: bool = True
) -> dict[str, Figure]:
    """Tokens per step, acceptance rate (τ − 1)/K, and with `drafts_too` the share of drafted tokens that were
    kept; over items that were decoded at once."""
    used = [item for item in items if tokens_and_steps(item)[1] > 0]
    if not used:
        return {}
    tokens, num_steps = zip(*map(tokens_and_steps, used), strict=True)
    clusters = clusters_of_items(used)
    figures = {
        "tokens_per_step": ratio_of_sums(tokens, num_steps, scale=STEP_SCALE, clusters=clusters),
        "acceptance_rate": ratio_of_sums(tokens, num_steps, lambda tau: (tau - 1) / k, SHARE_SCALE, clusters),
    }
    # prompt lookup may draft nothing for a whole prompt, which then says nothing about acceptance
    drafting = [item for item in items if any(step.num_drafted for run in item for step in run.steps)]
    if drafts_too and drafting:
        steps = [[step for run in item for step in run.steps] for item in drafting]
        drafted = [sum(step.num_drafted for step in own) for own in steps]
        kept = [sum(step.num_accepted for step in own) for own in steps]
        figures["draft_acceptance"] = ratio_of_sums(
            kept, drafted, scale=SHARE_SCALE, clusters=clusters_of_items(drafting)
        )
    return figures


def acceptance_by_position(generations: Sequence[Generation], k: int) -> list[PositionAcceptance]:
    """For i = 1 … K, among the steps that drafted at least i tokens: the share that kept the i-th, and
    the share of those that had kept the one before (None where there were none)."""
    steps = [step for generation in generations for step in generation.steps]
    table = []
    for position in range(1, k + 1):
        reached = [step for step in steps if step.num_drafted >= position]
        before = sum(step.num_accepted >= position - 1 for step in reached)
        kept = sum(step.num_accepted >= position for step in reached)
        table.append(
            PositionAcceptance(
                position=position,
                n=len(reached),
                share=kept / len(reached) if reached else None,
                conditional=kept / before if before else None,
            )
        )
    return table


def realised_k(generations: Sequence[Generation]) -> tuple[dict[str, int], int]:
    """How many steps drafted how many tokens, truncated steps apart; and the number of those."""
    steps = [step for generation in generations for step in generation.steps]
    counts = Counter(step.num_drafted for step in steps if not step.truncated)
    return {str(k): counts[k] for k in sorted(counts)}, sum(step.truncated for step in steps)
