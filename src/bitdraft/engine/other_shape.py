"""The same model through forwards of another shape: what differs is rounding alone, which no comparison of
two formats can look below.

Shapes: B = 1 row, T tokens of a forward, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from bitdraft.engine.token_model import TokenModel

TOKENS_AT_ONCE = 16


class OtherShape:
    """A token model whose forwards take few tokens at a time."""

    def __init__(self, inner: TokenModel, tokens_at_once: int = TOKENS_AT_ONCE) -> None:
        self.inner, self._most = inner, tokens_at_once
        self.model: Any = inner.model
        self.device, self.dtype = inner.device, inner.dtype
        self.vocab_size, self.num_embeddings = inner.vocab_size, inner.num_embeddings

    @property
    def length(self) -> int:
        """Tokens in the cache."""
        return self.inner.length

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes that one token takes in the cache."""
        return self.inner.kv_bytes_per_token

    def start(self, capacity: int) -> None:
        """See `TokenModel`."""
        self.inner.start(capacity)

    def keep(self, num_tokens: int) -> None:
        """See `TokenModel`."""
        self.inner.keep(num_tokens)

    def to_device(self, token_ids: Sequence[int]) -> torch.Tensor:
        """See `TokenModel`."""
        return self.inner.to_device(token_ids)

    def forward(self, tokens_BT: torch.Tensor, num_logits: int = 1) -> torch.Tensor:
        """A forward for every few tokens; the logits of the last `num_logits` of all, B × num_logits × V."""
        parts, num_tokens = [], tokens_BT.shape[1]
        for start in range(0, num_tokens, self._most):
            part_BT = tokens_BT[:, start : start + self._most]
            wanted = min(part_BT.shape[1], num_logits - (num_tokens - start - part_BT.shape[1]))
            logits_BTV = self.inner.forward(part_BT, max(1, wanted))
            if wanted > 0:
                parts.append(logits_BTV.clone())
        return torch.cat(parts, 1)

    def forward_one(self, token_id: int) -> torch.Tensor:
        """See `TokenModel`."""
        return self.inner.forward_one(token_id)

    def without_cache(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        """See `TokenModel`."""
        return self.inner.without_cache(tokens_BT)
