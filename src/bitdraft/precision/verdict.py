"""Which precision to use, in words that the intervals support. Pure functions over rows.

Quality comes first: a precision qualifies when the upper end of its paired Δ ln PPL interval stays
inside the limit. Among those the fastest wins. Two speeds can't be told apart when the interval of
their ratio holds 1, when there are too few prompts for an interval, or when the ratio is smaller
than the machine's own drift during the run; then memory decides, and then the reference. Of random
weights only the speeds are compared, and no precision is recommended.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from bitdraft.metrics.speed import speed_ratio
from bitdraft.schema.records import Figure, Generation
from bitdraft.schema.results import PrecisionRow
from bitdraft.tables import joined, times_text

DRIFT_WARNING = 1.10
WIDE_INTERVAL = 0.20
MEMORY_MARGIN = 0.95
NOT_MEASURED = "random weights: quality not measured"


def generations_of(row: PrecisionRow) -> list[Generation]:
    return [Generation.model_validate(record) for record in row.raw.get("generations", [])]


def memory_name(rows: Sequence[PrecisionRow]) -> str:
    """`peak_vram_gb` where any row has it, else `peak_ram_gb`."""
    return "peak_vram_gb" if any("peak_vram_gb" in row.metrics for row in rows) else "peak_ram_gb"


def quality_is_skipped(rows: Sequence[PrecisionRow]) -> bool:
    """Random weights have speed and memory alone."""
    return any("not_measured" in row.quality for row in rows)


def machine_drift(rows: Sequence[PrecisionRow]) -> float:
    """Slowest over fastest row in the fixed work that is timed between its prompts (1 without any)."""
    times = [row.raw["calibration_s"] for row in rows if row.raw.get("calibration_s")]
    means = [sum(samples) / len(samples) for samples in times]
    return max(means) / min(means) if means else 1.0


def warnings_of(rows: Sequence[PrecisionRow]) -> tuple[str, ...]:
    warnings = []
    drift = machine_drift(rows)
    if drift > DRIFT_WARNING:
        warnings.append(
            f"The machine's speed changed by {100 * (drift - 1):.0f} % between precisions (fixed work, timed "
            "between the prompts). Speed differences below that say nothing: "
            "measure again on a quiet machine."
        )
    for row in rows:
        speed = row.metrics.get("throughput_tok_s")
        if speed and speed.low and speed.high and (speed.high - speed.low) / speed.value > WIDE_INTERVAL:
            width = 100 * (speed.high - speed.low) / speed.value
            warnings.append(
                f"{row.precision}: throughput varies widely between prompts (interval {width:.0f} %)."
            )
        if "kl_missing" in row.quality:
            warnings.append(f"{row.precision}: no KL divergence ({row.quality['kl_missing']}).")
    return tuple(warnings)


def decide(
    rows: Sequence[PrecisionRow],
    reference: str,
    max_ppl_increase: float,
    stored_dtype: str,
    problems: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """The verdict record: `precision` (or None), `summary`, `reasons`, `comparisons`, `indistinguishable`.
    `problems` take precisions out for other reasons than their quality."""
    finished = [row for row in rows if row.status == "ok"]
    base = next((row for row in finished if row.precision == reference), None)
    reasons = [f"{row.precision} is out: {row.status} ({row.reason})." for row in rows if row.status != "ok"]
    if not finished:
        summary = "No precision could be measured, so none can be recommended."
        return {"precision": None, "summary": summary, "reasons": reasons}
    eligible = []
    for row in finished:
        problem = all_of(quality_problem(row, base, max_ppl_increase), problems.get(row.precision))
        if problem is None:
            eligible.append(row)
        else:
            reasons.append(f"{row.precision} is out: {problem}.")
    skipped = quality_is_skipped(finished)
    if base is None:
        if not skipped:
            reasons.append(f"The reference {reference} has no scores, so quality differences are unknown.")
        eligible = [row for row in finished if row.precision not in problems]
    if not eligible:
        summary = "No measured precision keeps within the limits, so none can be recommended."
        return {"precision": None, "summary": summary, "reasons": reasons}
    chosen, tied = _fastest(eligible, reference, machine_drift(rows))
    comparisons = [_comparison(row, base) for row in finished if base is not None and row is not base]
    if stored_dtype in ("fp16", "bf16"):
        reasons.append(_stored_note(stored_dtype))
    return {
        "precision": None if skipped else chosen.precision,
        "summary": _summary(chosen, tied, base, finished),
        "reasons": reasons,
        "comparisons": comparisons,
        "indistinguishable": sorted(row.precision for row in tied) if len(tied) > 1 else [],
        "max_ppl_increase": max_ppl_increase,
    }


def all_of(*problems: str | None) -> str | None:
    """What there is of several problems as one."""
    return "; ".join(problem for problem in problems if problem is not None) or None


def quality_problem(row: PrecisionRow, base: PrecisionRow | None, limit: float) -> str | None:
    if base is None or row is base or "not_measured" in row.quality:
        return None
    delta = Figure(**row.quality["delta_ln_ppl"])
    if delta.high is None:
        blocks = "block" if delta.n == 1 else "blocks"
        return (
            f"{delta.n} {blocks} of scored text are too few to judge its quality (score more with "
            "--ppl-max-tokens, or a longer text)"
        )
    if delta.high <= math.log1p(limit):
        return None
    return (
        f"its perplexity may be {_percent(math.expm1(delta.high))} higher than {base.precision}'s, "
        f"more than the limit of {_percent(limit)}"
    )


def _fastest(
    rows: Sequence[PrecisionRow], reference: str, drift: float
) -> tuple[PrecisionRow, list[PrecisionRow]]:
    """The choice, and every row whose speed can't be told from it (itself included)."""
    best = max(rows, key=lambda row: row.metrics["throughput_tok_s"].value)
    tied = [row for row in rows if row is best or _same_speed(best, row, drift)]
    name = memory_name(tied)
    least = min(row.metrics[name].value for row in tied)
    light = [row for row in tied if row.metrics[name].value * MEMORY_MARGIN <= least]
    chosen = next((row for row in light if row.precision == reference), best if best in light else light[0])
    return chosen, [row for row in tied if row is chosen or _same_speed(row, chosen, drift)]


def _same_speed(one: PrecisionRow, other: PrecisionRow, drift: float) -> bool:
    ratio = speed_ratio(generations_of(one), generations_of(other))
    if ratio.low is None or ratio.high is None or ratio.low <= 1 <= ratio.high:
        return True
    return max(ratio.value, 1 / ratio.value) <= (drift if drift > DRIFT_WARNING else 1)


def _comparison(row: PrecisionRow, base: PrecisionRow) -> dict[str, Any]:
    compared = {
        "precision": row.precision,
        "reference": base.precision,
        "speedup": speed_ratio(generations_of(row), generations_of(base)).model_dump(),
    }
    if "not_measured" in row.quality:
        return compared
    delta = Figure(**row.quality["delta_ln_ppl"])
    ends = (("value", delta.value), ("low", delta.low), ("high", delta.high))
    change = {name: None if value is None else math.expm1(value) for name, value in ends}
    return compared | {"ppl_change": change}


def _summary(
    chosen: PrecisionRow,
    tied: Sequence[PrecisionRow],
    base: PrecisionRow | None,
    finished: Sequence[PrecisionRow],
) -> str:
    others = [row.precision for row in tied if row is not chosen]
    skipped = quality_is_skipped([chosen])
    parts = [
        f"{NOT_MEASURED.capitalize()}. By speed and memory alone: {chosen.precision}."
        if skipped
        else f"Use {chosen.precision}."
    ]
    if others:
        reason = _tie_reason(chosen, tied, base)
        parts.append(f"Its speed cannot be told from that of {' and '.join(others)}; {reason}.")
    elif len(finished) == 1:
        parts.append("It is the only precision that was measured.")
    elif chosen is base and (unjudged := _unjudged(finished)):
        parts.append(f"Too little text was scored to judge the quality of {joined(unjudged)}.")
    elif chosen is base:
        limit = "" if skipped else " within the quality limit"
        parts.append(f"No other measured precision is faster{limit}.")
    if base is not None and chosen is not base:
        ratio = speed_ratio(generations_of(chosen), generations_of(base))
        quality = "" if skipped else f"perplexity {_ppl_change(chosen)}, "
        parts.append(
            f"Against {base.precision}: {times_text(ratio)} the tokens/s, {quality}{_memory(chosen, base)}."
        )
    return " ".join(parts)


def _unjudged(rows: Sequence[PrecisionRow]) -> list[str]:
    deltas = [(row.precision, row.quality.get("delta_ln_ppl")) for row in rows]
    return [precision for precision, delta in deltas if delta is not None and Figure(**delta).high is None]


def _tie_reason(chosen: PrecisionRow, tied: Sequence[PrecisionRow], base: PrecisionRow | None) -> str:
    name = memory_name(tied)
    if any(row.metrics[name].value * MEMORY_MARGIN > chosen.metrics[name].value for row in tied):
        return "it takes less memory"
    if chosen is base:
        return "it is the reference"
    return "it is the fastest of them by value"


def _memory(chosen: PrecisionRow, base: PrecisionRow) -> str:
    name = memory_name([chosen, base])
    what = "peak VRAM" if name == "peak_vram_gb" else "peak RAM"
    return f"{what} {chosen.metrics[name].value:.2f} against {base.metrics[name].value:.2f} GiB"


def _ppl_change(row: PrecisionRow) -> str:
    delta = Figure(**row.quality["delta_ln_ppl"])
    text = _percent(math.expm1(delta.value), signed=True)
    if delta.low is None or delta.high is None:
        return text
    return f"{text} [{_percent(math.expm1(delta.low), True)}, {_percent(math.expm1(delta.high), True)}]"


def _percent(share: float, signed: bool = False) -> str:
    digits = 3 if abs(share) < 0.001 else 2
    return f"{100 * share:{'+' if signed else ''}.{digits}f} %"


def _stored_note(stored_dtype: str) -> str:
    return (
        f"The checkpoint is stored in {stored_dtype}: fp32 widens the arithmetic, not the weights, "
        "and a third precision rounds the weights as well."
    )
