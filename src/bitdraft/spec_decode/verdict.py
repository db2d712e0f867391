"""Whether to speculate, with which draft and K, in words that the intervals support. Pure.

The fastest row by value is the candidate. Speculation is recommended when the lower end of that
row's speedup over K = 0 is above 1. Rows whose throughput can't be told from the candidate's, by the
interval of their paired ratio, are named beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from bitdraft.config import MOST_K
from bitdraft.metrics.speed import speed_ratio
from bitdraft.schema.records import Figure, Generation
from bitdraft.schema.results import SpecDecodeRow
from bitdraft.tables import joined, times_text

WIDE_INTERVAL = 0.25


def decide(
    rows: Sequence[SpecDecodeRow],
    generations: Mapping[tuple[str, int], Sequence[Generation]],
    costs: Mapping[str, Any],
    seed: int = 0,
) -> dict[str, Any]:
    """The verdict record: `speculate` (True, False, or None for unknown), `draft`, `k`, `summary`,
    `reasons`, and `indistinguishable` as [draft, K] pairs, the chosen one included."""
    finished = [row for row in rows if row.status == "ok"]
    reasons = _failure_reasons(rows)
    if not finished:
        summary = "Nothing could be measured, so nothing can be recommended."
        return {"speculate": None, "draft": None, "k": None, "summary": summary, "reasons": reasons}
    best = max(finished, key=lambda row: row.metrics["throughput_tok_s"].value)
    speedup = best.metrics["speedup"]
    tied = [row for row in finished if row is best or _same_speed(row, best, generations, seed)]
    reasons += [*_lossless_reasons(rows), *_draft_reasons(finished, costs)]
    if speedup.low is None or speedup.high is None:
        speculate = None
        summary = (
            f"{speedup.n} prompts are too few to say. By value the best is {_name(best)}: "
            f"{times_text(speedup)} the tokens/s of plain decoding."
        )
    elif speedup.low > 1:
        speculate = True
        summary = f"Speculate with {_name(best)}: {times_text(speedup)} the tokens/s of plain decoding."
    else:
        speculate = False
        summary = _refusal(best, speedup)
    if speculate and best.k == max(row.k for row in rows) < MOST_K:
        reasons.append(f"K = {best.k} is the largest that was asked for: a larger one may be faster still.")
    others = [row for row in tied if row is not best]
    if others and speculate:
        summary += f" {_ties(others)} cannot be told from it."
    return {
        "speculate": speculate,
        "draft": best.draft if speculate is not False else None,
        "k": best.k if speculate is not False else None,
        "summary": summary,
        "reasons": reasons,
        "indistinguishable": [[row.draft, row.k] for row in tied] if others and speculate is not None else [],
    }


def _name(row: SpecDecodeRow) -> str:
    return f"{row.draft}, K = {row.k}"


def _same_speed(
    row: SpecDecodeRow,
    best: SpecDecodeRow,
    generations: Mapping[tuple[str, int], Sequence[Generation]],
    seed: int,
) -> bool:
    ratio = speed_ratio(generations[row.draft, row.k], generations[best.draft, best.k], seed)
    return ratio.low is None or ratio.high is None or ratio.low <= 1 <= ratio.high


def _ties(rows: Sequence[SpecDecodeRow]) -> str:
    """`draft-small, K = 3, 4 and ngram, K = 5`."""
    parts = []
    for draft, group in groupby(rows, key=lambda row: row.draft):
        parts.append(f"{draft}, K = {joined([row.k for row in group])}")
    return joined(parts)


def _refusal(best: SpecDecodeRow, speedup: Figure) -> str:
    assert speedup.high is not None
    why = "is slower than" if speedup.high < 1 else "cannot be told from"
    return (
        f"Do not speculate: even the fastest, {_name(best)}, {why} plain decoding "
        f"({times_text(speedup)} its tokens/s)."
    )


def _failure_reasons(rows: Sequence[SpecDecodeRow]) -> list[str]:
    failed = [row for row in rows if row.status != "ok"]
    reasons = []
    for (draft, status, reason), group in groupby(
        failed, key=lambda row: (row.draft, row.status, row.reason)
    ):
        ks = joined([row.k for row in group])
        reasons.append(f"{draft}, K = {ks}: {status} ({reason}).")
    return reasons


def _lossless_reasons(rows: Sequence[SpecDecodeRow]) -> list[str]:
    """What the lossless check found over all rows, in one sentence."""
    checked = [row.lossless for row in rows if row.lossless is not None]
    if not checked:
        return []
    total = sum(entry["num_prompts"] for entry in checked)
    identical = sum(entry["identical"] for entry in checked)
    if identical == total:
        return [f"Lossless: all {total} runs gave the token ids of K = 0."]
    kinds = [found["kind"] for entry in checked for found in entry["divergences"]]
    counts = {kind: kinds.count(kind) for kind in kinds}
    parts = [f"{n} {kind}{'s' if n > 1 and kind != 'unchecked' else ''}" for kind, n in counts.items()]
    others = ", ".join(parts) or "unchecked"
    return [f"{identical} of {total} runs gave the token ids of K = 0; the others: {others}."]


def _draft_reasons(rows: Sequence[SpecDecodeRow], costs: Mapping[str, Any]) -> list[str]:
    """For each draft, its best row: what a draft forward costs and what a step brings."""
    reasons = []
    for draft in dict.fromkeys(row.draft for row in rows):
        row = max((r for r in rows if r.draft == draft), key=lambda r: r.metrics["throughput_tok_s"].value)
        tau = row.metrics.get("tokens_per_step")
        cost = costs.get("draft_cost", {}).get(draft)
        if tau is None or cost is None:
            continue
        verify = costs["verify_cost"].get(str(row.k), 1.0)
        break_even = cost * row.k + verify
        reasons.append(
            f"{_name(row)}: a step brings {tau.value:.2f} tokens for the time of "
            f"{break_even:.2f} (K draft forwards of {cost:.2f} and a verification of {verify:.2f})."
        )
    return reasons


def warnings_of(rows: Sequence[SpecDecodeRow]) -> tuple[str, ...]:
    warnings = []
    for row in rows:
        if row.status != "ok":
            continue
        bugs = [found for found in (row.lossless or {}).get("divergences", ()) if found["kind"] == "bug"]
        if bugs:
            warnings.append(
                f"{_name(row)}: prompt {bugs[0]['prompt']} leaves the text of K = 0 at token "
                f"{bugs[0]['position']}, and not by rounding. Please report this."
            )
        check = row.replay_check or {}
        real = [m for m in check.get("mismatches", ()) if not m.get("rounding_tie")]
        if real or (check.get("agrees") is False and "measured_over_expected" in check):
            where = f" (prompt {real[0]['prompt']}, step {real[0]['step']})" if real else ""
            warnings.append(f"{_name(row)}: measurement and replay disagree{where}.")
    widths = [_width(row.metrics["speedup"]) for row in rows if row.status == "ok"]
    wide = [width for width in widths if width > WIDE_INTERVAL]
    if wide:
        warnings.append(
            f"The speedup varies widely between prompts in {len(wide)} of {len(widths)} rows (intervals "
            f"up to {100 * max(wide):.0f} % wide): more prompts narrow it."
        )
    return tuple(warnings)


def _width(figure: Figure) -> float:
    return 0.0 if figure.low is None or figure.high is None else (figure.high - figure.low) / figure.value


def mark_random_weights(verdict: dict[str, Any]) -> dict[str, Any]:
    """What random weights accept is chance, so no verdict on them holds for trained ones."""
    caveat = "Random weights: acceptance, and so speedup, says nothing of trained ones."
    return verdict | {"summary": f"{caveat} {verdict['summary']}"}


def mark_synthetic(verdict: dict[str, Any], acceptance: float) -> dict[str, Any]:
    """Speeds were measured, acceptance was not."""
    caveat = f"Synthetic acceptance of {acceptance:g}: speeds are measured, agreement is stated."
    return verdict | {"summary": f"{caveat} {verdict['summary']}"}


def decide_plan(plan: Mapping[str, Any], num_prompts: int) -> dict[str, Any]:
    """The best predicted (draft, K), or not to speculate."""
    if not plan:
        summary = "No draft could be planned for."
        return {"speculate": None, "draft": None, "k": None, "summary": summary, "reasons": []}

    def predicted(draft: str) -> float:
        best_k = plan[draft]["best_k"]["replay"]
        return float(plan[draft]["by_k"][str(best_k)]["replay_end_to_end"])

    draft = max(plan, key=predicted)
    k, speedup = plan[draft]["best_k"]["replay"], predicted(draft)
    speculate = speedup > 1
    what = f"{draft}, K = {k}: predicted {speedup:.2f}× the tokens/s of plain decoding"
    summary = f"Speculate with {what}." if speculate else f"Do not speculate: the best is {what}."
    reasons = [
        f"{name}: best K = {entry['best_k']['replay']} with {predicted(name):.2f}× "
        f"({entry['by_k'][str(entry['best_k']['replay'])]['tokens_per_step']:.2f} tokens per step)."
        for name, entry in plan.items()
    ]
    reasons.append(
        f"Predicted from {num_prompts} prompts by replay and cost curves; nothing was swept, so there "
        "is no interval."
    )
    return {
        "speculate": speculate,
        "draft": draft if speculate else None,
        "k": k if speculate else None,
        "summary": summary,
        "reasons": reasons,
    }
