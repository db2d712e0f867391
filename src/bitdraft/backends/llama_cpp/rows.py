"""Several rows over llama.cpp: what `engine.static.forward.StaticForward` is over a transformers model, so
that batches go through the same steps. Nothing is recorded: a part is called as it is.

Shapes: B rows, T tokens of a forward, V vocabulary.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from bitdraft.backends.llama_cpp.model import Context, LlamaModel
from bitdraft.engine.static.step import State
from bitdraft.engine.vocabulary import DraftVocabulary, fit_logits, read_ids


class LlamaRows:
    """A draft's logits are in the vocabulary of its target, where that is given."""

    graphs = None
    grain = 32
    preparation_s = 0.0
    execution = "llama.cpp"

    def __init__(
        self, model: LlamaModel, vocabulary: DraftVocabulary | None = None, least_capacity: int = 0
    ) -> None:
        self.model, self.vocabulary, self._least_capacity = model, vocabulary, least_capacity
        self.device, self.dtype = model.device, model.dtype
        self.num_rows = self.capacity = self.allocation = 0
        self._context: Context | None = None

    def state(self, capacity: int, k: int, stop_ids: tuple[int, ...]) -> State:
        """See `StaticForward`."""
        return State.empty(self.num_rows, capacity, k, stop_ids, self.device)

    def allocate(self, num_rows: int, capacity: int) -> None:
        """Room for `capacity` tokens in each row. What was there is lost."""
        capacity = max(capacity, self._least_capacity)
        if num_rows == self.num_rows and capacity <= self.capacity:
            return
        self._context = None
        self.num_rows = self.capacity = 0
        self.allocation += 1
        self._context = self.model.context(capacity, num_rows)
        self.num_rows, self.capacity = num_rows, capacity

    def prefill(self, row: int, prompt: Sequence[int]) -> torch.Tensor:
        """Read a prompt into a row; the logits behind its last token, 1 × V."""
        assert self._context is not None
        tokens_1T = read_ids(self.vocabulary, torch.tensor([list(prompt)]))
        self._context.keep(row, 0)
        return fit_logits(self.vocabulary, self._context.feed(tokens_1T[0].numpy(), 0, 1, row).clone())

    def span(self, num_tokens: int) -> int:
        """How many slots are read is llama.cpp's own business."""
        return num_tokens

    def takes_as_one(self, num_rows: int, num_forwards: int) -> bool:
        """Nothing is gained by it."""
        return False

    def call(
        self, part: Callable[..., Any], shape: tuple[int, int], span: int, *tensors: torch.Tensor
    ) -> Any:
        """`part` of this model's forward."""
        return part(self._forward, *tensors)

    def logits(self, span: int, tokens_BT: torch.Tensor, positions_BT: torch.Tensor) -> torch.Tensor:
        """B × T × V."""
        return self._forward(tokens_BT, positions_BT)

    def _forward(self, tokens_BT: torch.Tensor, positions_BT: torch.Tensor) -> torch.Tensor:
        """Tokens behind a row's limit share its last position; they are not fed, and nobody looks at what
        would follow them: it is what follows the last that is fed."""
        context = self._context
        assert context is not None
        tokens, places = read_ids(self.vocabulary, tokens_BT).numpy(), positions_BT.numpy()
        counts = [1 + int(np.argmin(np.append(np.diff(own) > 0, False))) for own in places]
        firsts = [int(own[0]) for own in places]
        for row, first in enumerate(firsts):
            context.keep(row, first)
        found_NV = context.feed_rows([own[:count] for own, count in zip(tokens, counts, strict=True)], firsts)
        num_rows, num_tokens = tokens.shape
        if min(counts) == num_tokens:
            logits_BTV = found_NV.view(num_rows, num_tokens, -1)
        else:
            logits_BTV = found_NV[self._sources(tuple(counts), num_tokens)]
        return fit_logits(self.vocabulary, logits_BTV)

    @staticmethod
    @functools.cache
    def _sources(counts: tuple[int, ...], num_tokens: int) -> torch.Tensor:
        """Which row of what was found each place takes, B × T."""
        starts = np.cumsum([0, *counts[:-1]])
        rows = [
            [int(start) + min(place, count - 1) for place in range(num_tokens)]
            for start, count in zip(starts, counts, strict=True)
        ]
        return torch.tensor(rows)
