"""What a comparison concludes. Pure.

A row is faster or slower by its throughput, where the ratio differs from 1 with all rows looked at together
(Holm's procedure, metric by metric) and is further from it than the machine itself moved. Without an interval
nothing is significant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bitdraft.schema.comparison import Comparison, Counts, RowComparison
from bitdraft.schema.findings import Finding, answer, reason
from bitdraft.stats.selection import holm

# what a user waits for or reads
MAIN = ("throughput_tok_s", "tpot_ms", "ttft_ms", "ppl")


def held_together(rows: Sequence[RowComparison]) -> tuple[RowComparison, ...]:
    """The rows, in which no ratio is called better or worse that may be one of many chances."""
    held = {name: _held([row for row in rows if name in row.ratios], name) for name in _metrics(rows)}
    return tuple(
        row.model_copy(
            update={
                "ratios": {
                    name: ratio
                    if ratio.standing in ("same", "unknown") or id(row) in held[name]
                    else ratio.model_copy(update={"standing": "same"})
                    for name, ratio in row.ratios.items()
                }
            }
        )
        for row in rows
    )


def _metrics(rows: Sequence[RowComparison]) -> set[str]:
    return {name for row in rows for name in row.ratios}


def _held(rows: Sequence[RowComparison], name: str) -> set[int]:
    """Which rows' ratios of one metric differ from 1, by identity. One alone does where its interval says
    so."""
    found = [(row, p) for row in rows if (p := row.ratios[name].chance) is not None]
    if len(found) == 1:
        return {id(found[0][0])}
    holds = holm([p for _, p in found])
    return {id(row) for (row, _), is_held in zip(found, holds, strict=True) if is_held}


def ratio_finding(name: str, row: RowComparison) -> Finding:
    """One metric of a row, B over A."""
    return Finding(code="compare.ratio", subject=name, figures={"ratio": row.ratios[name].ratio})


def decide(comparison: Comparison, machine: Sequence[Finding]) -> tuple[Counts, list[Finding]]:
    """Counts and findings. `machine` is what is known of how the machine itself changed."""
    rows = comparison.rows
    speeds = _standings(rows, "throughput_tok_s")
    counts = Counts(
        rows=len(rows),
        throughput=speeds,
        ppl=_standings(rows, "ppl"),
        status=dict(Counter(row.status_change for row in rows if row.status_change)),
    )
    findings = [_of_speed(speeds), *_largest(rows), *_of_ppl(rows)]
    for code, change in (("compare.no_longer_runs", "worse"), ("compare.runs_now", "better")):
        changed = status_changes(rows, change)
        if changed:
            findings.append(answer(code, "", changed))
    lost = (*comparison.files_only_a, *comparison.lost)
    if lost:
        findings.append(answer("compare.missing", names=lost))
    changed = no_longer_lossless(rows)
    if changed:
        findings.append(answer("compare.no_longer_lossless", "", changed))
    return counts, findings + _reasons(comparison, machine)


def _standings(rows: Sequence[RowComparison], name: str) -> dict[str, int]:
    found: Counter[str] = Counter(row.ratios[name].standing for row in rows if name in row.ratios)
    return dict(found)


def _of_speed(counts: dict[str, int]) -> Finding:
    total = sum(counts.values())
    if not total:
        return answer("compare.no_speed_at_all")
    if counts.get("unknown", 0) == total:
        return answer("compare.nothing_significant")
    if counts.get("same", 0) == total:
        return answer("compare.same_speed", total=total)
    standings = {name: counts.get(name, 0) for name in ("better", "worse", "same", "drift", "unknown")}
    return answer("compare.speeds", total=total, **standings)


def _largest(rows: Sequence[RowComparison]) -> list[Finding]:
    losses = [
        (ratio.loss, row.name.full, ratio_finding(name, row))
        for row in rows
        for name, ratio in row.ratios.items()
        if name in MAIN and ratio.standing == "worse"
    ]
    if losses:
        _, name, ratio = max(losses, key=lambda loss: loss[:2])
        return [answer("compare.largest_regression", name, [ratio])]
    measured = {r.standing for row in rows for name, r in row.ratios.items() if name in MAIN}
    return [answer("compare.no_regression")] if measured - {"unknown"} else []


def _of_ppl(rows: Sequence[RowComparison]) -> list[Finding]:
    scored = [(row, row.ratios["ppl"]) for row in rows if "ppl" in row.ratios]
    if not scored:
        return []
    if all(ratio.ratio.value == 1 == ratio.ratio.low == ratio.ratio.high for _, ratio in scored):
        return [answer("compare.ppl_same")]
    changed = [
        Finding(code="compare.row_ratio", subject=row.name.full, parts=(ratio_finding("ppl", row),))
        for row, ratio in scored
        if ratio.standing in ("better", "worse")
    ]
    if changed:
        return [answer("compare.ppl_changed", "", changed)]
    if all(ratio.standing == "unknown" for _, ratio in scored):
        return [answer("compare.ppl_too_few")]
    return [answer("compare.ppl_not_told_apart")]


def status_changes(rows: Sequence[RowComparison], change: str) -> list[Finding]:
    """Rows of one file that changed alike are one finding: a draft's failure takes all its K with it."""
    together: dict[tuple[str, str, str], list[RowComparison]] = {}
    for row in rows:
        if row.status_change == change:
            together.setdefault((row.name.source, row.status_a, row.status_b), []).append(row)
    found = []
    for (_, before, after), group in together.items():
        names = (group[0].name.full, *(row.name.short for row in group[1:3]))
        why = group[0].reason_b if change == "worse" else group[0].reason_a
        figures = {
            "names": names,
            "more": max(0, len(group) - 3),
            "before": before,
            "after": after,
            "why": why,
        }
        found.append(
            Finding(code="compare.status_changed", subject=group[0].name.full, figures=dict(figures))
        )
    return found


def no_longer_lossless(rows: Sequence[RowComparison]) -> list[Finding]:
    found = []
    for row in rows:
        if row.unexplained[1] > row.unexplained[0]:
            total = row.same_ids[1] if row.same_ids is not None else None
            figures = {"before": row.unexplained[0], "after": row.unexplained[1], "total": total}
            found.append(Finding(code="compare.not_lossless", subject=row.name.full, figures=dict(figures)))
    return found


def _reasons(comparison: Comparison, machine: Sequence[Finding]) -> list[Finding]:
    rows = comparison.rows
    free = any("speedup" in row.ratios for row in rows)
    apart = reason("compare.not_in_turn", speedups=free)
    turns = apart if comparison.rounds is None else reason("compare.in_turn", rounds=comparison.rounds)
    reasons = [turns, *machine, *_of_ids(rows)]
    reasons += [
        reason(
            "compare.refused", e.source, field=e.field, values=e.values, problem=e.problem, remedy=e.remedy
        )
        for e in comparison.refused
    ]
    for side, names, files in (
        ("A", comparison.only_a, comparison.files_only_a),
        ("B", comparison.only_b, comparison.files_only_b),
    ):
        missing = (*files, *(name.full for name in names))
        if missing:
            reasons.append(reason("compare.only_in", side, names=missing))
    notes: dict[str, tuple[Finding, list[str]]] = {}
    for row in rows:
        for note in row.notes:
            notes.setdefault(note.model_dump_json(), (note, []))[1].append(row.name.full)
    reasons += [reason("compare.note", "", [note], names=tuple(names)) for note, names in notes.values()]
    if comparison.plans:
        reasons.append(reason("compare.plans", names=comparison.plans))
    return reasons


def _of_ids(rows: Sequence[RowComparison]) -> list[Finding]:
    pairs = [row.same_ids for row in rows if row.same_ids is not None]
    if not pairs:
        return []
    same, total = sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
    return [reason("compare.same_ids", same=same, total=total)]
