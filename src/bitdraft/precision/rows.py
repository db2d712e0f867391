"""From a cell's raw events to a result row. Pure: the same raw records give the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitdraft.inputs.windows import ScoringPlan
from bitdraft.metrics.memory import GIB
from bitdraft.metrics.quality import (
    block_lengths,
    kl_figures,
    paired_figures,
    perplexity,
    score_blocks,
    text_figures,
)
from bitdraft.metrics.speed import bandwidth_utilisation, decode_bytes, speed_figures
from bitdraft.runs.executors.local import Failure
from bitdraft.schema.records import Figure, Generation, Overflow
from bitdraft.schema.results import PrecisionRow


@dataclass(frozen=True)
class Scores:
    """Per scored token: natural-log probability and argmax id."""

    log_prob: NDArray[np.float32]
    top1: NDArray[np.int64]


@dataclass(frozen=True)
class RowContext:
    """What a row's numbers need besides the cell's own records. Without a plan quality is not measured."""

    plan: ScoringPlan | None
    copy_bytes_s: float
    seed: int
    reference: Scores | None


def failed_row(precision: str, failure: Failure) -> PrecisionRow:
    raw = {"detail": failure.detail} if failure.detail else {}
    return PrecisionRow(precision=precision, status=failure.status, reason=failure.reason, raw=raw)


def build_row(
    precision: str,
    cell: dict[str, Any],
    context: RowContext,
    scores: Scores | None,
    kl: Sequence[float] | None = None,
) -> PrecisionRow:
    """A finished row: `ok`, or `overflow` with the place where it began (its speed is still real)."""
    raw = {key: cell[key] for key in cell if key not in ("event", "overflow")}
    metrics = _speed_and_memory(cell, context)
    if context.plan is None:
        skipped = {"not_measured": "random weights"}
        return PrecisionRow(precision=precision, status="ok", metrics=metrics, quality=skipped, raw=raw)
    quality: dict[str, Any] = {"protocol": context.plan.card}
    if scores is None:
        place = Overflow(**cell["overflow"])
        reason = (
            f"non-finite numbers from {place.layer} at position {place.position} of window {place.window}"
        )
        quality["overflow"] = place.model_dump()
        return PrecisionRow(
            precision=precision, status="overflow", reason=reason, metrics=metrics, quality=quality, raw=raw
        )
    plan, seed, reference = context.plan, context.seed, context.reference
    lengths = block_lengths(scores.log_prob.size, plan.document_lengths)
    paired = None if reference is None else (reference.log_prob, reference.top1)
    blocks = score_blocks(scores.log_prob, scores.top1, lengths, paired)
    raw["score_blocks"] = blocks.model_dump(exclude_none=True)
    metrics["ppl"] = perplexity(blocks, plan.normaliser, seed)
    if plan.num_words is not None and plan.num_bytes is not None:
        quality |= _dumped(text_figures(blocks, plan.num_words, plan.num_bytes))
        quality["num_words"], quality["num_bytes"] = plan.num_words, plan.num_bytes
    if reference is not None:
        quality |= _dumped(paired_figures(blocks, plan.normaliser, seed))
    if kl:
        raw["kl_divergence"] = list(kl)
        quality |= _dumped(kl_figures(kl, seed))
    return PrecisionRow(precision=precision, status="ok", metrics=metrics, quality=quality, raw=raw)


def _dumped(figures: dict[str, Figure]) -> dict[str, Any]:
    return {name: figure.model_dump() for name, figure in figures.items()}


def _speed_and_memory(cell: dict[str, Any], context: RowContext) -> dict[str, Figure]:
    generations = [Generation.model_validate(record) for record in cell["generations"]]
    metrics = speed_figures(generations, context.seed)
    weights, kv = cell["streamed_bytes"], cell["kv_bytes_per_token"]
    streamed = [decode_bytes(generation, weights, kv) for generation in generations]
    utilisation = bandwidth_utilisation(generations, streamed, context.copy_bytes_s, context.seed)
    if utilisation is not None:
        metrics["mbu"] = utilisation
    for name, num_bytes in cell["peak_bytes"].items():
        metrics[f"{name}_gb"] = Figure(value=num_bytes / GIB)
    if cell["joules"] is not None:
        num_tokens = sum(len(generation.token_ids) for generation in generations)
        metrics["joules_per_token"] = Figure(value=cell["joules"] / num_tokens)
    return metrics
