"""A model's forward recorded once on the CPU and replayed without Python.

Decoding with a small model is bound by the host: of 3.6 ms that a token takes in a 16-layer model of
width 192, half goes to Python between the operations (docs/benchmarks). TorchScript's interpreter
runs the same operations, one after another, from a recording. One recording serves all numbers of
rows and tokens and all lengths, because sizes are recorded as sizes of the inputs and the cache's buffers
are inputs, too.

A recording holds one side of every branch, so none is made of a model that looks at its tensors'
values (some mixtures of experts do), and one is used only after it gave the model's logits bit for
bit. Without one, every forward goes through the model itself. TorchScript is deprecated in torch 2.13;
where it is gone, that is what happens.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from bitdraft.engine.static.forward import StaticForward

_jit: Any = torch.jit  # without type hints


def trace(function: Callable[..., torch.Tensor], inputs: tuple[torch.Tensor, ...]) -> Any:
    """None where it can't be recorded, or where Python looked at a tensor meanwhile."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        try:
            traced = _jit.trace(function, inputs, check_trace=False)
        except (RuntimeError, AttributeError):
            return None
    return None if any(_is_branch(warning) for warning in found) else traced


def _is_branch(warning: warnings.WarningMessage) -> bool:
    """Whether it says that Python looked at a tensor. transformers' attention does so, but at sizes alone,
    to choose between equal ways."""
    return issubclass(warning.category, _jit.TracerWarning) and not warning.filename.endswith(
        "sdpa_attention.py"
    )


def record(forward: StaticForward, num_rows: int, num_tokens: int) -> Any:
    """A recording of a forward whose logits are the model's own, at other sizes than its own; else None.

    Made and compared on buffers of its own, at sizes that take the same way through model and kernels.
    """
    if num_tokens == 1:
        recorded, *compared = ((4, 1), (3, 1), (5, 1)) if num_rows > 2 else ((2, 1), (1, 1), (2, 1))
    elif num_rows * num_tokens > 2:
        recorded, *compared = (2, 2), (2, 3), (1, 4), (3, 2)
    else:
        recorded, *compared = (1, 2), (1, 2)
    traced = trace(forward.plain, _inputs(forward, *recorded, 64))
    for place, (rows, tokens) in enumerate(compared):
        inputs = _inputs(forward, rows, tokens, 32 + 64 * place)
        if traced is None or not _same(traced, forward.plain, inputs):
            return None
    return traced


def _same(traced: Any, plain: Any, inputs: tuple[torch.Tensor, ...]) -> bool:
    try:
        replayed: torch.Tensor = traced(*inputs)
    except RuntimeError:  # a size that was recorded as a number
        return False
    return torch.equal(replayed.nan_to_num(), plain(*inputs).nan_to_num())


def _inputs(forward: StaticForward, num_rows: int, num_tokens: int, span: int) -> tuple[torch.Tensor, ...]:
    """Rows of different lengths, their past empty."""
    num_ids: int = forward.model.config.get_text_config().vocab_size
    device, capacity = forward.device, span + 8
    starts_B1 = 1 + 3 * torch.arange(num_rows, device=device)[:, None]
    positions_BT = starts_B1 + torch.arange(num_tokens, device=device)
    buffers = [
        torch.zeros(num_rows, capacity, heads, size, dtype=dtype, device=device)
        for heads, size, dtype in forward._shapes
    ]
    offsets_B1 = torch.arange(num_rows, device=device)[:, None] * capacity
    return (7 * positions_BT + 1) % num_ids, positions_BT, offsets_B1, torch.arange(span, device=device), *buffers
