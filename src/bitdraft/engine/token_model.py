"""What decodes, whatever computes it: logits over a cache that rolls back.

Shapes: B = 1 row, T tokens of a forward, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch


class TokenModel(Protocol):
    """Our loops, the replay, costs, quality and the lossless check work over one. `model` is what it was made
    of; `num_embeddings` ids can be read, and logits are given for `vocab_size`. `length` tokens are in the
    cache. `dtype` is what numbers are rounded to on their way.

    Raises `AssertionError` where more is fed than the capacity that `start` was given.
    """

    model: Any
    device: torch.device
    dtype: torch.dtype
    vocab_size: int
    num_embeddings: int

    @property
    def length(self) -> int:
        """Tokens in the cache."""
        ...

    def start(self, capacity: int) -> None:
        """Begin a sequence of at most `capacity` tokens."""

    def forward(self, tokens_BT: torch.Tensor, num_logits: int = 1) -> torch.Tensor:
        """Feed T tokens behind those in the cache; the logits of the last `num_logits`, B × num_logits × V,
        which the next forward may overwrite."""
        ...

    def forward_one(self, token_id: int) -> torch.Tensor:
        """Feed a token; its logits, 1 × V, which the next forward may overwrite."""
        ...

    def without_cache(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        """Logits of a whole sequence, B × T × V, in one forward that reads nothing of the cache."""
        ...

    def keep(self, num_tokens: int) -> None:
        """Forget what lies behind the first `num_tokens`; O(1)."""

    def to_device(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Ids as B × T on the model's device."""
        ...

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes that one token takes in the cache."""
        ...
