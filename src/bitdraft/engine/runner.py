"""Prefill, decode and score with one transformers model and one preallocated cache.

Shapes: B rows, T tokens of this forward, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from bitdraft.engine.kv_cache import KVCache, unsupported_reason
from bitdraft.errors import UserError


class Runner:
    """Eager forwards of one row. The cache grows to the largest capacity asked for and is reused."""

    def __init__(self, model: Any) -> None:
        reason = unsupported_reason(model)
        if reason is not None:
            remedy = "Choose a model all of whose layers keep a key-value cache"
            raise UserError("model", type(model).__name__, reason, remedy)
        self.model = model
        self.device: torch.device = model.device
        self.num_layers: int = model.config.get_text_config().num_hidden_layers
        self.cache = KVCache(self.num_layers, capacity=0)
        parameters = inspect.signature(model.forward).parameters
        self._keeps_logits = "logits_to_keep" in parameters

    def start(self, capacity: int) -> None:
        """Begin a new sequence of at most `capacity` tokens."""
        if capacity > self.cache.capacity:
            self.cache = KVCache(self.num_layers, capacity)
        self.cache.clear()

    def to_device(self, token_ids: Sequence[int]) -> torch.Tensor:
        return torch.tensor([token_ids], dtype=torch.long, device=self.device)

    def forward(self, tokens_BT: torch.Tensor, num_logits: int = 1) -> torch.Tensor:
        """Feed T tokens; the logits of the last `num_logits` of them, B × num_logits × V, model dtype."""
        num_tokens = tokens_BT.shape[1]
        start = self.cache.lengths[0]
        positions = torch.arange(start, start + num_tokens, device=self.device)[None]
        extra = {"logits_to_keep": num_logits} if self._keeps_logits else {}
        logits_BTV: torch.Tensor = self.model(
            input_ids=tokens_BT,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            **extra,
        ).logits
        self.cache.advance(num_tokens)
        return logits_BTV[:, -num_logits:]
