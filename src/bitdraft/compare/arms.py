"""A result file as arms: whatever has a row of its own, with its raw runs and what else is compared of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bitdraft.compare.ratios import Item
from bitdraft.compare.records import RowName
from bitdraft.precision.verdict import generations_of
from bitdraft.schema.records import Figure, Generation
from bitdraft.schema.results import BatchRow, PrecisionResult, SpecDecodeResult
from bitdraft.spec_decode.batch_rows import PLAIN
from bitdraft.spec_decode.rows import baseline_runs, other_precision, with_known_text
from bitdraft.tables import pair_name

AnyResult = PrecisionResult | SpecDecodeResult
Places = tuple[int, ...]


@dataclass(frozen=True)
class Arm:
    """`items` by the places of their prompts; `base` are those of K = 0 in the same run and batch size."""

    status: str
    reason: str | None = None
    items: Mapping[Places, Item] = field(default_factory=dict)
    base: Mapping[Places, Item] = field(default_factory=dict)
    metrics: Mapping[str, Figure] = field(default_factory=dict)
    quality: Mapping[str, Any] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict)
    num_bugs: int = 0


Arms = dict[RowName, Arm]


def arms_of(result: AnyResult, source: str) -> Arms:
    """By name; `source` is the file's, or that of the file it is compared with."""
    if isinstance(result, PrecisionResult):
        return _of_precision(result, source)
    return _of_sweep(result, source)


def _alone(runs: Sequence[Generation]) -> dict[Places, Item]:
    return {(place,): (run,) for place, run in enumerate(runs)}


def _of_precision(result: PrecisionResult, source: str) -> Arms:
    text = str(result.text["dataset"])
    return {
        RowName(source=source, text=text, precision=row.precision): Arm(
            status=row.status,
            reason=row.reason,
            items=_alone(generations_of(row)),
            metrics=row.metrics,
            quality=row.quality,
            raw=row.raw,
        )
        for row in result.rows
    }


def _of_sweep(result: SpecDecodeResult, source: str) -> Arms:
    """K = 0 first; where it is missing, nothing was finished."""
    precisions = pair_name((result.config["precision"], other_precision(result)))
    shared = {"source": source, "text": str(result.text["dataset"]), "precision": precisions}
    plain = baseline_runs(result)
    base = _alone(plain)
    metrics = {name: Figure.model_validate(f) for name, f in result.baseline.get("metrics", {}).items()}
    arms = {
        RowName(**shared, draft=PLAIN, k=0): Arm("ok", items=base, metrics=metrics)
        if plain
        else Arm("failed", "no prompt was finished")
    }
    for row in result.rows:
        runs = [with_known_text(run, plain[i]) for i, run in enumerate(row.raw.get("generations", []))]
        bugs = [entry for entry in (row.lossless or {}).get("divergences", []) if entry["kind"] == "bug"]
        arms[RowName(**shared, draft=row.draft, k=row.k)] = Arm(
            status=row.status,
            reason=row.reason,
            items=_alone(runs),
            base=base,
            metrics=row.metrics,
            num_bugs=len(bugs),
        )
    groups = {(row.batch_size, row.draft, row.k): _groups(row, plain) for row in result.batches}
    for batch in result.batches:
        own = {"draft": batch.draft, "k": batch.k, "batch_size": batch.batch_size}
        arms[RowName(**shared, **own)] = Arm(
            status=batch.status,
            reason=batch.reason,
            items=groups[batch.batch_size, batch.draft, batch.k],
            base=groups.get((batch.batch_size, PLAIN, 0), {}) if batch.k else {},
            metrics=batch.metrics,
        )
    return arms


def _groups(row: BatchRow, plain: Sequence[Generation]) -> dict[Places, Item]:
    return {
        tuple(group["prompts"]): tuple(
            with_known_text(run, plain[place])
            for place, run in zip(group["prompts"], group["generations"], strict=True)
        )
        for group in row.raw.get("groups", [])
    }
