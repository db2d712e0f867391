"""A function of a model's forward recorded once on the CPU and replayed without Python.

Decoding with a small model is bound by the host: of 3.6 ms that a token takes in a 16-layer model of
width 192, half goes to Python between the operations (docs/benchmarks). TorchScript's interpreter
runs the same operations, one after another, from a recording. One recording serves all numbers of
rows and tokens and all lengths, because sizes are recorded as sizes of the inputs and the cache's buffers
are inputs, too.

A recording holds one side of every branch, so none is made of a model that looks at its tensors'
values (some mixtures of experts do), and one is used only after it gave the same results bit for bit.
Without one, the function itself is called. TorchScript is deprecated in torch 2.13; where it is gone, that
is what happens.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch

_jit: Any = torch.jit  # without type hints

Tensors = tuple[torch.Tensor, ...]


def record(function: Callable[..., Any], samples: Sequence[Tensors]) -> Callable[..., Any] | None:
    """A recording of a function of tensors, which may change them in place, made on the first sample; None
    where it differs from the function on any of the others."""
    traced = _trace(function, _copies(samples[0]))
    if traced is None or not all(_same(traced, function, sample) for sample in samples[1:]):
        return None
    return traced  # type: ignore[no-any-return]


def _trace(function: Callable[..., Any], inputs: Tensors) -> Any:
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


def _copies(tensors: Tensors) -> Tensors:
    return tuple(tensor.clone() for tensor in tensors)


def _same(traced: Any, function: Callable[..., Any], sample: Tensors) -> bool:
    """Results and changed inputs alike."""
    own_inputs, inputs = _copies(sample), _copies(sample)
    own = function(*own_inputs)
    try:
        found = traced(*inputs)
    except RuntimeError:  # a size that was recorded as a number
        return False
    results = ([own], [found]) if isinstance(own, torch.Tensor) else (own, found)
    pairs = zip([*results[0], *own_inputs], [*results[1], *inputs], strict=True)
    return all(torch.equal(one.nan_to_num(), other.nan_to_num()) for one, other in pairs)
