"""What a draft would have done on a text that the target wrote: one teacher-forced forward each.

Shapes: N output tokens, T of them in a chunk, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bitdraft.config import SamplingConfig
from bitdraft.engine.acceptance import Sampler
from bitdraft.engine.scoring import window_logits
from bitdraft.engine.token_model import TokenModel

CHUNK_TOKENS = 256


@torch.inference_mode()
def greedy_agreement(
    draft: TokenModel, prompt: Sequence[int], output: Sequence[int]
) -> tuple[list[bool], list[float]]:
    """For each output token: is it the draft's argmax, and by what logit does that argmax lead?

    Raises `NonFiniteLogits`.
    """
    agrees: list[bool] = []
    leads: list[float] = []
    for logits_TV, targets_T in window_logits(draft, [*prompt, *output], len(prompt), CHUNK_TOKENS):
        top_T2, index_T2 = logits_TV.topk(2)
        agrees += (index_T2[:, 0] == targets_T).tolist()
        leads += (top_T2[:, 0] - top_T2[:, 1]).tolist()
    return agrees, leads


@torch.inference_mode()
def sampled_agreement(
    target: TokenModel,
    draft: TokenModel,
    prompt: Sequence[int],
    output: Sequence[int],
    sampling: SamplingConfig,
) -> tuple[list[float], list[float]]:
    """For each output token x: the probability min(1, q(x)/p(x)) that it came out as a kept draft
    token rather than as the target's own, and the overlap Σ min(p, q) at its place.

    The joint law of rejection sampling gives the first: a text x is kept as drafted with
    min(p, q)(x), and written by the target instead with p(x) − min(p, q)(x). Raises `NonFiniteLogits`.
    """
    sampler = Sampler(sampling)
    ids = [*prompt, *output]
    keeps: list[float] = []
    overlaps: list[float] = []
    pairs = ((target, draft), (draft, target))
    chunks = (window_logits(one, ids, len(prompt), CHUNK_TOKENS, (other,)) for one, other in pairs)
    for (target_TV, targets_T), (draft_TV, _) in zip(*chunks, strict=True):
        p_TV, q_TV = sampler.probabilities(target_TV), sampler.probabilities(draft_TV)
        column_T1 = targets_T[:, None].to(p_TV.device)
        p_T, q_T = p_TV.gather(1, column_T1), q_TV.gather(1, column_T1)
        # a token outside the target's cut can only come from rounding between two shapes of forward
        keeps += torch.where(p_T > 0, q_T / p_T, 0).clamp(max=1).squeeze(1).tolist()
        overlaps += torch.minimum(p_TV, q_TV).sum(-1).tolist()
    return keeps, overlaps
