"""Every K at once from one pass: replay of a draft on the text that the target wrote. Pure.

Greedy decoding writes the target's own text whatever the draft and K. A draft that starts at output
token i stays on that text as long as its choices agree with it, so the agreement bits of one
teacher-forced forward give each step of each K exactly.

Sampling: given the text, each token came from the draft with probability w = min(1, q/p), else from
the target, independently of the others (engine.agreement). So the steps are a Markov chain over
positions whose expectations are exact for that text; over texts drawn from the target they are
unbiased. Greedy decoding is the case w = 0 or 1, and `expected` then counts the steps of `steps_of`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bitdraft.config import MOST_K
from bitdraft.schema.records import Step
from bitdraft.schema.spec_decode import PositionAcceptance, ReplaySummary


@dataclass(frozen=True)
class Chain:
    """One prompt's output of N tokens, of which the steps produce those from index `first` on, in a
    request of at most `limit` tokens (N is smaller where EOS ended it).

    `keeps[i][j]` is the probability that a draft starting at token i has its token i + j kept, given
    that it is reached; an empty list where the drafter has nothing to offer at i.
    """

    num_tokens: int
    first: int
    limit: int
    keeps: tuple[tuple[float, ...], ...]


def model_chain(keeps: Sequence[float], first: int, limit: int) -> Chain:
    """A draft model's chain: whether a token is kept does not depend on where the draft began."""
    rows = tuple(tuple(map(float, keeps[start : start + MOST_K])) for start in range(len(keeps)))
    return Chain(len(keeps), first, limit, rows)


def lookup_chain(proposals: Sequence[Sequence[int]], output: Sequence[int], first: int, limit: int) -> Chain:
    """Prompt lookup's chain: `proposals[i]` is what it drafts before output token i."""
    rows = []
    for start, proposal in enumerate(proposals):
        pairs = zip(proposal, output[start:], strict=False)
        rows.append(tuple(float(drafted == token) for drafted, token in pairs))
    return Chain(len(output), first, limit, tuple(rows))


def _num_drafted(chain: Chain, produced: int, k: int) -> tuple[int, bool]:
    """(drafted tokens, truncated) of a step that begins after `produced` tokens."""
    fitting = min(k, chain.limit - produced - 1)
    return (fitting if chain.keeps[produced] else 0), fitting < k


def steps_of(chain: Chain, k: int) -> list[Step]:
    """The steps at K of a chain whose probabilities are all 0 or 1."""
    steps = []
    produced = chain.first
    while produced < chain.num_tokens:
        num_drafted, truncated = _num_drafted(chain, produced, k)
        rest = chain.num_tokens - produced
        kept = 0
        while kept < min(num_drafted, rest) and chain.keeps[produced][kept] == 1:
            kept += 1
        ended = kept == rest  # by a drafted EOS: nothing of the target's own follows it
        steps.append(Step(num_drafted, kept, truncated or ended))
        produced += kept + 1
    return steps


@dataclass
class Expectation:
    """Sums over the steps of one or more chains at one K: expected counts."""

    k: int
    num_tokens: float = 0.0
    num_steps: float = 0.0
    num_truncated: float = 0.0
    num_drafted: float = 0.0
    num_accepted: float = 0.0
    drafted_at: list[float] = field(default_factory=list)
    kept_at: list[float] = field(default_factory=list)
    realised: dict[int, float] = field(default_factory=dict)
    realised_truncated: dict[int, float] = field(default_factory=dict)

    def summary(self) -> ReplaySummary:
        """The figures of a measured row, by the same definitions."""
        tokens_per_step = self.num_tokens / self.num_steps if self.num_steps else 1.0
        positions = []
        for index in range(self.k):
            drafted, kept = self.drafted_at[index], self.kept_at[index]
            share = kept / drafted if drafted else None
            positions.append(PositionAcceptance(position=index + 1, share=share))
        return ReplaySummary(
            tokens_per_step=tokens_per_step,
            acceptance_rate=(tokens_per_step - 1) / self.k,
            draft_acceptance=self.num_accepted / self.num_drafted if self.num_drafted else None,
            num_steps=self.num_steps,
            num_truncated_steps=self.num_truncated,
            realised_k={str(k): self.realised[k] for k in sorted(self.realised)},
            acceptance_by_position=tuple(positions),
        )


def expected(chains: Sequence[Chain], k: int) -> Expectation:
    """Expected counts at K over all chains: a walk over positions, each with the probability that a
    step begins there."""
    total = Expectation(k, drafted_at=[0.0] * k, kept_at=[0.0] * k)
    for chain in chains:
        total.num_tokens += chain.num_tokens - chain.first
        begins = [0.0] * (chain.num_tokens + 1)
        begins[chain.first] = 1.0
        for produced in range(chain.first, chain.num_tokens):
            if begins[produced] > 0:
                _one_step(chain, produced, begins, total)
    return total


def _one_step(chain: Chain, produced: int, begins: list[float], total: Expectation) -> None:
    weight = begins[produced]
    num_drafted, truncated = _num_drafted(chain, produced, total.k)
    rest = chain.num_tokens - produced
    total.num_steps += weight
    total.num_drafted += weight * num_drafted
    reached = weight
    for index in range(num_drafted):
        total.drafted_at[index] += weight
        if index < rest:
            kept = reached * chain.keeps[produced][index]
            begins[produced + index + 1] += reached - kept
            total.kept_at[index] += kept
            total.num_accepted += kept
            reached = kept
    if num_drafted < rest:
        begins[produced + num_drafted + 1] += reached
    # where all of the rest was kept, it ended with a drafted EOS
    cut = weight if truncated else (reached if num_drafted >= rest else 0.0)
    total.num_truncated += cut
    for counts, share in ((total.realised, weight - cut), (total.realised_truncated, cut)):
        if share > 0:
            counts[num_drafted] = counts.get(num_drafted, 0.0) + share


def replay_all(chains: Sequence[Chain]) -> dict[int, ReplaySummary]:
    """The summary of every K from 1 to 32."""
    return {k: expected(chains, k).summary() for k in range(1, MOST_K + 1)}
