"""Which drafted tokens are kept, and the token that follows them. Pure functions over tensors.

Greedy: the longest prefix that agrees with the target's own choices, then its next choice.
Sampling (Leviathan et al. 2023, Chen et al. 2023): a token x drawn from the draft's q is kept with
probability min(1, p(x)/q(x)); the first one refused is replaced by a draw from the normalised
max(0, p − q); after K kept tokens one more is drawn from p. What comes out is distributed as p.

Shapes: K drafted tokens, T = K + 1 positions that the target scores, V vocabulary; `...` none or more
leading dimensions, the rows of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from bitdraft.config import SamplingConfig


def is_on_host(logits: torch.Tensor) -> bool:
    """Whether numpy can look at them where they lie."""
    return logits.device.type == "cpu" and logits.dtype == torch.float32


def most_probable(logits_TV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(largest logits, their ids), each `...`; the first of equals. A row with a number that isn't finite
    gives it.

    On a CPU fp32 goes through numpy, in the calling thread: a reduction that torch shares among its threads
    leaves them spinning, which slows who computes next with threads of its own.
    """
    if not is_on_host(logits_TV):
        top, index = logits_TV.max(-1)
        return top, index
    index = torch.from_numpy(np.asarray(logits_TV.numpy().argmax(-1)))
    return logits_TV.gather(-1, index[..., None]).squeeze(-1), index


def accept_greedy(
    drafted_K: torch.Tensor, choices_T: torch.Tensor, offered_K: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(number of kept tokens, next token), each `...`, from the target's argmax at every position.

    Drafted tokens that are not `offered` (the last ones, where fewer than K fit) are never kept.
    """
    agrees_K = choices_T[..., :-1] == drafted_K
    if offered_K is not None:
        agrees_K &= offered_K
    num_kept = agrees_K.cumprod(-1).sum(-1)
    return num_kept, choices_T.gather(-1, num_kept[..., None]).squeeze(-1)


def outcomes(
    drafted_K: torch.Tensor, q_KV: torch.Tensor, p_TV: torch.Tensor, offered_K: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Probability of keeping exactly 0 … K tokens (T), and the law of the next token for each (T × V).

    A token that is not `offered` is refused, and what follows in its place is drawn from p.
    """
    column_K1 = drafted_K[..., None]
    p_KV = p_TV[..., :-1, :]
    ratio_K = (p_KV.gather(-1, column_K1) / q_KV.gather(-1, column_K1)).squeeze(-1).clamp(max=1)
    if offered_K is not None:
        ratio_K = torch.where(offered_K, ratio_K, 0)
        q_KV = torch.where(offered_K[..., None], q_KV, 0)
    one = p_TV.new_ones(()).expand(*drafted_K.shape[:-1], 1)
    reached_T = torch.cat([one, ratio_K.cumprod(-1)], -1)
    stop_T = reached_T * torch.cat([1 - ratio_K, one], -1)
    residual_KV = (p_KV - q_KV).clamp(min=0)
    mass_K1 = residual_KV.sum(-1, keepdim=True)
    # where p = q nothing is ever refused, and rounding must not divide by zero
    residual_KV = torch.where(mass_K1 > 0, residual_KV / mass_K1, p_KV)
    return stop_T, torch.cat([residual_KV, p_TV[..., -1:, :]], -2)


def exact_dtype(device: torch.device) -> torch.dtype:
    """In which draws are made."""
    return torch.float32 if device.type == "mps" else torch.float64  # which Metal lacks


def draw(weights_V: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """One index a row, `...`, with probability proportional to its weight: where the cumulative weights
    pass a uniform number from [0, 1)."""
    cumulative_V = weights_V.to(exact_dtype(weights_V.device)).cumsum(-1)
    wanted_1 = uniform[..., None].to(cumulative_V) * cumulative_V[..., -1:]
    # first entry above it, so that an entry without weight is never drawn
    index = torch.searchsorted(cumulative_V, wanted_1, right=True).squeeze(-1)
    return index.clamp(max=weights_V.shape[-1] - 1)


def accept_sampled(
    drafted_K: torch.Tensor,
    q_KV: torch.Tensor,
    p_TV: torch.Tensor,
    uniforms_2: torch.Tensor,
    offered_K: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(number of kept tokens, next token), each `...`, drawn with two uniform numbers a row."""
    stop_T, next_TV = outcomes(drafted_K, q_KV, p_TV, offered_K)
    num_kept = draw(stop_T, uniforms_2[..., 0])
    place_1V = num_kept[..., None, None].expand(*num_kept.shape, 1, next_TV.shape[-1])
    return num_kept, draw(next_TV.gather(-2, place_1V).squeeze(-2), uniforms_2[..., 1])


@dataclass(frozen=True)
class Sampler:
    """How tokens are drawn; the same processing for draft and target. Only for temperatures above zero."""

    config: SamplingConfig

    def probabilities(self, logits_TV: torch.Tensor) -> torch.Tensor:
        """Float32 probabilities after temperature, top-k and top-p, in this order.

        Rows that are not finite become uniform: who called finds them by their logits.
        """
        scaled_TV = logits_TV.float()
        # the largest first taken off: a tiny temperature must not divide to infinity
        scaled_TV = (scaled_TV - scaled_TV.amax(-1, keepdim=True)) / self.config.temperature
        if self.config.top_k is not None and self.config.top_k < scaled_TV.shape[-1]:
            # exactly k: of equals at the edge the first ones, as argmax has it
            least_T1 = scaled_TV.topk(self.config.top_k).values[..., -1:]
            above_TV, equal_TV = scaled_TV > least_T1, scaled_TV == least_T1
            room_T1 = self.config.top_k - above_TV.sum(-1, keepdim=True)
            kept_TV = above_TV | (equal_TV & (equal_TV.cumsum(-1, dtype=torch.int32) <= room_T1))
            scaled_TV = scaled_TV.masked_fill(~kept_TV, -torch.inf)
        if self.config.top_p is not None and self.config.top_p < 1:
            ordered_TV, index_TV = scaled_TV.sort(descending=True, stable=True)
            p_TV = ordered_TV.softmax(-1)
            # a token goes when the more probable ones already hold top_p; the first never does
            outside_TV = p_TV.cumsum(-1) - p_TV >= self.config.top_p
            outside_TV[..., 0] = False
            scaled_TV = scaled_TV.masked_fill(
                torch.zeros_like(outside_TV).scatter(-1, index_TV, outside_TV), -torch.inf
            )
        return scaled_TV.softmax(-1).nan_to_num(nan=1 / scaled_TV.shape[-1])


class UniformStream:
    """A run's uniform numbers, laid out by step, so that every way of running it draws the same: one for
    the first token, then for each step K for the drafted tokens, one for how many are kept, one for the
    token behind them."""

    def __init__(self, seed: int, num_steps: int, k: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        numbers = torch.rand(1 + num_steps * (k + 2), generator=generator, dtype=torch.float64)
        self.first = numbers[:1]
        self.by_step = numbers[1:].view(num_steps, k + 2)
