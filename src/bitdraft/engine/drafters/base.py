"""Where draft tokens come from: a draft model, or the text's own n-grams.

A drafter is given the prompt once (`start`), and then, at each step, all tokens that are certain so
far and the uniform numbers that its draws take. What it drafted beyond them is forgotten with `rewind`,
in O(1).

Shapes: K drafted tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from bitdraft.engine.acceptance import Sampler


@dataclass(frozen=True)
class Draft:
    """Drafted tokens on the target's device, the distributions they were drawn from (sampling only),
    and the largest logit of each forward: not finite where the model's logits weren't."""

    token_ids_K: torch.Tensor
    probs_KV: torch.Tensor | None = None
    top_logits: tuple[torch.Tensor, ...] = ()


class Drafter(Protocol):
    def start(self, prompt: Sequence[int], capacity: int) -> None: ...
    def draft(
        self, context: Sequence[int], num_tokens: int, sampler: Sampler | None, uniforms_K: torch.Tensor
    ) -> Draft: ...
    def rewind(self, num_tokens: int) -> None: ...
