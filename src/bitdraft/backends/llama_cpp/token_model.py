"""A token model over llama.cpp: what `engine.runner.Runner` is over a transformers model.

Shapes: B = 1 row, T tokens of a forward, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bitdraft.backends.llama_cpp.model import Context, LlamaModel
from bitdraft.engine.vocabulary import DraftVocabulary, fit_logits, read_ids


class LlamaRunner:
    """Forwards of one row. The cache grows to the largest capacity asked for and is reused. Logits are
    overwritten by the next forward. A draft's are in the vocabulary of its target, where that is given."""

    def __init__(self, model: LlamaModel, vocabulary: DraftVocabulary | None = None) -> None:
        self.model, self.vocabulary = model, vocabulary
        self.vocab_size = model.num_ids if vocabulary is None else vocabulary.num_target_ids
        self.device, self.dtype = model.device, model.dtype
        self.num_embeddings = model.num_embeddings
        self._context: Context | None = None
        self._length = 0

    def start(self, capacity: int) -> None:
        """Begin a new sequence of at most `capacity` tokens."""
        if self._context is None or capacity > self._context.capacity:
            self._context = None  # the old one goes before the new one comes
            self._context = self.model.context(capacity)
        self._length = 1
        self.keep(0)

    @property
    def length(self) -> int:
        """Tokens in the cache."""
        return self._length

    def keep(self, num_tokens: int) -> None:
        """Forget what lies behind the first `num_tokens`; O(1)."""
        if num_tokens < self._length:
            assert self._context is not None
            self._context.keep(0, num_tokens)
            self._length = num_tokens

    def to_device(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Ids as 1 × T."""
        return torch.tensor([token_ids], dtype=torch.long)

    def forward(self, tokens_BT: torch.Tensor, num_logits: int = 1) -> torch.Tensor:
        """Feed T tokens; the logits of the last `num_logits` of them, 1 × num_logits × V."""
        context, num_tokens = self._context, tokens_BT.shape[1]
        assert context is not None
        assert self._length + num_tokens <= context.capacity, f"no room in a cache of {context.capacity}"
        tokens_T = read_ids(self.vocabulary, tokens_BT)[0].numpy()
        logits_TV = context.feed(tokens_T, self._length, num_logits)
        self._length += num_tokens
        return fit_logits(self.vocabulary, logits_TV[None])

    def forward_one(self, token_id: int) -> torch.Tensor:
        """Feed a token; its logits, 1 × V. The way of plain decoding, where every operation of Python's
        counts."""
        context = self._context
        assert context is not None
        assert self._length < context.capacity, f"no room in a cache of {context.capacity}"
        if self.vocabulary is not None:
            return self.forward(self.to_device([token_id]))[0]
        logits_TV = context.feed_one(token_id, self._length)
        self._length += 1
        return logits_TV

    def without_cache(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        """Logits of a whole sequence, 1 × T × V, in one forward over an empty cache."""
        num_tokens = tokens_BT.shape[1]
        self.start(num_tokens)
        return self.forward(tokens_BT, num_tokens).clone()

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes that one token takes in the cache."""
        return self.model.kv_bytes_per_token
