"""Log-probabilities over a large vocabulary whose logits never stand side by side: slices of it, and sums
over them.

Shapes: N rows, T of them in a chunk, V vocabulary, C ids of a slice, D hidden size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn import functional as F

from bitdraft.engine.acceptance import exact_dtype
from bitdraft.engine.runner import Runner

TILE_ROWS = 1024
SLICE_IDS = {"cpu": 1024, "cuda": 16_384}
"""A tile of logits and its weights stay in a processor's cache; a GPU wants fewer and larger products"""


def slices_of(
    models: Sequence[tuple[Runner, torch.Tensor]], chunk_tokens: int
) -> Iterator[tuple[slice, int, list[torch.Tensor]]]:
    """(rows, first id, logits T × C of each model in float32) of hidden states N × D: for each slice of the
    vocabulary all rows, so that its weights are read once. A head that is no plain product gives all logits
    of `chunk_tokens` at once."""
    num_rows = len(models[0][1])
    heads = [runner.model.get_output_embeddings() for runner, _ in models]
    sizes = {runner.vocab_size for runner, _ in models}
    is_plain = all(type(head) is torch.nn.Linear and _is_tensor(head.weight) for head in heads)
    is_plain = is_plain and len(sizes) == 1
    if not is_plain or any(runner.vocabulary is not None for runner, _ in models):
        for start in range(0, num_rows, chunk_tokens):
            rows = slice(start, start + chunk_tokens)
            yield rows, 0, [runner.head(states[rows]).float() for runner, states in models]
        return
    kind = models[0][0].device.type
    num_ids = SLICE_IDS.get(kind, SLICE_IDS["cpu"])
    for first in range(0, sizes.pop(), num_ids):
        ids = slice(first, first + num_ids)
        cut = [(head.weight[ids], None if head.bias is None else head.bias[ids]) for head in heads]
        for start in range(0, num_rows, TILE_ROWS):
            rows = slice(start, start + TILE_ROWS)
            found = [
                F.linear(states[rows], *own).float() for (_, states), own in zip(models, cut, strict=True)
            ]
            yield rows, first, found


def _is_tensor(weight: Any) -> bool:
    """And nothing that computes in its own way."""
    return type(weight) in (torch.Tensor, torch.nn.Parameter)


class Sums:
    """What is known of N rows of logits from the slices of the vocabulary that were seen: the largest logit
    and its id, the sum of exponentials above it, and the target's logit. Sums are doubles."""

    def __init__(self, targets_N: torch.Tensor) -> None:
        self.targets_N = targets_N
        wide = exact_dtype(targets_N.device)
        self.largest_N = torch.full(targets_N.shape, -torch.inf, device=targets_N.device)
        self.top_N = torch.zeros_like(targets_N)
        self.total_N = torch.zeros(targets_N.shape, device=targets_N.device, dtype=wide)
        self.own_N = torch.zeros_like(self.total_N)
        self.is_finite_N = torch.ones_like(targets_N, dtype=torch.bool)

    def take(self, rows: slice, start: int, logits_TC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Add a slice, which is overwritten by its exponentials above the largest logit so far. (These,
        what sums of before are to be multiplied by.)"""
        largest_T, top_T = logits_TC.max(-1)
        # two passes over the logits are cheaper than one isfinite
        self.is_finite_N[rows] &= (logits_TC.amin(-1) - largest_T).isfinite()
        place_T = self.targets_N[rows] - start
        is_here_T = (place_T >= 0) & (place_T < logits_TC.shape[-1])
        own_T = logits_TC.gather(-1, place_T.clamp(0, logits_TC.shape[-1] - 1)[:, None]).squeeze(-1)
        self.own_N[rows] = torch.where(is_here_T, own_T.to(self.own_N.dtype), self.own_N[rows])
        before_T = self.largest_N[rows]
        self.top_N[rows] = torch.where(largest_T > before_T, top_T + start, self.top_N[rows])
        now_T = torch.maximum(before_T, largest_T)
        scale_T = (before_T - now_T).to(self.total_N.dtype).exp()
        self.largest_N[rows] = now_T
        above_TC = logits_TC.sub_(now_T[:, None]).exp_()
        self.total_N[rows] = self.total_N[rows] * scale_T + above_TC.sum(-1)
        return above_TC, scale_T

    @property
    def log_total_N(self) -> torch.Tensor:
        """Log of the sum of all exponentials."""
        found: torch.Tensor = self.largest_N + self.total_N.log()
        return found

    @property
    def log_prob_N(self) -> torch.Tensor:
        """Natural-log probability of each target."""
        return self.own_N - self.log_total_N
