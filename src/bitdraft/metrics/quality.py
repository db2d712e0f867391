"""Perplexity and paired differences, from log-probabilities gathered into `ScoreBlocks`. Definitions:
docs/metrics.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitdraft.schema.records import Figure, ScoreBlocks
from bitdraft.stats.intervals import LINEAR, LOG, LOGIT, Floats, Scale, ratio_of_sums

BLOCK_TOKENS = 256
MOST_STRETCHES = 10

LARGEST = 1e300
"""What is beyond this is no more than this, so that it can be calculated with"""
_LARGEST_LOG = math.log(LARGEST)


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


def over_text(
    sums: ArrayLike,
    weights: ArrayLike,
    transform: Callable[[Floats], Floats] = np.positive,
    scale: Scale = LOG,
) -> Figure:
    """A mean over blocks of text that follow each other. What stands close together is alike, so that the
    interval is over at most `MOST_STRETCHES` longer stretches."""
    columns = [np.asarray(column, float) for column in (sums, weights)]
    per_stretch = -(-columns[0].size // MOST_STRETCHES)
    starts = np.arange(0, columns[0].size, per_stretch)
    top, bottom = (np.add.reduceat(column, starts) for column in columns)
    return ratio_of_sums(top, bottom, transform, scale)


def ppl_increase(delta_ln_ppl: float) -> float:
    """exp(Δ ln PPL) − 1, at most `LARGEST`."""
    return math.expm1(min(delta_ln_ppl, _LARGEST_LOG))


def perplexity(blocks: ScoreBlocks, normaliser: str = "tokens") -> Figure:
    """exp(−mean log-probability), the mean taken by scored token or of the documents' means."""
    log_prob = _per_weight(blocks, blocks.log_prob, normaliser)
    return over_text(log_prob, _mean_weights(blocks, normaliser), _exp_negative)


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


def paired_figures(blocks: ScoreBlocks, normaliser: str = "tokens") -> dict[str, Figure]:
    """Δ ln PPL, top-1 agreement and RMS Δp against the reference on the same tokens."""
    assert blocks.reference_log_prob is not None
    assert blocks.num_same_top1 is not None
    assert blocks.delta_p_squared is not None
    difference = np.asarray(blocks.reference_log_prob) - np.asarray(blocks.log_prob)
    weights = _mean_weights(blocks, normaliser)
    return {
        "delta_ln_ppl": over_text(
            _per_weight(blocks, difference.tolist(), normaliser), weights, scale=LINEAR
        ),
        "top1_agreement": over_text(blocks.num_same_top1, blocks.num_tokens, scale=LOGIT),
        "delta_p_rms": over_text(blocks.delta_p_squared, blocks.num_tokens, np.sqrt),
    }


def kl_figures(kl: Sequence[float], answer_lengths: Sequence[int] | None = None) -> dict[str, Figure]:
    """Mean, median, 99th and 99.9th percentile and maximum of KL(reference ‖ candidate) over positions, nats.

    The mean's interval is taken over answers where the positions are those of answers, else over blocks of
    consecutive positions.
    """
    values = np.asarray(kl, float)
    lengths = block_lengths(values.size, answer_lengths)
    return {
        "kl_divergence": over_text(block_sums(values, lengths), lengths),
        "kl_median": Figure(value=float(np.median(values)), n=values.size),
        "kl_p99": Figure(value=float(np.percentile(values, 99)), n=values.size),
        "kl_p999": Figure(value=float(np.percentile(values, 99.9)), n=values.size),
        "kl_max": Figure(value=float(values.max()), n=values.size),
    }
