"""Prefill, decode and score with one transformers model and one preallocated cache.

Shapes: B rows, T tokens of this forward, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from bitdraft.engine.cpu_kernels import few_row_kernels
from bitdraft.engine.kv_cache import KVCache, unsupported_reason
from bitdraft.errors import UserError

MOST_MASKED_TOKENS = 64


def has_plain_attention(model: Any) -> bool:
    """Whether every layer sees the whole past and takes one additive mask: no sliding windows, no chunks."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ("full_attention",))
    return (
        kinds == {"full_attention"}
        and getattr(config, "sliding_window", None) is None
        and getattr(config, "attention_chunk_size", None) is None
        and bool(getattr(model, "_supports_attention_backend", False))
        and config._attn_implementation in ("sdpa", "eager")
    )


class Runner:
    """Eager forwards of one row. The cache grows to the largest capacity asked for and is reused.

    With `vocab_size` logits end there: models of one tokenizer may pad their embeddings differently.
    """

    def __init__(self, model: Any, vocab_size: int | None = None) -> None:
        reason = unsupported_reason(model)
        if reason is not None:
            remedy = "Choose a model all of whose layers keep a key-value cache"
            raise UserError("model", type(model).__name__, reason, remedy)
        self.model = model
        self.vocab_size = vocab_size
        self.device: torch.device = model.device
        self.num_layers: int = model.config.get_text_config().num_hidden_layers
        self.cache = KVCache(self.num_layers, capacity=0)
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._head_is_plain: bool | None = None
        self._plain_attention = has_plain_attention(model)
        self._masks: dict[int, torch.Tensor] = {}

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
        extra: dict[str, Any] = {"logits_to_keep": num_logits} if self._keeps_logits else {}
        if self._plain_attention and 1 < num_tokens <= MOST_MASKED_TOKENS and start > 0:
            extra["attention_mask"] = self._mask(start, num_tokens)
        with few_row_kernels(num_tokens, self.device):
            logits_BTV: torch.Tensor = self.model(
                input_ids=tokens_BT,
                position_ids=positions,
                past_key_values=self.cache,
                use_cache=True,
                **extra,
            ).logits
        self.cache.advance(num_tokens)
        return logits_BTV[:, -num_logits:, : self.vocab_size]

    def _mask(self, start: int, num_tokens: int) -> torch.Tensor:
        """Additive mask, 1 × 1 × T × (start + T), in the model's dtype: all of the past, nothing ahead.

        transformers would build a Boolean one each time, which attention turns into numbers anew in
        every layer. Here it is a view of a larger one that is made once for each T.
        """
        if num_tokens not in self._masks or self._masks[num_tokens].shape[1] < self.cache.capacity:
            mask_TC = torch.zeros(num_tokens, self.cache.capacity + num_tokens, device=self.device)
            ahead_TT = torch.ones(num_tokens, num_tokens, device=self.device).triu(1).bool()
            mask_TC[:, self.cache.capacity :].masked_fill_(ahead_TT, -torch.inf)
            self._masks[num_tokens] = mask_TC.to(self.model.dtype)
        view_TC = self._masks[num_tokens][None, None, :, -(start + num_tokens) :]
        return view_TC if self.device.type == "cpu" else view_TC.contiguous()

    def hidden_states(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        """Final hidden states of a whole sequence, B × T × hidden size, without touching the cache."""
        output = self.model.base_model(input_ids=tokens_BT, use_cache=False)
        states: torch.Tensor = output.last_hidden_state
        return states

    def head(self, states: torch.Tensor) -> torch.Tensor:
        """Logits of hidden states (the output embedding alone)."""
        logits: torch.Tensor = self.model.get_output_embeddings()(states)
        return logits[..., : self.vocab_size]

    def head_is_plain(self, tokens_BT: torch.Tensor) -> bool:
        """Whether the model's logits are its output embedding of its hidden states and nothing more.

        Some models scale or cap them. Found out once, on the first tokens that are scored.
        """
        if self._head_is_plain is None:
            probe_BT = tokens_BT[:, :8]
            expected = self.model(input_ids=probe_BT, use_cache=False).logits[..., : self.vocab_size]
            found = self.head(self.hidden_states(probe_BT))
            self._head_is_plain = torch.equal(found.nan_to_num(), expected.nan_to_num())
        return self._head_is_plain
