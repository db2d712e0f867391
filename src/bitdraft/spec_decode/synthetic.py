"""Synthetic acceptance: a draft model is made to say the target's next token with a stated probability.

The target's text is written first. Whether the token drafted for a place of it agrees is then a fixed
random bit, the same for every draft and K, and where it does not agree the draft says another id. Draft,
verification and acceptance go their whole real way, so speeds are real, the text is still the target's,
and the replay of the bits is exact.

In 16 bits a verification rounds differently from the decode step that wrote the text, and where two logits
lie close together the run leaves it: from there on no drafted token would agree. So what drafts say is
rewritten along the run's own text until a run stays on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bitdraft.schema.records import Generation

MOST_TURNS = 8
Text = tuple[int, ...]


def agreement_bits(acceptance: float, num_tokens: int, seed: int, index: int) -> list[bool]:
    """Does the draft agree at each place of prompt `index`'s output?"""
    numbers = np.random.default_rng([seed, index]).random(num_tokens)
    return [bool(number < acceptance) for number in numbers]


def oracle_tokens(output: Sequence[int], bits: Sequence[bool], vocab_size: int) -> list[int]:
    """What the draft says at each place; behind the end of a text that is shorter than the bits, id 0."""
    text = [*output, *[0] * (len(bits) - len(output))]
    return [token if agrees else (token + 1) % vocab_size for token, agrees in zip(text, bits, strict=True)]


def run_with_oracle(
    decode: Callable[[list[list[int]]], list[Generation]],
    texts: Sequence[Text],
    bits: Sequence[Sequence[bool]],
    vocab_size: int,
) -> tuple[list[Generation], list[Text]]:
    """(runs of drafts that agree as the bits say, the texts that these followed), a row each: the first runs
    that stay on those texts, beginning with `texts`, or the last of `MOST_TURNS` tries. `decode` runs with
    what the drafts are told. Each try carries the agreement beyond the next near-tie, so few are enough."""
    followed = list(texts)
    for turn in range(1, MOST_TURNS + 1):
        runs = decode(
            [oracle_tokens(text, row, vocab_size) for text, row in zip(followed, bits, strict=True)]
        )
        if turn == MOST_TURNS or all(map(stays, runs, followed)):
            break
        followed = [run.token_ids for run in runs]
    return runs, followed


def stays(run: Generation, text: Text) -> bool:
    """Whether the run, which may be shorter, is the text's beginning."""
    return run.token_ids == text[: len(run.token_ids)]
