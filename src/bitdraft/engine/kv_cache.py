"""A preallocated key-value cache of one sequence that transformers models write into.

Shapes: H key-value heads, C capacity, T tokens of one forward, D head size.

Every layer owns keys and values, 1 × H × C × D, allocated once. All layers share one length, which the
runner advances after a forward; forgetting rejected tokens is a subtraction. A forward writes its T tokens
behind the current length and reads views of what is filled.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin


class _Layer(CacheLayerMixin):  # type: ignore[misc]
    is_sliding = False

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.length, self.capacity = 0, capacity

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        def buffer(states_1HTD: torch.Tensor) -> torch.Tensor:
            _, heads, _, size = states_1HTD.shape
            return states_1HTD.new_zeros(1, heads, self.capacity, size)

        self.keys, self.values = buffer(key_states), buffer(value_states)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write T tokens behind the current length; returns views 1, H, length + T, D."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        num_tokens = key_states.shape[2]
        end = self.length + num_tokens
        # narrow, not indexing: this runs twice a layer and token, and the host's time is what decides
        self.keys.narrow(2, self.length, num_tokens).copy_(key_states)
        self.values.narrow(2, self.length, num_tokens).copy_(value_states)
        return self.keys.narrow(2, 0, end), self.values.narrow(2, 0, end)

    def get_seq_length(self) -> int:
        return self.length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_max_length(self) -> int:
        return self.capacity

    get_max_cache_shape = get_max_length  # its name in earlier 5.x releases


class KVCache(Cache):  # type: ignore[misc]
    """Cache of a sequence of at most `capacity` tokens, of which it holds `length`."""

    def __init__(self, num_layers: int, capacity: int) -> None:
        self.capacity = capacity
        super().__init__(layers=[_Layer(capacity) for _ in range(num_layers)])

    @property
    def length(self) -> int:
        length: int = self.layers[0].length
        return length

    def check_room(self, num_tokens: int) -> None:
        end = self.length + num_tokens
        assert end <= self.capacity, f"{end} tokens in a cache of {self.capacity}"

    def advance(self, num_tokens: int) -> None:
        self._set(self.length + num_tokens)

    def rollback(self, num_tokens: int) -> None:
        """Forget the last `num_tokens`. O(1): they are overwritten by the next forward."""
        assert 0 <= num_tokens <= self.length
        self._set(self.length - num_tokens)

    def keep(self, num_tokens: int) -> None:
        """Forget what lies behind the first `num_tokens`."""
        self._set(min(self.length, num_tokens))

    def _set(self, length: int) -> None:
        for layer in self.layers:
            layer.length = length

    def clear(self) -> None:
        self._set(0)

    def bytes_per_token(self) -> int:
        """Bytes that one token takes over all layers; known after the first forward."""
        buffers = [t for layer in self.layers if layer.is_initialized for t in (layer.keys, layer.values)]
        return sum(t.shape[1] * t.shape[3] * t.element_size() for t in buffers)


def unsupported_reason(model: Any) -> str | None:
    """Why this cache cannot stand in for the model's own, or None where it can.

    Layers that keep a state other than all keys and values (Mamba, linear attention) cannot be
    rolled back by a length.
    """
    config = model.config.get_text_config()
    if not getattr(model, "_supports_attention_backend", False) and not hasattr(
        config, "num_attention_heads"
    ):
        return "its layers keep no key-value cache"
    kinds = set(getattr(config, "layer_types", None) or ()) - {
        "full_attention",
        "sliding_attention",
        "attention",
        "chunked_attention",
    }
    if kinds or getattr(model, "_is_stateful", False):
        return f"it has layers without a key-value cache ({', '.join(sorted(kinds)) or 'stateful'})"
    return None
