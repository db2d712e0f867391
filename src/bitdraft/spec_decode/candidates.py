"""Which (draft, K) may be recommended, and what the fastest of them brings. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bitdraft.metrics.speed import clusters_of_items, tokens_and_seconds
from bitdraft.schema.findings import Finding, Value
from bitdraft.schema.records import Figure
from bitdraft.schema.spec_decode import SpecDecodeRow, SpecDecodeVerdict
from bitdraft.stats.selection import of_the_best, pays, speedup_of_the_best, told

Decided = tuple[SpecDecodeVerdict, tuple[Finding, ...]]


def name_of(draft: str | None, k: int) -> str:
    """`draft-small, K = 3`"""
    return f"{draft}, K = {k}"


def is_lossless(row: SpecDecodeRow) -> bool:
    """Whether its greedy texts are those of K = 0, but for rounding ties. Sampled texts are not held against
    one another."""
    return row.lossless is None or row.lossless.num_unexplained == 0


def unexplained_figures(row: SpecDecodeRow) -> dict[str, Value]:
    """Of how many runs other token ids are not explained, and the largest gap where it is beyond a tie's."""
    assert row.lossless is not None
    far = [one for one in row.lossless.divergences if one.kind == "unexplained"]
    gap = max((one.logit_gap for one in far if one.logit_gap is not None), default=None)
    lead = far[0].tie_lead if far else None
    check = row.lossless
    return {
        "n": check.num_unexplained,
        "of": check.num_prompts,
        "gap": gap,
        "lead": lead,
        "bugs": len(check.bugs),
    }


@dataclass(frozen=True)
class Candidate:
    """The (draft, K) that a verdict speaks of: its row, what is told of its speedup, and whether it pays."""

    row: SpecDecodeRow
    speedup: Figure
    pays: bool | None


def candidate(rows: Sequence[SpecDecodeRow], baseline: SpecDecodeRow | None, num_looked_at: int) -> Candidate:
    """Of rows at one batch size, of which there is one at least, the fastest of those that pay by intervals
    for all that were looked at. Where none does, the fastest that might; and only where none might, nothing
    pays."""
    figures = [of_the_best(row.metrics["speedup"], num_looked_at) for row in rows]
    answers = [pays(figure) for figure in figures]
    answer = True if True in answers else None if None in answers else False
    places = [place for place, own in enumerate(answers) if own is answer]
    place = max(places, key=lambda one: throughput(rows[one]))
    unlucky = None if baseline is None else _value_of_best(rows, baseline)
    return Candidate(rows[place], told(figures[place], unlucky, does_pay=answer), answer)


def _value_of_best(rows: Sequence[SpecDecodeRow], baseline: SpecDecodeRow) -> float | None:
    """None where some row has not run what the baseline ran."""
    sides = [[tokens_and_seconds(item) for item in row.items] for row in (baseline, *rows)]
    if len({len(side) for side in sides}) > 1 or any(seconds <= 0 for side in sides for _, seconds in side):
        return None
    (base_work, base_seconds), *others = (tuple(zip(*side, strict=True)) for side in sides)
    work, seconds = zip(*others, strict=True)
    clusters = clusters_of_items(baseline.items)
    return speedup_of_the_best(work, seconds, base_work, base_seconds, clusters=clusters)


def throughput(row: SpecDecodeRow) -> float:
    """By value, tokens/s."""
    return row.metrics["throughput_tok_s"].value
