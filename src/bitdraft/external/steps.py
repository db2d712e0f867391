"""From an engine's counts of drafted and kept tokens to steps as ours are. Pure.

Engines draft, or count, tokens that a request has no room for; ours are cut to the room that is left. A text
that ends with a drafted EOS has no token of the target's own behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bitdraft.schema.records import Step


def steps_of_counts(counts: Iterable[tuple[int, int]], num_tokens: int, k: int, limit: int) -> list[Step]:
    """Steps behind a first token that came of the prompt, from each verification's (drafted, kept), of an
    answer of `num_tokens` in a request for `limit`. Raises `ValueError` where they give another number of
    tokens."""
    found, produced = [], 1
    for drafted, kept in counts:
        room, rest = min(k, limit - produced - 1), num_tokens - produced
        if rest <= 0:
            raise ValueError(f"a step behind the last of {num_tokens} tokens")
        num_drafted = min(drafted, room)
        num_accepted = min(kept, num_drafted, rest)
        found.append(Step(num_drafted, num_accepted, room < k or num_accepted == rest))
        produced += num_accepted + 1
    if produced < num_tokens:
        raise ValueError(f"steps that give {produced} of {num_tokens} tokens")
    return found


def counts_of_totals(totals: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Each verification's (drafted, kept), from what had been drafted and kept in all when each token came,
    the first token's being that of the prompt. A token for which nothing was drafted is a step, too."""
    found: list[tuple[int, int]] = []
    before, left = totals[0] if totals else (0, 0), 0
    for own in totals[1:]:
        if own != before:
            drafted, kept = own[0] - before[0], own[1] - before[1]
            found.append((drafted, kept))
            before, left = own, kept
        elif left:
            left -= 1
        else:
            found.append((0, 0))
    return found


def emissions_of(token_s: Sequence[float], steps: Sequence[Step]) -> tuple[tuple[float, int], ...]:
    """When the tokens of each step had all come, from when each token came: (seconds, tokens) of the first
    token and of each step. Without steps each token is its own."""
    if not steps:
        return tuple((time_s, 1) for time_s in token_s)
    found, produced = [(token_s[0], 1)], 1
    for step in steps:
        num = min(step.num_accepted + 1, len(token_s) - produced)
        produced += num
        found.append((token_s[produced - 1], num))
    return tuple(found)
