"""How much a text repeats itself. Greedy text of a small model often does, which flatters every draft and
prompt lookup most. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bitdraft.schema.records import Generation

NGRAM_TOKENS = 4
# WikiText-2 and PG-19, the embedded tokenizer, pieces of 64 to 400 tokens: 0 to 5 %, one in twenty above 12 %
MOST_NATURAL = 0.2


def repeated_share(texts: Sequence[Sequence[int]], num_tokens: int = NGRAM_TOKENS) -> float | None:
    """Of all 4-grams of token ids in these texts, the share that occurred before in the same text; None
    where no text has one."""
    total = repeated = 0
    for text in texts:
        found = [tuple(text[place : place + num_tokens]) for place in range(len(text) - num_tokens + 1)]
        total += len(found)
        repeated += len(found) - len(set(found))
    return repeated / total if total else None


def fully_kept_share(runs: Sequence[Generation]) -> float:
    """Of the tokens of these runs, the share that came from steps that kept all they drafted."""
    tokens = sum(len(run.token_ids) for run in runs)
    kept = sum(
        step.num_accepted + 1
        for run in runs
        for step in run.steps
        if step.num_drafted and step.num_accepted == step.num_drafted
    )
    return min(kept / tokens, 1.0) if tokens else 0.0
