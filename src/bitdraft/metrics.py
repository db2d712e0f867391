"""Every printed number, from the raw records. Definitions: docs/metrics.md.

Speed comes from `Generation` records, quality from per-token log-probabilities gathered into
`ScoreBlocks`. Nothing here needs torch.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitdraft.results import Figure, Generation, ScoreBlocks
from bitdraft.stats import median_figure, ratio_of_rates, ratio_of_sums

BLOCK_TOKENS = 256
GIB = 2**30
_LARGEST_LOG = 700.0  # e to this is still a finite float


def request_seconds(generation: Generation) -> float:
    """Submission to last emission, s."""
    return generation.emissions[-1][0] - generation.submit_s


def batch_seconds(generations: Sequence[Generation]) -> float:
    """Of prompts that were decoded at once: submission to the last emission of any, s."""
    return max(g.emissions[-1][0] for g in generations) - min(g.submit_s for g in generations)


def ttft_ms(generation: Generation) -> float:
    return 1000 * (generation.emissions[0][0] - generation.submit_s)


def decode_span(generation: Generation) -> tuple[float, int]:
    """(seconds, tokens) after the first emission."""
    (first_s, first_tokens), (last_s, _) = generation.emissions[0], generation.emissions[-1]
    return last_s - first_s, len(generation.token_ids) - first_tokens


def inter_token_ms(generation: Generation) -> list[float]:
    """Gaps between emissions, ms; a gap that carries several tokens is one sample."""
    times = [time_s for time_s, _ in generation.emissions]
    return [1000 * (after - before) for before, after in pairwise(times)]


def speed_figures(generations: Sequence[Generation], seed: int = 0) -> dict[str, Figure]:
    """Throughput, TTFT and, where more than one emission was seen, TPOT and inter-token latency."""
    tokens = [len(g.token_ids) for g in generations]
    seconds = [request_seconds(g) for g in generations]
    figures = {
        "throughput_tok_s": ratio_of_sums(tokens, seconds, seed),
        "ttft_ms": median_figure([ttft_ms(g) for g in generations], seed),
    }
    spans = [decode_span(g) for g in generations if len(g.emissions) > 1]
    if spans:
        span_s, span_tokens = zip(*spans, strict=True)
        gaps = [inter_token_ms(g) for g in generations if len(g.emissions) > 1]
        pooled = np.concatenate(gaps)
        figures["tpot_ms"] = ratio_of_sums(np.asarray(span_s) * 1000, span_tokens, seed)
        figures["decode_tok_s"] = ratio_of_sums(span_tokens, span_s, seed)
        figures["itl_ms"] = median_figure([float(np.median(g)) for g in gaps], seed)
        for percent in (50, 95, 99):
            value = float(np.percentile(pooled, percent))
            figures[f"itl_p{percent}_ms"] = Figure(value=value, n=pooled.size)
    return figures


def decode_bytes(generation: Generation, weight_bytes: int, kv_bytes_per_token: int) -> float:
    """Bytes that plain decode steps stream: weights once a step, and keys and values of a cache that
    grows by a token a step."""
    _, num_steps = decode_span(generation)
    mean_context = generation.prompt_tokens + (num_steps + 1) / 2
    return num_steps * (weight_bytes + kv_bytes_per_token * mean_context)


def speculation_bytes(
    generation: Generation, target: tuple[int, int], draft: tuple[int, int] | None
) -> float:
    """Bytes that speculative steps stream: the target's weights and cache once a verification, the
    draft's once a drafted token. Each pair is (weight bytes, key-value bytes per token); prompt lookup
    streams nothing of its own."""
    _, num_tokens = decode_span(generation)
    context = generation.prompt_tokens + (num_tokens + 1) / 2
    total = len(generation.steps) * (target[0] + target[1] * context)
    if draft is not None:
        total += sum(step.num_drafted for step in generation.steps) * (draft[0] + draft[1] * context)
    return total


def bandwidth_utilisation(
    generations: Sequence[Generation], streamed_bytes: Sequence[float], copy_bytes_s: float, seed: int = 0
) -> Figure | None:
    """Bytes that the steps must stream / time they took / measured copy bandwidth."""
    seconds = [decode_span(generation)[0] for generation in generations]
    ideal_s = [num_bytes / copy_bytes_s for num_bytes in streamed_bytes]
    return ratio_of_sums(ideal_s, seconds, seed) if sum(seconds) > 0 else None


def speed_ratio(generations: Sequence[Generation], base: Sequence[Generation], seed: int = 0) -> Figure:
    """Throughput of the first over that of the second, prompts paired by index."""
    return ratio_of_rates(
        [len(g.token_ids) for g in generations],
        [request_seconds(g) for g in generations],
        [len(g.token_ids) for g in base],
        [request_seconds(g) for g in base],
        seed,
    )


def decode_speed_ratio(
    generations: Sequence[Generation], base: Sequence[Generation], seed: int = 0
) -> Figure | None:
    """The same for the time after the first emission alone; None where nothing came after it."""
    spans, base_spans = ([decode_span(g) for g in side] for side in (generations, base))
    if not all(seconds > 0 for seconds, _ in [*spans, *base_spans]):
        return None
    return ratio_of_rates(
        [tokens for _, tokens in spans],
        [seconds for seconds, _ in spans],
        [tokens for _, tokens in base_spans],
        [seconds for seconds, _ in base_spans],
        seed,
    )


def step_tokens(generation: Generation) -> int:
    """Output tokens that came from verifications: all but the prefill's, where that is no verification."""
    emissions = generation.emissions[len(generation.emissions) - len(generation.steps) :]
    return sum(num_tokens for _, num_tokens in emissions)


def speculation_figures(generations: Sequence[Generation], k: int, seed: int = 0) -> dict[str, Figure]:
    """Tokens per step, acceptance rate (τ − 1)/K, and the share of drafted tokens that were kept."""
    used = [g for g in generations if g.steps]
    if not used:
        return {}
    tokens, num_steps = [step_tokens(g) for g in used], [len(g.steps) for g in used]
    figures = {
        "tokens_per_step": ratio_of_sums(tokens, num_steps, seed),
        "acceptance_rate": ratio_of_sums(tokens, num_steps, seed, lambda tau: (tau - 1) / k),
    }
    # prompt lookup may draft nothing for a whole prompt, which then says nothing about acceptance
    drafting = [g.steps for g in used if any(step.num_drafted for step in g.steps)]
    if drafting:
        drafted = [sum(step.num_drafted for step in steps) for steps in drafting]
        kept = [sum(step.num_accepted for step in steps) for steps in drafting]
        figures["draft_acceptance"] = ratio_of_sums(kept, drafted, seed)
    return figures


def acceptance_by_position(generations: Sequence[Generation], k: int) -> list[dict[str, Any]]:
    """For i = 1 … K, among the steps that drafted at least i tokens: the share that kept the i-th, and
    the share of those that had kept the one before (None where there were none)."""
    steps = [step for generation in generations for step in generation.steps]
    table = []
    for place in range(1, k + 1):
        there = [step for step in steps if step.num_drafted >= place]
        before = sum(step.num_accepted >= place - 1 for step in there)
        kept = sum(step.num_accepted >= place for step in there)
        table.append(
            {
                "position": place,
                "n": len(there),
                "share": kept / len(there) if there else None,
                "conditional": kept / before if before else None,
            }
        )
    return table


def realised_k(generations: Sequence[Generation]) -> tuple[dict[str, int], int]:
    """How many steps drafted how many tokens, truncated steps apart; and the number of those."""
    steps = [step for generation in generations for step in generation.steps]
    counts = Counter(step.num_drafted for step in steps if not step.truncated)
    return {str(k): counts[k] for k in sorted(counts)}, sum(step.truncated for step in steps)


def block_lengths(num_tokens: int, document_lengths: Sequence[int] | None) -> tuple[int, ...]:
    """Documents where the normaliser is documents, else runs of 256 scored tokens."""
    if document_lengths is not None:
        assert sum(document_lengths) == num_tokens
        return tuple(document_lengths)
    full, rest = divmod(num_tokens, BLOCK_TOKENS)
    return (BLOCK_TOKENS,) * full + ((rest,) if rest else ())


def block_sums(values: NDArray[Any], lengths: Sequence[int]) -> NDArray[Any]:
    starts = np.concatenate(([0], np.cumsum(lengths)[:-1]))
    return np.add.reduceat(values, starts)


def score_blocks(
    log_prob: NDArray[Any],
    top1: NDArray[Any],
    lengths: Sequence[int],
    reference: tuple[NDArray[Any], NDArray[Any]] | None = None,
) -> ScoreBlocks:
    """Gather per-token scores (natural-log probabilities, argmax ids) into blocks."""
    own = log_prob.astype(np.float64)
    columns: dict[str, Any] = {"num_tokens": tuple(lengths), "log_prob": block_sums(own, lengths).tolist()}
    if reference is not None:
        other = reference[0].astype(np.float64)
        columns["reference_log_prob"] = block_sums(other, lengths).tolist()
        columns["num_same_top1"] = block_sums((top1 == reference[1]).astype(np.int64), lengths).tolist()
        columns["delta_p_squared"] = block_sums((np.exp(own) - np.exp(other)) ** 2, lengths).tolist()
    return ScoreBlocks(**columns)


def _mean_weights(blocks: ScoreBlocks, normaliser: str) -> NDArray[np.float64]:
    """Denominators that make Σ log-prob / Σ weight the mean by token or by document."""
    tokens = np.asarray(blocks.num_tokens, float)
    return np.ones_like(tokens) if normaliser == "documents" else tokens


def _per_weight(blocks: ScoreBlocks, column: Sequence[float], normaliser: str) -> NDArray[np.float64]:
    values = np.asarray(column, float)
    return values / np.asarray(blocks.num_tokens) if normaliser == "documents" else values


def _exp_negative(mean: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.exp(np.minimum(-mean, _LARGEST_LOG)))


def perplexity(blocks: ScoreBlocks, normaliser: str = "tokens", seed: int = 0) -> Figure:
    """exp(−mean log-probability), the mean taken by scored token or of the documents' means."""
    log_prob = _per_weight(blocks, blocks.log_prob, normaliser)
    return ratio_of_sums(log_prob, _mean_weights(blocks, normaliser), seed, _exp_negative)


def text_figures(blocks: ScoreBlocks, num_words: int, num_bytes: int) -> dict[str, Figure]:
    """Perplexities over words and bytes of the original text, and bits per byte.

    Text without spaces (Chinese, say) has no perplexity by word that a float can hold: it is left out.
    """
    total, n = -sum(blocks.log_prob), len(blocks.num_tokens)
    figures = {
        "byte_ppl": Figure(value=math.exp(min(total / num_bytes, _LARGEST_LOG)), n=n),
        "bits_per_byte": Figure(value=total / num_bytes / math.log(2), n=n),
    }
    if total / num_words < _LARGEST_LOG:
        figures["word_ppl"] = Figure(value=math.exp(total / num_words), n=n)
    return figures


def paired_figures(blocks: ScoreBlocks, normaliser: str = "tokens", seed: int = 0) -> dict[str, Figure]:
    """Δ ln PPL, top-1 agreement and RMS Δp against the reference on the same tokens."""
    assert blocks.reference_log_prob is not None
    assert blocks.num_same_top1 is not None
    assert blocks.delta_p_squared is not None
    difference = np.asarray(blocks.reference_log_prob) - np.asarray(blocks.log_prob)
    weights = _mean_weights(blocks, normaliser)
    return {
        "delta_ln_ppl": ratio_of_sums(_per_weight(blocks, difference.tolist(), normaliser), weights, seed),
        "top1_agreement": ratio_of_sums(blocks.num_same_top1, blocks.num_tokens, seed),
        "delta_p_rms": ratio_of_sums(blocks.delta_p_squared, blocks.num_tokens, seed, np.sqrt),
    }


def kl_figures(kl: Sequence[float], seed: int = 0) -> dict[str, Figure]:
    """Mean, median, 99th percentile and maximum of KL(reference ‖ candidate) over positions, nats.

    The mean's interval is taken over blocks of consecutive positions.
    """
    values = np.asarray(kl, float)
    lengths = block_lengths(values.size, None)
    return {
        "kl_divergence": ratio_of_sums(block_sums(values, lengths), lengths, seed),
        "kl_median": Figure(value=float(np.median(values)), n=values.size),
        "kl_p99": Figure(value=float(np.percentile(values, 99)), n=values.size),
        "kl_max": Figure(value=float(values.max()), n=values.size),
    }
