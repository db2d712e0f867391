"""What a draft is made to say so that it agrees at a stated rate in 16 bits, too.

A forced draft says the target's next token, or another id, along a text that was written before. In 16 bits a
verification rounds differently from the decode step that wrote it, and with random weights, whose logits lie
close together, the run soon leaves that text: from there on no drafted token agrees, and the rate is not
the stated one any more. So the text is rewritten until a run stays on it: what is forced follows the run's
own text. Each turn carries the agreement beyond the next near-tie, so few turns are enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bitdraft.results import Generation
from bitdraft.spec_decode.synthetic import forced_tokens

MOST_TURNS = 8
Texts = list[tuple[int, ...]]


def settle(
    decode: Callable[[list[list[int]]], Sequence[Generation]],
    texts: Sequence[tuple[int, ...]],
    bits: Sequence[Sequence[bool]],
    vocab_size: int,
    most_turns: int = MOST_TURNS,
) -> tuple[list[list[int]], Texts]:
    """(what drafts are to say, the texts that it follows), a row each. `decode` runs with what is forced;
    without turns the first texts are taken as they are."""
    found = list(texts)
    for _ in range(most_turns):
        run = [row.token_ids for row in decode(_forced(found, bits, vocab_size))]
        if run == found:
            break
        found = run
    return _forced(found, bits, vocab_size), found


def _forced(texts: Texts, bits: Sequence[Sequence[bool]], vocab_size: int) -> list[list[int]]:
    return [forced_tokens(text, row, vocab_size) for text, row in zip(texts, bits, strict=True)]
