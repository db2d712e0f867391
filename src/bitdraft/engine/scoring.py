"""Teacher-forced log-probabilities of given tokens, in chunks.

Shapes: T tokens of a chunk, V vocabulary.

A window goes through the cache `chunk_tokens` at a time, so that logits, activations and therefore
peak memory grow with the chunk and not with window × vocabulary, and the activations of a chunk
stay in the processor's cache. Positions that are only context get no logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from bitdraft.engine.runner import Runner
from bitdraft.results import Overflow


class NonFiniteLogits(Exception):
    """A chunk's logits are not all finite; `position` is the first bad one's place in the window."""

    def __init__(self, position: int) -> None:
        super().__init__(f"non-finite logits at position {position}")
        self.position = position


def window_logits(
    runner: Runner, token_ids: Sequence[int], first_scored: int, chunk_tokens: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(logits_TV in float32, targets_T) for the tokens from index `first_scored` (≥ 1) to the end.

    Raises `NonFiniteLogits`.
    """
    assert 1 <= first_scored < len(token_ids)
    fed = len(token_ids) - 1
    runner.start(fed)
    tokens_BT = runner.to_device(token_ids)
    for start in range(0, fed, chunk_tokens):
        end = min(start + chunk_tokens, fed)
        num_scored = min(end - start, end - (first_scored - 1))
        logits_TV = runner.forward(tokens_BT[:, start:end], max(1, num_scored))[0]
        if num_scored < 1:
            continue
        finite_T = logits_TV.isfinite().all(-1)
        if not finite_T.all():
            raise NonFiniteLogits(end - num_scored + int((~finite_T).nonzero()[0]))
        yield logits_TV.float(), tokens_BT[0, end - num_scored + 1 : end + 1]


def log_prob_of(logits_TV: torch.Tensor, targets_T: torch.Tensor) -> torch.Tensor:
    """Natural-log probability of each target."""
    chosen_T = logits_TV.gather(1, targets_T[:, None])[:, 0]
    return chosen_T - logits_TV.logsumexp(-1)


@torch.inference_mode()
def score_window(
    runner: Runner, token_ids: Sequence[int], first_scored: int, chunk_tokens: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """(log-probabilities, argmax ids) of the scored tokens, on the host."""
    log_probs, top1s = [], []
    for logits_TV, targets_T in window_logits(runner, token_ids, first_scored, chunk_tokens):
        log_probs.append(log_prob_of(logits_TV, targets_T))
        top1s.append(logits_TV.argmax(-1))
    return torch.cat(log_probs).cpu(), torch.cat(top1s).cpu()


@torch.inference_mode()
def kl_of_window(
    reference: Runner, candidate: Runner, token_ids: Sequence[int], first_scored: int, chunk_tokens: int
) -> torch.Tensor:
    """KL(reference ‖ candidate) in nats at every scored position, on the host; both in lockstep."""
    divergences = []
    pairs = zip(
        window_logits(reference, token_ids, first_scored, chunk_tokens),
        window_logits(candidate, token_ids, first_scored, chunk_tokens),
        strict=True,
    )
    for (reference_TV, _), (candidate_TV, _) in pairs:
        log_p, log_q = reference_TV.log_softmax(-1), candidate_TV.log_softmax(-1)
        divergences.append((log_p.exp() * (log_p - log_q)).sum(-1))
    return torch.cat(divergences).clamp_min(0).cpu()


@torch.inference_mode()
def locate_overflow(
    runner: Runner, token_ids: Sequence[int], first_scored: int, chunk_tokens: int, window: int
) -> Overflow:
    """Run a window again and name the first module, in execution order, whose output is not finite."""
    found: list[tuple[str, int]] = []

    def watch(name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            tensor = output[0] if isinstance(output, tuple) else output
            if found or not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
                return
            bad = ~tensor.isfinite()
            if tensor.ndim >= 3 and bad.any():
                tokens = bad[0].flatten(1).any(-1).nonzero()
                found.append((name, runner.cache.lengths[0] + int(tokens[0])))

        return hook

    hooks = [m.register_forward_hook(watch(n)) for n, m in runner.model.named_modules() if n]
    try:
        for _ in window_logits(runner, token_ids, first_scored, chunk_tokens):
            pass
    except NonFiniteLogits as error:
        found.append(("logits", error.position))
    finally:
        for handle in hooks:
            handle.remove()
    layer, position = found[0]
    return Overflow(layer=layer, window=window, position=position)
