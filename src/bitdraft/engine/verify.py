"""Which drafted tokens are kept, and the token that follows them. Pure functions over tensors.

Greedy: the longest prefix that agrees with the target's own choices, then its next choice.
Sampling (Leviathan et al. 2023, Chen et al. 2023): a token x drawn from the draft's q is kept with
probability min(1, p(x)/q(x)); the first one refused is replaced by a draw from the normalised
max(0, p − q); after K kept tokens one more is drawn from p. What comes out is distributed as p.

Shapes: K drafted tokens, T = K + 1 positions that the target scores, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bitdraft.config import SamplingConfig


def accept_greedy(drafted_K: torch.Tensor, choices_T: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(number of kept tokens, next token) from the target's argmax at every position."""
    num_kept = (choices_T[:-1] == drafted_K).cumprod(0).sum()
    return num_kept, choices_T[num_kept]


def outcomes(
    drafted_K: torch.Tensor, q_KV: torch.Tensor, p_TV: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Probability of keeping exactly 0 … K tokens (T), and the law of the next token for each (T × V)."""
    column_K1 = drafted_K[:, None]
    ratio_K = (p_TV[:-1].gather(1, column_K1) / q_KV.gather(1, column_K1)).squeeze(1).clamp(max=1)
    one = ratio_K.new_ones(1)
    reached_T = torch.cat([one, ratio_K.cumprod(0)])
    stop_T = reached_T * torch.cat([1 - ratio_K, one])
    residual_KV = (p_TV[:-1] - q_KV).clamp(min=0)
    mass_K1 = residual_KV.sum(-1, keepdim=True)
    # where p = q nothing is ever refused, and rounding must not divide by zero
    residual_KV = torch.where(mass_K1 > 0, residual_KV / mass_K1, p_TV[:-1])
    return stop_T, torch.cat([residual_KV, p_TV[-1:]])


def accept_sampled(
    drafted_K: torch.Tensor, q_KV: torch.Tensor, p_TV: torch.Tensor, generator: torch.Generator | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(number of kept tokens, next token), drawn."""
    stop_T, next_TV = outcomes(drafted_K, q_KV, p_TV)
    num_kept = stop_T.multinomial(1, generator=generator)[0]
    return num_kept, next_TV[num_kept].multinomial(1, generator=generator)[0]


@dataclass(frozen=True)
class Sampler:
    """Draws tokens; the same processing for draft and target. Only for temperatures above zero."""

    config: SamplingConfig
    generator: torch.Generator | None

    def probabilities(self, logits_TV: torch.Tensor) -> torch.Tensor:
        """Float32 probabilities after temperature, top-k and top-p, in this order.

        Rows that are not finite become uniform: who called finds them by their logits.
        """
        scaled_TV = logits_TV.float()
        # the largest first taken off: a tiny temperature must not divide to infinity
        scaled_TV = (scaled_TV - scaled_TV.amax(-1, keepdim=True)) / self.config.temperature
        if self.config.top_k is not None and self.config.top_k < scaled_TV.shape[-1]:
            least_T1 = scaled_TV.topk(self.config.top_k).values[..., -1:]
            scaled_TV = scaled_TV.masked_fill(scaled_TV < least_T1, -torch.inf)
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

    def draw(self, probs_TV: torch.Tensor) -> torch.Tensor:
        """One token a row, T."""
        return probs_TV.multinomial(1, generator=self.generator).squeeze(-1)
