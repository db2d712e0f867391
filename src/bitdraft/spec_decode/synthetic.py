"""Synthetic acceptance: a draft model is made to say the target's next token with a stated probability.

The target's text is written first. Whether the token drafted for a place of it agrees is then a fixed
random bit, the same for every draft and K, and where it does not agree the draft says another id. Draft,
verification and acceptance go their whole real way, so speeds are real, the text is still the target's,
and the replay of the bits is exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def agreement_bits(acceptance: float, num_tokens: int, seed: int, index: int) -> list[bool]:
    """Does the draft agree at each place of prompt `index`'s output?"""
    numbers = np.random.default_rng([seed, index]).random(num_tokens)
    return [bool(number < acceptance) for number in numbers]


def forced_tokens(output: Sequence[int], bits: Sequence[bool], vocab_size: int) -> list[int]:
    """What the draft says at each place; behind the end of a text that is shorter than the bits, id 0."""
    text = [*output, *[0] * (len(bits) - len(output))]
    return [token if agrees else (token + 1) % vocab_size for token, agrees in zip(text, bits, strict=True)]
