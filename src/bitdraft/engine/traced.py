"""A model's forward recorded once on the CPU and replayed without Python.

Decoding with a small model is bound by the host: of 3.6 ms that a token takes in a 16-layer model of
width 192, half goes to Python between the operations (docs/benchmarks). TorchScript's interpreter
runs the same operations, one after another, from a recording. One recording serves all numbers of
tokens and all lengths, because sizes are recorded as sizes of the inputs and the cache's buffers are
inputs, too.

A recording holds one side of every branch, so none is made of a model that looks at its tensors'
values (some mixtures of experts do), and the runner uses one only after it gave the model's logits bit for
bit. Without one, every forward goes through the model itself. TorchScript is deprecated in torch 2.13;
where it is gone, that is what happens.

Shapes: B rows, T tokens of a forward, S tokens in the cache after it, H key-value heads, C capacity,
D head size.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

_jit: Any = torch.jit  # without type hints

TracedForward = Callable[..., torch.Tensor]
"""(tokens_BT, positions_BT, mask_11TS, keys_BHCD of every layer, then values) → logits_BTV"""


class _Layer(CacheLayerMixin):  # type: ignore[misc]
    """Writes tokens start … end into buffers. Both are recorded as sizes, not as numbers."""

    is_sliding = False
    is_initialized = True

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, start: Any, end: Any) -> None:
        super().__init__()
        self.keys, self.values, self.start, self.end = keys, values, start, end

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        raise AssertionError("the buffers are given")

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys[:, :, self.start : self.end].copy_(key_states)
        self.values[:, :, self.start : self.end].copy_(value_states)
        return self.keys[:, :, : self.end], self.values[:, :, : self.end]

    # what the rest of the model may ask; positions and mask are given to it, so nothing depends on these
    def get_seq_length(self) -> int:
        return 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0

    def get_max_length(self) -> int:
        return int(self.keys.shape[2])

    get_max_cache_shape = get_max_length  # its name in earlier 5.x releases


def trace_forward(model: Any, *inputs: torch.Tensor) -> TracedForward | None:
    """Record a model with inputs as a `TracedForward` takes them; None where it can't be recorded, or where
    Python looked at a tensor meanwhile. Whether the recording is the model, its user must compare."""

    def forward(
        tokens_BT: torch.Tensor, positions_BT: torch.Tensor, mask_11TS: torch.Tensor, *buffers: torch.Tensor
    ) -> torch.Tensor:
        end, num_layers = mask_11TS.shape[-1], len(buffers) // 2
        start = end - tokens_BT.shape[1]
        layers = [
            _Layer(keys, values, start, end)
            for keys, values in zip(buffers[:num_layers], buffers[num_layers:], strict=True)
        ]
        logits: torch.Tensor = model(
            input_ids=tokens_BT,
            position_ids=positions_BT,
            attention_mask=mask_11TS,
            past_key_values=Cache(layers=layers),
            use_cache=True,
        ).logits
        return logits

    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        try:
            traced: TracedForward = _jit.trace(forward, inputs, check_trace=False)
        except (RuntimeError, AttributeError):
            return None
    return None if any(_is_branch(warning) for warning in found) else traced


def _is_branch(warning: warnings.WarningMessage) -> bool:
    """Whether it says that Python looked at a tensor. transformers' attention does so, but at sizes alone,
    to choose between equal ways."""
    return issubclass(warning.category, _jit.TracerWarning) and not warning.filename.endswith(
        "sdpa_attention.py"
    )
