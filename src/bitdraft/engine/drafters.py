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

from bitdraft.engine.runner import Runner
from bitdraft.engine.verify import Sampler, draw


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


class NgramDrafter:
    """The continuation of the latest earlier occurrence of the text's last n tokens (prompt lookup,
    Saxena 2023), the longest n first. Where that continuation reaches the text's end it goes on with
    what it has just drafted, so that a match always gives K tokens; without a match there are none.

    Under sampling its distribution is all on the drafted token.
    """

    LONGEST, SHORTEST = 4, 2

    def __init__(self, device: torch.device, vocab_size: int) -> None:
        self.device = device
        self.vocab_size = vocab_size
        self._after: dict[tuple[int, ...], int] = {}
        self._prompt_after: dict[tuple[int, ...], int] = {}
        self._num_indexed = 0
        self._prompt_tokens = 0

    def start(self, prompt: Sequence[int], capacity: int) -> None:
        self._after, self._num_indexed = {}, 0
        self._index(prompt, len(prompt) - 1)
        self._prompt_after, self._prompt_tokens = self._after, self._num_indexed
        self._after = {}

    def _index(self, context: Sequence[int], end: int) -> None:
        """Note for every n-gram that ends before `end` where it is continued."""
        for place in range(self._num_indexed + 1, end + 1):
            for size in range(self.SHORTEST, min(self.LONGEST, place) + 1):
                self._after[tuple(context[place - size : place])] = place
        self._num_indexed = max(self._num_indexed, end)

    def propose(self, context: Sequence[int], num_tokens: int) -> list[int]:
        """The next `num_tokens` token ids, or none."""
        self._index(context, len(context) - 1)
        for size in range(min(self.LONGEST, len(context)), self.SHORTEST - 1, -1):
            suffix = tuple(context[-size:])
            start = self._after.get(suffix) or self._prompt_after.get(suffix)
            if start is not None:
                period = len(context) - start
                return [context[start + offset % period] for offset in range(num_tokens)]
        return []

    def proposals(self, text: Sequence[int], first: int, num_tokens: int) -> list[list[int]]:
        """What it would draft before each token of a text from index `first` on."""
        return [self.propose(text[:end], num_tokens) for end in range(first, len(text))]

    def draft(
        self, context: Sequence[int], num_tokens: int, sampler: Sampler | None, uniforms_K: torch.Tensor
    ) -> Draft:
        token_ids_K = torch.tensor(self.propose(context, num_tokens), dtype=torch.long, device=self.device)
        if sampler is None:
            return Draft(token_ids_K)
        return Draft(token_ids_K, torch.nn.functional.one_hot(token_ids_K, self.vocab_size).float())

    def rewind(self, num_tokens: int) -> None:
        """Only certain tokens are indexed. Going back behind them keeps the prompt's alone."""
        if num_tokens < self._num_indexed:
            self._after, self._num_indexed = {}, self._prompt_tokens
