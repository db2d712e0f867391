"""Prompt lookup: the text's own n-grams as drafts."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bitdraft.engine.acceptance import Sampler
from bitdraft.engine.drafters.base import Draft


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
