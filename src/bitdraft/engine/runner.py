"""Prefill, decode and score with one transformers model and one preallocated cache, the simple way: every
forward goes through the model itself.

Shapes: B rows, T tokens of this forward, V vocabulary.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from typing import Any

import torch

from bitdraft.engine.cpu.layers import few_row_kernels, rows_of
from bitdraft.engine.kv_cache import KVCache, unsupported_reason
from bitdraft.engine.vocabulary import DraftVocabulary, fit_logits, num_embeddings, num_ids, read_ids
from bitdraft.errors import UserError


def adapts_to_length(model: Any) -> bool:
    """Rotary embeddings that change themselves with the sequence's length: they can neither serve two
    sequences at once nor be recorded at one length."""
    rope = str(getattr(model.config.get_text_config(), "rope_parameters", ""))
    return "dynamic" in rope or "longrope" in rope


class Runner:
    """Forwards of one row. The cache grows to the largest capacity asked for and is reused.

    A draft's are in the vocabulary of its target, where that is given.
    """

    def __init__(self, model: Any, vocabulary: DraftVocabulary | None = None) -> None:
        reason = unsupported_reason(model)
        if reason is not None:
            remedy = "Choose a model all of whose layers keep a key-value cache"
            raise UserError("model", type(model).__name__, reason, remedy)
        self.model = model
        self.vocabulary = vocabulary
        self.vocab_size = num_ids(model) if vocabulary is None else vocabulary.num_target_ids
        self.num_embeddings = num_embeddings(model)
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        self.num_layers: int = model.config.get_text_config().num_hidden_layers
        self.cache = KVCache(self.num_layers, capacity=0)
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._head_is_plain: bool | None = None
        self._rows = rows_of(model)

    def start(self, capacity: int) -> None:
        """Begin a new sequence of at most `capacity` tokens."""
        if capacity > self.cache.capacity:
            self.cache = KVCache(self.num_layers, capacity)
        self.cache.clear()

    @property
    def length(self) -> int:
        """Tokens in the cache."""
        return self.cache.length

    def keep(self, num_tokens: int) -> None:
        """Forget what lies behind the first `num_tokens`; O(1)."""
        self.cache.keep(num_tokens)

    def to_device(self, token_ids: Sequence[int]) -> torch.Tensor:
        return torch.tensor([token_ids], dtype=torch.long, device=self.device)

    def forward(self, tokens_BT: torch.Tensor, num_logits: int = 1) -> torch.Tensor:
        """Feed T tokens; the logits of the last `num_logits` of them, B × num_logits × V, model dtype."""
        num_tokens, start = tokens_BT.shape[1], self.cache.length
        self.cache.check_room(num_tokens)
        extra: dict[str, Any] = {"logits_to_keep": num_logits} if self._keeps_logits else {}
        with few_row_kernels(num_tokens, self.device, self.dtype, self._rows):
            logits_BTV: torch.Tensor = self.model(
                input_ids=read_ids(self.vocabulary, tokens_BT),
                position_ids=torch.arange(start, start + num_tokens, device=self.device)[None],
                past_key_values=self.cache,
                use_cache=True,
                **extra,
            ).logits
        self.cache.advance(num_tokens)
        return fit_logits(self.vocabulary, logits_BTV[:, -num_logits:])

    def forward_one(self, token_id: int) -> torch.Tensor:
        """Feed a token; its logits, 1 × V."""
        logits_TV: torch.Tensor = self.forward(self.to_device([token_id]))[0]
        return logits_TV

    def without_cache(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        """Logits of a whole sequence, B × T × V, in one forward without a cache."""
        found = self.model(input_ids=read_ids(self.vocabulary, tokens_BT), use_cache=False)
        return fit_logits(self.vocabulary, found.logits)

    @functools.cached_property
    def kv_bytes_per_token(self) -> int:
        """Bytes that one token takes over all layers of a cache, from a forward with a cache of its own."""
        cache = KVCache(self.num_layers, capacity=1)
        with torch.inference_mode():
            self.model(input_ids=self.to_device([0]), past_key_values=cache, use_cache=True)
        return cache.bytes_per_token()

    def hidden_states(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        """Final hidden states of a whole sequence, B × T × hidden size, without touching the cache."""
        output = self.model.base_model(input_ids=read_ids(self.vocabulary, tokens_BT), use_cache=False)
        states: torch.Tensor = output.last_hidden_state
        return states

    def head(self, states: torch.Tensor) -> torch.Tensor:
        """Logits of hidden states (the output embedding alone)."""
        return fit_logits(self.vocabulary, self.model.get_output_embeddings()(states))

    def head_is_plain(self, tokens_BT: torch.Tensor) -> bool:
        """Whether the model's logits are its output embedding of its hidden states and nothing more.

        Some models scale or cap them. Found out once, on the first tokens that are scored.
        """
        if self.model.base_model is self.model:
            self._head_is_plain = False  # its layers cannot be asked without its head (Llama 4)
        if self._head_is_plain is None:
            probe_BT = tokens_BT[:, :8]
            expected = self.without_cache(probe_BT)
            found = self.head(self.hidden_states(probe_BT))
            self._head_is_plain = torch.equal(found.nan_to_num(), expected.nan_to_num())
        return self._head_is_plain
