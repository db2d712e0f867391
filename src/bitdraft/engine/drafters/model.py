"""A draft model: a smaller model of the same tokenizer."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bitdraft.engine.acceptance import Sampler, draw
from bitdraft.engine.drafters.base import Draft
from bitdraft.engine.runner import Runner


class ModelDrafter:
    """A smaller model of the same tokenizer, one forward a token.

    Its cache holds a prefix of what is certain. After a step in which all drafts were kept it has
    not yet seen its own last one: the next first forward takes two tokens.

    With `forced`, ids by their place in the whole text, it is made to say those (synthetic acceptance).
    """

    forced: Sequence[int] = ()

    def __init__(self, runner: Runner, target_device: torch.device) -> None:
        self.runner = runner
        self.target_device = target_device

    def start(self, prompt: Sequence[int], capacity: int) -> None:
        """Read all but the prompt's last token, which comes with the first draft."""
        self.runner.start(capacity)
        if len(prompt) > 1:
            self.runner.forward(self.runner.to_device(prompt[:-1]))

    def draft(
        self, context: Sequence[int], num_tokens: int, sampler: Sampler | None, uniforms_K: torch.Tensor
    ) -> Draft:
        tokens_BT = self.runner.to_device(context[self.runner.cache.length :])
        tokens, probs, tops = [], [], []
        for place in range(num_tokens):
            logits_BV = self.runner.forward(tokens_BT)[:, -1]
            top_B, token_B = logits_BV.max(-1)
            if sampler is not None:
                probs_BV = sampler.probabilities(logits_BV)
                token_B = draw(probs_BV, uniforms_K[place : place + 1])
                probs.append(probs_BV)
            if self.forced:
                token_B = torch.full_like(token_B, self.forced[len(context) + place])
            tops.append(top_B)
            tokens.append(token_B)
            tokens_BT = token_B[:, None]
        return Draft(
            token_ids_K=torch.cat(tokens).to(self.target_device),
            probs_KV=torch.cat(probs).to(self.target_device) if probs else None,
            top_logits=tuple(tops),
        )

    def rewind(self, num_tokens: int) -> None:
        self.runner.cache.keep(num_tokens)
