"""Keys and values of fixed capacity, written at given slots and read under a mask.

Shapes: B rows, H key-value heads, C capacity, S ≤ C slots that a forward reads, T tokens of a forward,
D head size. A buffer is B × H × C × D.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache

# which slots a layer's tokens may see
FULL, SLIDING = "full_attention", "sliding_attention"


@dataclass
class Place:
    """Where a forward writes and how far it reads. `num_read` is S; None for a prefill of one row, which
    reads only its own tokens. `rows_B11` is None for a forward of one row."""

    positions_BT: torch.Tensor
    num_read: Any = None
    rows_B11: torch.Tensor | None = None

    def write(self, buffer_BHCD: torch.Tensor, states_BHTD: torch.Tensor) -> None:
        if self.rows_B11 is None:
            buffer_BHCD.index_copy_(2, self.positions_BT[0], states_BHTD)
        else:
            heads_H1 = torch.arange(states_BHTD.shape[1], device=states_BHTD.device)[:, None]
            buffer_BHCD.index_put_((self.rows_B11, heads_H1, self.positions_BT[:, None]), states_BHTD)


class StaticLayer(CacheLayerMixin):  # type: ignore[misc]
    is_sliding = False
    is_initialized = True

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, place: Place) -> None:
        super().__init__()
        self.keys, self.values, self.place = keys, values, place

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        raise AssertionError("the buffers are given")

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write B × H × T × D states; returns what is to be attended to, B × H × S × D."""
        self.place.write(self.keys, key_states)
        self.place.write(self.values, value_states)
        end = self.place.num_read
        if end is None:
            return key_states, value_states
        return torch.narrow(self.keys, 2, 0, end), torch.narrow(self.values, 2, 0, end)

    # what the rest of the model may ask; positions and mask are given to it, so nothing depends on these
    def get_seq_length(self) -> int:
        return 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0

    def get_max_length(self) -> int:
        return int(self.keys.shape[2])

    get_max_cache_shape = get_max_length  # its name in earlier 5.x releases


def cache_over(buffers: tuple[torch.Tensor, ...], place: Place) -> Cache:
    """A cache of one forward over the keys of every layer, then the values."""
    num_layers = len(buffers) // 2
    return Cache(
        layers=[
            StaticLayer(keys, values, place)
            for keys, values in zip(buffers[:num_layers], buffers[num_layers:], strict=True)
        ]
    )


def probe_shapes(model: Any) -> list[tuple[int, int, torch.dtype]]:
    """(H, D, dtype) of the keys of every layer, then of the values, from a forward of one token."""
    cache = DynamicCache()
    model(
        input_ids=torch.zeros(1, 1, dtype=torch.long, device=model.device),
        past_key_values=cache,
        use_cache=True,
    )
    states = [layer.keys for layer in cache.layers] + [layer.values for layer in cache.layers]
    return [(found.shape[1], found.shape[3], found.dtype) for found in states]


def mask_kinds(model: Any) -> tuple[str, ...]:
    """The kinds of mask that a model's layers take; none where its layers see in other ways."""
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if getattr(config, "attention_chunk_size", None) is not None:
        return ()
    if kinds is None:
        return (FULL,) if window is None else (SLIDING,)
    found = tuple(sorted(set(kinds)))
    return found if set(found) <= {FULL, SLIDING} else ()


def additive_masks(
    model: Any, positions_BT: torch.Tensor, slots_S: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor | dict[str, torch.Tensor]:
    """What a model takes for `attention_mask`: B × 1 × T × S, 0 where a token sees a slot, else −∞; by
    kind of layer where there are several."""
    kinds = mask_kinds(model)
    window: Any = getattr(model.config.get_text_config(), "sliding_window", None)
    places_B1T1 = positions_BT[:, None, :, None]
    hidden_B1TS = slots_S > places_B1T1
    masks = {}
    for kind in kinds:
        unseen = hidden_B1TS
        if kind == SLIDING:
            unseen = unseen | (slots_S <= places_B1T1 - window)
        zeros = torch.zeros(unseen.shape, dtype=dtype, device=unseen.device)
        masks[kind] = zeros.masked_fill(unseen, -torch.inf)
    return masks if len(kinds) > 1 else masks[kinds[0]]
