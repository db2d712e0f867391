"""From a precision's events to its row. Pure: the same events give the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitdraft.inputs.windows import ScoringPlan
from bitdraft.metrics.energy import joules_per_token
from bitdraft.metrics.memory import memory_figures
from bitdraft.metrics.quality import (
    block_lengths,
    kl_figures,
    paired_figures,
    perplexity,
    score_blocks,
    text_figures,
)
from bitdraft.metrics.speed import bandwidth_utilisation, decode_bytes, speed_figures
from bitdraft.runs.cell import Event, Failure
from bitdraft.schema.packing import unpack
from bitdraft.schema.precision import PrecisionRaw, PrecisionRow, Quality
from bitdraft.schema.records import EnergyBlock, Figure, Generation, Overflow

DECODING = "decoding"


@dataclass(frozen=True)
class Scores:
    """Per scored token: natural-log probability and argmax id."""

    log_prob: NDArray[np.float32]
    top1: NDArray[np.int32]


@dataclass
class Records:
    """What a precision's cell has emitted so far, event by event."""

    loaded: dict[str, Any] = field(default_factory=dict)
    execution: dict[str, Any] = field(default_factory=dict)
    generations: list[Generation] = field(default_factory=list)
    reference_work_s: list[float] = field(default_factory=list)
    energy: list[EnergyBlock] = field(default_factory=list)
    peaks: dict[str, dict[str, int]] = field(default_factory=dict)
    overflow: Overflow | None = None
    floor: list[Event] = field(default_factory=list)
    _kl: dict[int, list[float]] = field(default_factory=dict)
    _log_probs: dict[int, NDArray[Any]] = field(default_factory=dict)
    _top1s: dict[int, NDArray[Any]] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Add one."""
        kind = event["event"]
        if "peak_bytes" in event:
            own = self.peaks.setdefault(event["name"] if kind == "phase" else DECODING, {})
            for name, num_bytes in event["peak_bytes"].items():
                own[name] = max(num_bytes, own.get(name, 0))
        if kind == "loaded":
            self.loaded = without_kind(event)
        elif kind == "execution":
            self.execution = {name: event.get(name) for name in ("execution", "preparation_s")}
        elif kind == "scored":
            self._log_probs[event["window"]] = unpack(event["log_prob"], "<f4")
            self._top1s[event["window"]] = unpack(event["top1"], "<i4")
        elif kind == "overflow":
            self.overflow = Overflow.model_validate(event["overflow"])
        elif kind == "reference_work":
            self.reference_work_s.append(event["seconds"])
        elif kind == "generation":
            self.generations.append(Generation.model_validate(event["generation"]))
            self.reference_work_s.append(event["reference_work_s"])
        elif kind == "energy":
            self.energy.append(EnergyBlock.model_validate(without_kind(event)))
        elif kind == "floor":
            self.floor.append(event)
        elif kind == "kl":
            self._kl[event["window"]] = event["values"]

    @property
    def kl(self) -> list[float]:
        """At every position that has it, in the text's order."""
        return [value for _, values in sorted(self._kl.items()) for value in values]

    @property
    def kl_lengths(self) -> list[int]:
        """How many positions each window has of them."""
        return [len(values) for _, values in sorted(self._kl.items())]

    def scores(self, plan: ScoringPlan | None) -> Scores | None:
        """None where not all of the plan was scored."""
        if plan is None or self.overflow is not None or len(self._log_probs) < len(plan.windows):
            return None
        columns = ([column[index] for index in sorted(column)] for column in (self._log_probs, self._top1s))
        log_prob, top1 = map(np.concatenate, columns)
        return Scores(log_prob, top1)

    def floor_quality(self, *, on_answers: bool = False) -> Quality | None:
        """Of the reference beside itself; None where that wasn't looked at, or where texts are so short that
        the other shape is the same one. `on_answers`: on its answers to
        prompts, not on a text."""
        if not self.floor:
            return None
        windows = sorted(self.floor, key=lambda event: int(event["window"]))
        log_prob, top1 = _joined(windows, "scores")
        own, own_top1 = _joined(windows, "reference")
        blocks = score_blocks(log_prob, top1, block_lengths(log_prob.size, None), (own, own_top1))
        kl = [value for event in windows for value in event["kl"]]
        if not any(kl):
            return None
        lengths = [len(event["kl"]) for event in windows] if on_answers else None
        return Quality(**paired_figures(blocks), **kl_figures(kl, lengths))


def without_kind(event: Event) -> dict[str, Any]:
    """What an event tells."""
    return {name: value for name, value in event.items() if name != "event"}


def _joined(windows: Sequence[Event], name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    log_probs, top1s = zip(*(event[name] for event in windows), strict=True)
    return (
        np.concatenate([unpack(packed, "<f4") for packed in log_probs]),
        np.concatenate([unpack(packed, "<i4") for packed in top1s]),
    )


@dataclass(frozen=True)
class RowContext:
    """What a row's numbers need besides the cell's own records. Without a plan quality is not measured.
    `kld_on_answers`: divergence is that on the reference's answers to prompts."""

    plan: ScoringPlan | None
    copy_bytes_s: float | None
    reference: Scores | None
    num_prompts: int
    kld_on_answers: bool = False


def build_row(
    precision: str,
    records: Records,
    context: RowContext,
    failure: Failure | None = None,
    later: Sequence[Records] = (),
) -> PrecisionRow:
    """A row of what was measured: `ok`; `overflow` with the place where it began (its speed is still real);
    or what ended it. A divergence that failed is missing from a row that stands. `later` are further rounds,
    which were only timed."""
    if len(records.generations) < context.num_prompts:
        found = failure or Failure("failed", _unfinished(records, context.num_prompts))
        raw = PrecisionRaw(detail=found.detail or None)
        return PrecisionRow(precision=precision, status=found.status, reason=found.reason, raw=raw)
    row = PrecisionRow(
        precision=precision,
        status="ok",
        metrics=_speed_and_memory(records, context, later),
        runs=tuple(records.generations),
        more_runs=tuple(tuple(one.generations) for one in later),
        raw=_raw(records, later),
    )
    if context.plan is None:
        return row.model_copy(update={"quality": Quality(not_measured="random weights")})
    scores = records.scores(context.plan)
    if scores is None:
        return _without_quality(row, records, context.plan, failure)
    return _with_quality(row, records, context, scores, failure)


def _unfinished(records: Records, num_prompts: int) -> str:
    if not records.loaded:
        return "ended before its model was loaded"
    return f"ended after {len(records.generations)} of {num_prompts} prompts"


def _without_quality(
    row: PrecisionRow, records: Records, plan: ScoringPlan, failure: Failure | None
) -> PrecisionRow:
    overflow = records.overflow
    if overflow is None:
        found = failure or Failure("failed", "its text was not scored to the end")
        update = {"status": found.status, "reason": found.reason, "quality": Quality(protocol=plan.card)}
        return row.model_copy(update=update)
    where = f"{overflow.layer} at position {overflow.position} of window {overflow.window}"
    quality = Quality(protocol=plan.card, overflow=overflow)
    reason = f"non-finite numbers from {where}"
    return row.model_copy(update={"status": "overflow", "reason": reason, "quality": quality})


def _with_quality(
    row: PrecisionRow, records: Records, context: RowContext, scores: Scores, failure: Failure | None
) -> PrecisionRow:
    plan, reference = context.plan, context.reference
    assert plan is not None
    lengths = block_lengths(scores.log_prob.size, plan.document_lengths)
    paired = None if reference is None else (reference.log_prob, reference.top1)
    blocks = score_blocks(scores.log_prob, scores.top1, lengths, paired)
    figures: dict[str, Figure] = {}
    words: dict[str, Any] = {}
    if plan.num_words is not None and plan.num_bytes is not None:
        figures |= text_figures(blocks, plan.num_words, plan.num_bytes)
        words = {"num_words": plan.num_words, "num_bytes": plan.num_bytes}
    if reference is not None:
        figures |= paired_figures(blocks, plan.normaliser)
    if records.kl:
        figures |= kl_figures(records.kl, records.kl_lengths if context.kld_on_answers else None)
    missing = failure.reason if failure is not None and reference is not None else None
    quality = Quality(protocol=plan.card, kl_missing=missing, **words, **figures)
    kl = tuple(records.kl) or None
    return row.model_copy(
        update={
            "metrics": row.metrics | {"ppl": perplexity(blocks, plan.normaliser)},
            "quality": quality,
            "raw": row.raw.model_copy(update={"score_blocks": blocks, "kl_divergence": kl}),
        }
    )


def _raw(records: Records, later: Sequence[Records]) -> PrecisionRaw:
    return PrecisionRaw(
        reference_work_s=tuple(seconds for one in (records, *later) for seconds in one.reference_work_s),
        peak_bytes=records.peaks.get(DECODING),
        peak_bytes_before={name: own for name, own in records.peaks.items() if name != DECODING} or None,
        energy=tuple(records.energy) or None,
        **records.execution,
        **records.loaded,
    )


def _speed_and_memory(records: Records, context: RowContext, later: Sequence[Records]) -> dict[str, Figure]:
    """Speed over all rounds; the rest is the first one's."""
    runs: Sequence[Generation] = records.generations
    metrics = speed_figures(runs, [one.generations for one in later])
    weights, kv = records.loaded["streamed_bytes"], records.loaded["kv_bytes_per_token"]
    if context.copy_bytes_s is not None and weights is not None:
        streamed = [decode_bytes(generation, weights, kv) for generation in runs]
        utilisation = bandwidth_utilisation(runs, streamed, context.copy_bytes_s)
        if utilisation is not None:
            metrics["mbu"] = utilisation
    metrics |= memory_figures(records.peaks.get(DECODING))
    for phase, peaks in records.peaks.items():
        if phase != DECODING:
            metrics |= {f"{name}_{phase}": figure for name, figure in memory_figures(peaks).items()}
    energy = joules_per_token(records.energy)
    return metrics if energy is None else metrics | {"joules_per_token": energy}
