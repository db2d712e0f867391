"""Teacher-forced log-probabilities of given tokens, with logits a chunk at a time.

Shapes: T tokens of a chunk, V vocabulary, N tokens of a window.

Where a model's logits are its output embedding of its hidden states, the window goes through the
layers once, without a cache, and through the embedding in chunks; positions that are only context
get no logits. Other models go through the cache chunk by chunk. Either way memory for logits grows
with the chunk and not with window × vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch.nn import functional as F

from bitdraft.engine.runner import Runner, adapts_to_length
from bitdraft.errors import NonFiniteNumbers
from bitdraft.schema.records import Overflow

MOST_WINDOWS_AT_ONCE = 4


class NonFiniteLogits(NonFiniteNumbers):
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
    tokens_BT = runner.to_device(token_ids)
    cut = _plain_chunks if runner.head_is_plain(tokens_BT) else _cached_chunks
    for logits_TV, end in cut(runner, tokens_BT[:, :-1], first_scored - 1, chunk_tokens):
        start = end - logits_TV.shape[0]
        # two passes over the logits are cheaper than one isfinite
        finite_T = (logits_TV.amin(-1) - logits_TV.amax(-1)).isfinite()
        if not finite_T.all():
            raise NonFiniteLogits(start + int((~finite_T).nonzero()[0]))
        yield logits_TV.float(), tokens_BT[0, start + 1 : end + 1]


def _plain_chunks(
    runner: Runner, tokens_BN: torch.Tensor, first: int, chunk_tokens: int
) -> Iterator[tuple[torch.Tensor, int]]:
    """(logits_TV, end of the chunk) for positions `first` to N, from one forward."""
    states_ND = runner.hidden_states(tokens_BN)[0]
    for start in range(first, len(states_ND), chunk_tokens):
        states_TD = states_ND[start : start + chunk_tokens]
        yield runner.head(states_TD), start + len(states_TD)


def _cached_chunks(
    runner: Runner, tokens_BN: torch.Tensor, first: int, chunk_tokens: int
) -> Iterator[tuple[torch.Tensor, int]]:
    """The same from a forward a chunk through the cache."""
    num_tokens = tokens_BN.shape[1]
    runner.start(num_tokens)
    for start in range(0, num_tokens, chunk_tokens):
        end = min(start + chunk_tokens, num_tokens)
        num_scored = min(end - start, end - first)
        logits_TV = runner.forward(tokens_BN[:, start:end], max(1, num_scored))[0]
        if num_scored > 0:
            yield logits_TV, end


def log_prob_of(logits_TV: torch.Tensor, targets_T: torch.Tensor) -> torch.Tensor:
    """Natural-log probability of each target."""
    return -F.cross_entropy(logits_TV, targets_T, reduction="none")


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


def score_windows(
    runner: Runner, windows: Sequence[tuple[Sequence[int], int]], chunk_tokens: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """`score_window` of every (token_ids, first_scored), in order.

    On a CPU several windows are under way at once, each on its share of the threads: a window's small
    operations don't fill the cores. Models that need the cache, and other devices, take one at a time.
    """
    num_threads = torch.get_num_threads()
    num_workers = min(num_threads, MOST_WINDOWS_AT_ONCE, len(windows))
    with torch.inference_mode():
        plain = runner.head_is_plain(runner.to_device(windows[0][0]))
    if runner.device.type != "cpu" or not plain or num_workers < 2 or adapts_to_length(runner.model):
        for token_ids, first_scored in windows:
            yield score_window(runner, token_ids, first_scored, chunk_tokens)
        return
    share = num_threads // num_workers
    torch.set_num_threads(share)
    pool = ThreadPoolExecutor(num_workers, initializer=torch.set_num_threads, initargs=(share,))
    try:
        yield from pool.map(lambda window: score_window(runner, window[0], window[1], chunk_tokens), windows)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(num_threads)


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
        divergences.append(kl_of_logits(reference_TV, candidate_TV))
    return torch.cat(divergences).clamp_min(0).cpu()


def kl_of_logits(reference_TV: torch.Tensor, candidate_TV: torch.Tensor) -> torch.Tensor:
    """KL(reference ‖ candidate) in nats at every position; rounding may take it just below zero."""
    log_p_TV, log_q_TV = reference_TV.log_softmax(-1), candidate_TV.log_softmax(-1)
    return (log_p_TV.exp() * (log_p_TV - log_q_TV)).sum(-1)


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
                found.append((name, runner.cache.length + int(tokens[0])))

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
