"""What a comparison says in words, and which regressions a build may fail on. Pure.

A row is faster or slower by its throughput, where the interval of the ratio excludes 1 and the ratio is
further from it than the machine itself moved. Without an interval nothing is significant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from bitdraft.compare.records import Comparison, Ratio, RowComparison
from bitdraft.tables import joined

TITLES = {
    "throughput_tok_s": "tokens/s",
    "tpot_ms": "TPOT",
    "ttft_ms": "TTFT",
    "speedup": "speedup over K = 0",
    "tokens_per_step": "tokens per step",
    "peak_vram_gb": "peak VRAM",
    "peak_ram_gb": "peak RAM",
    "ppl": "PPL",
    "bits_per_byte": "bits per byte",
}
# What a user waits for or reads. A lower speedup alone may be a faster K = 0, and fewer tokens a step show
# in the throughput; peak memory has no interval.
_FAILING = ("throughput_tok_s", "tpot_ms", "ttft_ms", "ppl")
_MOST_NAMED = 6
_EPSILON = 1e-12  # of a loss that is the limit but for rounding


_IN_PERCENT = ("ppl", "bits_per_byte")


def value_text(name: str, ratio: Ratio) -> str:
    """`0.931×`; of what hardly ever changes by as much, the change: `+0.012 %`."""
    value = ratio.ratio.value
    return f"{100 * (value - 1):+.3f} %" if name in _IN_PERCENT else f"{value:.3f}×"


def interval_text(name: str, ratio: Ratio) -> str:
    """`[0.902, 0.958]`, or nothing."""
    low, high = ratio.ratio.low, ratio.ratio.high
    if low is None or high is None:
        return ""
    if name in _IN_PERCENT:
        return f"[{100 * (low - 1):+.3f}, {100 * (high - 1):+.3f}]"
    return f"[{low:.3f}, {high:.3f}]"


def ratio_text(name: str, ratio: Ratio) -> str:
    return f"{value_text(name, ratio)} {interval_text(name, ratio)}".rstrip()


def regressions_of(comparison: Comparison, limit: float) -> list[str]:
    """Significant losses of at least `limit` (0.05: 5 %), and what ran, was lossless or was measured in A and
    is not in B, whatever the limit."""
    found = [*_status_changes(comparison.rows, "worse"), *_new_bugs(comparison.rows)]
    found += [f"{name}: not in B" for name in (*comparison.files_only_a, *comparison.lost)]
    for row in comparison.rows:
        losses = [
            f"{TITLES[name]} {ratio_text(name, ratio)}"
            for name, ratio in row.ratios.items()
            if name in _FAILING and ratio.standing == "worse" and ratio.loss >= limit - _EPSILON
        ]
        if losses:
            found.append(f"{row.name.full}: {', '.join(losses)}")
    return found


def blind_spot(comparison: Comparison) -> str | None:
    """Why no regression of speed could have been found; None where one could."""
    speeds = [row.ratios.get("throughput_tok_s") for row in comparison.rows]
    found = [speed for speed in speeds if speed is not None]
    if any(speed.standing != "unknown" for speed in found):
        return None
    if not found:
        return "no row has a speed on both sides"
    return "no speed has an interval, because fewer than 5 prompts (or groups of them) were measured"


def decide(comparison: Comparison, machine: Sequence[str]) -> dict[str, Any]:
    """`summary`, `reasons` and `counts`. `machine` is what is known of how the machine itself changed."""
    rows = comparison.rows
    speeds = _standings(rows, "throughput_tok_s")
    counts = {
        "rows": len(rows),
        "throughput": speeds,
        "ppl": _standings(rows, "ppl"),
        "status": dict(Counter(row.status_change for row in rows if row.status_change)),
    }
    parts = [_speed_sentence(speeds), _largest(rows), _ppl_sentence(rows)]
    worse, better = (_status_changes(rows, change) for change in ("worse", "better"))
    if worse:
        parts.append(f"What ran in A does not in B: {'; '.join(worse)}.")
    if better:
        parts.append(f"What did not run in A does in B: {'; '.join(better)}.")
    lost = (*comparison.files_only_a, *comparison.lost)
    if lost:
        parts.append(f"Of what A has, B has not: {_some(lost)}.")
    bugs = _new_bugs(rows)
    if bugs:
        parts.append(f"No longer lossless: {'; '.join(bugs)}.")
    summary = " ".join(part for part in parts if part)
    return {"summary": summary, "reasons": _reasons(comparison, machine), "counts": counts}


def _standings(rows: Sequence[RowComparison], name: str) -> dict[str, int]:
    return dict(Counter(row.ratios[name].standing for row in rows if name in row.ratios))


def _speed_sentence(counts: dict[str, int]) -> str:
    total = sum(counts.values())
    if not total:
        return "No row has a speed on both sides."
    if counts.get("unknown", 0) == total:
        return (
            "Nothing is significant: fewer than 5 prompts (or groups of them) have no interval. "
            "Measure more of them."
        )
    if counts.get("same", 0) == total:
        return f"The speeds of A and B cannot be told apart{f' in any of {total} rows' if total > 1 else ''}."
    named = {key: counts.get(key) or "none" for key in ("better", "worse")}
    text = f"B is faster in {named['better']} of {total} rows, slower in {named['worse']}"
    others = [
        f"{counts[key]} {what}"
        for key, what in (
            ("same", "cannot be told apart"),
            ("drift", "differ by no more than the machine itself did"),
            ("unknown", "have too few prompts for an interval"),
        )
        if counts.get(key)
    ]
    return f"{text}; {joined(others)}." if others else f"{text}."


def _largest(rows: Sequence[RowComparison]) -> str:
    losses = [
        (ratio.loss, f"{row.name.full}, {TITLES[name]} {ratio_text(name, ratio)}")
        for row in rows
        for name, ratio in row.ratios.items()
        if name in _FAILING and ratio.standing == "worse"
    ]
    if losses:
        return f"Largest regression: {max(losses)[1]}."
    measured = {r.standing for row in rows for name, r in row.ratios.items() if name in _FAILING}
    return "No significant regression." if measured - {"unknown"} else ""


def _ppl_sentence(rows: Sequence[RowComparison]) -> str:
    scored = [(row, row.ratios["ppl"]) for row in rows if "ppl" in row.ratios]
    if not scored:
        return ""
    if all(ratio.ratio.value == 1 == ratio.ratio.low == ratio.ratio.high for _, ratio in scored):
        return "Perplexity is the same."
    changed = [
        f"{row.name.full} {ratio_text('ppl', ratio)}"
        for row, ratio in scored
        if ratio.standing in ("better", "worse")
    ]
    if changed:
        return f"Perplexity: {'; '.join(changed)}."
    if all(ratio.standing == "unknown" for _, ratio in scored):
        return "Too few blocks of text were scored to compare perplexities."
    return "Perplexity cannot be told apart."


def _status_changes(rows: Sequence[RowComparison], change: str) -> list[str]:
    """Rows of one file that changed alike are one entry: a draft's failure takes all its K with it."""
    together: dict[tuple[str, str, str], list[RowComparison]] = {}
    for row in rows:
        if row.status_change == change:
            key = row.name.source, row.status_a, row.status_b
            together.setdefault(key, []).append(row)
    found = []
    for (_, before, after), group in together.items():
        names = [group[0].name.full, *(row.name.short for row in group[1:3])]
        more = f" and {len(group) - 3} more rows" if len(group) > 3 else ""
        reason = group[0].reason_b if change == "worse" else group[0].reason_a
        found.append(f"{'; '.join(names)}{more} ({before} → {after}{f': {reason}' if reason else ''})")
    return found


def _new_bugs(rows: Sequence[RowComparison]) -> list[str]:
    found = []
    for row in rows:
        if row.bugs[1] > row.bugs[0]:
            total = f" of {row.same_ids[1]}" if row.same_ids is not None else ""
            found.append(
                f"{row.name.full}: not the text of K = 0 in {row.bugs[1]}{total}, by a bug and not by "
                f"rounding ({row.bugs[0]} in A)"
            )
    return found


def _reasons(comparison: Comparison, machine: Sequence[str]) -> list[str]:
    rows = comparison.rows
    free = any("speedup" in row.ratios for row in rows)
    reasons = [
        "A and B were not measured in turn: what the machine did between the two runs is in the ratios and "
        "not in their intervals."
        + (" Only speedups over K = 0, measured in turn within each run, are free of it." if free else ""),
        *machine,
        *_ids_reasons(rows),
    ]
    reasons += [
        f"{e.source} is not compared: {e.field} is {e.values}: {e.problem}. {e.remedy}."
        for e in comparison.refused
    ]
    for side, names, files in (
        ("A", comparison.only_a, comparison.files_only_a),
        ("B", comparison.only_b, comparison.files_only_b),
    ):
        missing = [*files, *(name.full for name in names)]
        if missing:
            reasons.append(f"Only in {side}: {_some(missing)}.")
    notes: dict[str, list[str]] = {}
    for row in rows:
        for note in row.notes:
            notes.setdefault(note, []).append(row.name.full)
    reasons += [f"{_some(names)}: {note}." for note, names in notes.items()]
    if comparison.skipped:
        reasons.append(f"Plans measured no speed and were skipped: {', '.join(comparison.skipped)}.")
    return reasons


def _some(names: Sequence[str]) -> str:
    """A sweep has many rows: the first few say which are meant."""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return "; ".join(names[:_MOST_NAMED]) + more


def _ids_reasons(rows: Sequence[RowComparison]) -> list[str]:
    pairs = [row.same_ids for row in rows if row.same_ids is not None]
    if not pairs:
        return []
    same, total = sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
    if same == total:
        return [f"Greedy texts: all {total} have the same token ids."]
    return [f"Greedy texts: {same} of {total} have the same token ids."]
