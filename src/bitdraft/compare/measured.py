"""A result file by its rows: whatever has a row of its own, with its raw runs and what else is compared of
it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bitdraft.compare.pairing import Rounds
from bitdraft.schema.comparison import RowName
from bitdraft.schema.naming import pair_name
from bitdraft.schema.precision import PrecisionRaw, PrecisionResult, PrecisionRow, Quality
from bitdraft.schema.records import Figure, Generation
from bitdraft.schema.serving import ServerRequest, ServingResult, ServingRow
from bitdraft.schema.spec_decode import SpecDecodeResult, SpecDecodeRow

Measurement = PrecisionResult | SpecDecodeResult | ServingResult
Places = tuple[int, ...]


@dataclass(frozen=True)
class Measured:
    """`items` by the places of their prompts, each once a round; `base` are those of K = 0 in the same run
    and batch size."""

    status: str
    reason: str | None = None
    items: Mapping[Places, Rounds] = field(default_factory=dict)
    base: Mapping[Places, Rounds] = field(default_factory=dict)
    metrics: Mapping[str, Figure] = field(default_factory=dict)
    quality: Quality = field(default_factory=Quality)
    raw: PrecisionRaw = field(default_factory=PrecisionRaw)
    num_unexplained: int = 0


Rows = dict[RowName, Measured]


def rows_of(result: Measurement, source: str) -> Rows:
    """By name; `source` is the file's, or that of the file it is compared with."""
    if isinstance(result, PrecisionResult):
        return _of_precision(result, source)
    if isinstance(result, ServingResult):
        return _of_servers(result, source)
    return _of_sweep(result, source)


def _of_precision(result: PrecisionResult, source: str) -> Rows:
    return {
        RowName(source=source, text=result.text.dataset, precision=row.precision): Measured(
            status=row.status,
            reason=row.reason,
            items={(place,): [(run,) for run in rounds] for place, rounds in enumerate(_by_prompt(row))},
            metrics=row.metrics,
            quality=row.quality,
            raw=row.raw,
        )
        for row in result.rows
    }


def _by_prompt(row: PrecisionRow) -> Iterator[tuple[Generation, ...]]:
    return zip(*row.rounds, strict=True)


def _of_sweep(result: SpecDecodeResult, source: str) -> Rows:
    """The baseline first; where it is missing, nothing was finished."""
    precisions = pair_name((result.config.precision, result.draft_precision))
    shared = {"source": source, "text": result.text.dataset, "precision": precisions}
    bases = {row.batch_size: _items(row) for row in result.rows if row.k == 0}
    found: Rows = {}
    if result.baseline is None:
        found[RowName(**shared, k=0)] = Measured("failed", "no prompt was finished")
    for row in result.rows:
        own = RowName(**shared, draft=row.draft, k=row.k, batch_size=row.batch_size)
        found[own] = Measured(
            status=row.status,
            reason=row.reason,
            items=_items(row),
            base=bases.get(row.batch_size, {}) if row.k else {},
            metrics=row.metrics,
            raw=PrecisionRaw(reference_work_s=result.reference_work_s or None),
            num_unexplained=row.lossless.num_unexplained
            if row.lossless is not None and row.batch_size == 1
            else 0,
        )
    return found


def _items(row: SpecDecodeRow) -> dict[Places, Rounds]:
    return {places: [item] for places, item in zip(row.places, row.items, strict=True)}


def _of_servers(result: ServingResult, source: str) -> Rows:
    """By server and load, over the requests that did not fail."""
    found: Rows = {}
    for row in result.rows:
        name = RowName(source=source, text=result.text.dataset, precision=row.server, batch_size=row.load)
        base = {} if row.server == result.config.baseline else _requests(result, result.config.baseline, row)
        found[name] = Measured(
            status=row.status,
            reason=row.reason or None,
            items=_requests(result, row.server, row),
            base=base,
            metrics=row.metrics,
        )
    return found


def _requests(result: ServingResult, server: str, row: ServingRow) -> dict[Places, Rounds]:
    return {
        (one.prompt,): [(_as_generation(one),)]
        for one in result.requests
        if one.server == server and one.load == row.load and one.error is None
    }


def _as_generation(request: ServerRequest) -> Generation:
    """With a request's times and number of tokens; which tokens they were a server does not tell."""
    first, last, num = request.event_s[0], request.event_s[-1], request.completion_tokens or 1
    emissions = ((first, 1), (last, num - 1)) if num > 1 else ((last, 1),)
    return Generation(
        prompt_tokens=request.prompt_tokens or 0,
        submit_s=request.submit_s,
        emissions=emissions,
        token_ids=(0,) * num,
        finish_reason="length",
        cluster=request.cluster,
    )


def in_rounds(rounds: Sequence[Rows]) -> Rows:
    """Rows that were measured several times, over prompts that every round has; quality and memory are the
    first round's. One that failed in any has failed."""
    return {name: _together([rows[name] for rows in rounds if name in rows]) for name in rounds[0]}


def _together(found: Sequence[Measured]) -> Measured:
    first = next((one for one in found if one.status != "ok"), found[0])
    return replace(
        first,
        items=_joined([one.items for one in found]),
        base=_joined([one.base for one in found]),
        num_unexplained=max(one.num_unexplained for one in found),
    )


def _joined(rounds: Sequence[Mapping[Places, Rounds]]) -> dict[Places, Rounds]:
    return {
        place: [item for one in rounds for item in one[place]]
        for place in rounds[0]
        if all(place in one for one in rounds)
    }
