"""A long window's MLPs a stretch of tokens at a time: their inner states, several times as wide as the hidden
ones, are what most memory of a forward goes to, and each token's are its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

TOKENS_AT_ONCE = 256


@contextmanager
def narrow_mlps(model: Any) -> Iterator[None]:
    """Within, every module called `mlp` that makes one tensor of one takes few tokens at once."""
    patched = [
        module
        for name, module in model.named_modules()
        if name.endswith(".mlp") and "forward" not in vars(module)
    ]
    for module in patched:
        module.forward = _in_stretches(module.forward)
    try:
        yield
    finally:
        for module in patched:
            del module.forward


def _in_stretches(forward: Any) -> Any:
    def narrow(states_BND: torch.Tensor, *more: Any, **settings: Any) -> Any:
        if more or settings or states_BND.ndim != 3 or states_BND.shape[1] <= TOKENS_AT_ONCE:
            return forward(states_BND, *more, **settings)
        found_BND = None
        for start in range(0, states_BND.shape[1], TOKENS_AT_ONCE):
            rows = slice(start, start + TOKENS_AT_ONCE)
            part_BND = forward(states_BND[:, rows].contiguous())
            if not isinstance(part_BND, torch.Tensor) or part_BND.ndim != 3:
                return forward(states_BND)  # a mixture of experts that also tells its router's choices
            if found_BND is None:
                found_BND = part_BND.new_empty(*states_BND.shape[:2], part_BND.shape[-1])
            found_BND[:, rows] = part_BND
        return found_BND

    return narrow
