"""Which regressions a build may fail on. Pure.

Judged is what no drift of the machine can make: perplexity; the times of two sides that were measured in
turn; and of two that were not, speedups within each run and tokens per step. Times that were measured apart
fail no build, and pass none either where they look worse.

A ratio of sums can hide a regression behind one stall of the other side, so the prompts' own ratios are
looked at as well, with the one that is kindest to B left out: where they are worse by more than chance (t
test, Holm over the rows), their median counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bitdraft.compare.verdict import no_longer_lossless, ratio_finding, status_changes
from bitdraft.schema.comparison import Comparison, Ratio, RowComparison
from bitdraft.schema.findings import Finding
from bitdraft.stats.intervals import LEVEL
from bitdraft.stats.selection import holm

TIMES = ("throughput_tok_s", "tpot_ms", "ttft_ms")
FREE_OF_DRIFT = ("speedup", "tokens_per_step")
_EPSILON = 1e-12  # of a loss that is the limit but for rounding


@dataclass(frozen=True)
class Limits:
    """Shares of speed and of perplexity from which on a loss counts (0.05: 5 %); None: not judged."""

    slowdown: float | None = None
    ppl_increase: float | None = None


def regressions_of(comparison: Comparison, limits: Limits) -> list[Finding]:
    """Significant losses of at least the limit, and what ran, was lossless or was measured in A and is not in
    B, whatever the limits."""
    found = [*status_changes(comparison.rows, "worse"), *no_longer_lossless(comparison.rows)]
    missing = (*comparison.files_only_a, *comparison.lost)
    found += [Finding(code="compare.not_in_b", subject=name) for name in missing]
    judged = FREE_OF_DRIFT if comparison.rounds is None else TIMES
    return (
        found
        + _losses(comparison, judged, limits.slowdown)
        + _losses(comparison, ("ppl",), limits.ppl_increase)
    )


def suspected(comparison: Comparison, limits: Limits) -> list[Finding]:
    """Losses of times that were measured apart: the machine's or B's, which nothing tells."""
    return _losses(comparison, TIMES, limits.slowdown) if comparison.rounds is None else []


def blind_spots(comparison: Comparison, limits: Limits) -> list[Finding]:
    """Why a regression of what is limited could not have been found: files that are not compared, and metrics
    that A has and that no row, or not this one, could be compared in."""
    found = [Finding(code="compare.refused_file", subject=one.source) for one in comparison.refused]
    judged = (*TIMES, *FREE_OF_DRIFT) if comparison.rounds is None else TIMES
    for limit, names in ((limits.slowdown, judged), (limits.ppl_increase, ("ppl",))):
        if limit is None:
            continue
        ratios = [row.ratios[name] for row in comparison.rows for name in names if name in row.ratios]
        lost = tuple(
            row.name.full
            for row in comparison.rows
            if row.status_change is None and {*names} & {*row.missing}
        )
        if lost:
            found.append(Finding(code="compare.not_compared", subject=names[0], figures={"names": lost}))
        elif all(ratio.standing == "unknown" for ratio in ratios) and (ratios or names != ("ppl",)):
            found.append(_without_interval(names, has_values=bool(ratios)))
    return found


def _without_interval(names: Sequence[str], *, has_values: bool) -> Finding:
    if names == ("ppl",):
        return Finding(code="compare.no_ppl_interval")
    return Finding(code="compare.no_interval" if has_values else "compare.no_speed")


def not_judged(comparison: Comparison, limits: Limits) -> list[Finding]:
    """What the limits were asked for and could not judge."""
    found = blind_spots(comparison, limits)
    has_times = any(name in row.ratios for row in comparison.rows for name in TIMES)
    if comparison.rounds is None and has_times and limits.slowdown is not None:
        found.append(Finding(code="compare.times_apart"))
    asked = [
        *(TIMES if limits.slowdown is not None else ()),
        *(("ppl",) if limits.ppl_increase is not None else ()),
    ]
    for name in asked:
        rows = tuple(
            row.name.full
            for row in comparison.rows
            if name in row.ratios and row.ratios[name].standing == "unknown"
        )
        if rows:
            found.append(Finding(code="compare.no_interval_of", subject=name, figures={"names": rows}))
    return found


def _losses(comparison: Comparison, names: Sequence[str], limit: float | None) -> list[Finding]:
    """A row's together."""
    if limit is None:
        return []
    lost: dict[int, list[Finding]] = {}
    for name in names:
        rows = [row for row in comparison.rows if name in row.ratios]
        for row, is_typical in zip(rows, _mostly_worse(rows, name), strict=True):
            ratio = row.ratios[name]
            losses = [ratio.loss] if ratio.standing == "worse" else []
            losses += [ratio.typical_loss] if is_typical else []
            if losses and max(losses) >= limit - _EPSILON:
                found = ratio_finding(name, row) if ratio.standing == "worse" else _typical(name, ratio)
                lost.setdefault(id(row), []).append(found)
    return [
        Finding(code="compare.lost", subject=row.name.full, parts=tuple(lost[id(row)]))
        for row in comparison.rows
        if id(row) in lost
    ]


def _typical(name: str, ratio: Ratio) -> Finding:
    """A metric that is worse in nearly all prompts, whatever its ratio of sums."""
    figures = {"median": ratio.ratio.median, "num_worse": ratio.num_worse, "n": ratio.ratio.n}
    return Finding(code="compare.typical_ratio", subject=name, figures=dict(figures))


def _mostly_worse(rows: Sequence[RowComparison], name: str) -> list[bool]:
    """Whether more prompts of a row are worse than chance makes, with all rows looked at together."""
    chances = [1.0 if (chance := row.ratios[name].worse_chance) is None else chance for row in rows]
    return holm(chances, (1 - LEVEL) / 2)
