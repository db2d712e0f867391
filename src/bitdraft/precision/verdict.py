"""Which precision to use, in words that the intervals support. Pure functions over rows.

Quality comes first: a precision qualifies when the upper end of its paired Δ ln PPL interval stays
inside the limit. Among those the fastest wins; precisions whose speed ratio's interval holds 1, or
whose distance is smaller than the machine's own drift during the run, are indistinguishable from
it, and then memory decides, and then the reference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bitdraft.metrics import speed_ratio
from bitdraft.results import Figure, Generation, PrecisionRow

DRIFT_WARNING = 1.10
WIDE_INTERVAL = 0.20
MEMORY_MARGIN = 0.95


def generations_of(row: PrecisionRow) -> list[Generation]:
    return [Generation.model_validate(record) for record in row.raw.get("generations", [])]


def memory_name(rows: Sequence[PrecisionRow]) -> str:
    """`peak_vram_gb` where any row has it, else `peak_ram_gb`."""
    return "peak_vram_gb" if any("peak_vram_gb" in row.metrics for row in rows) else "peak_ram_gb"


def machine_drift(rows: Sequence[PrecisionRow]) -> float:
    """Slowest over fastest run of the fixed calibration product (1 without calibrations)."""
    times = [seconds for row in rows for seconds in row.raw.get("calibration_s", [])]
    return max(times) / min(times) if times else 1.0


def warnings_of(rows: Sequence[PrecisionRow]) -> tuple[str, ...]:
    warnings = []
    drift = machine_drift(rows)
    if drift > DRIFT_WARNING:
        warnings.append(
            f"The machine's speed changed by {100 * (drift - 1):.0f} % during the run (a fixed product, "
            "timed around each speed measurement). Speed differences below that say nothing: "
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
    rows: Sequence[PrecisionRow], reference: str, max_ppl_increase: float, stored_dtype: str
) -> dict[str, Any]:
    """The verdict record: `precision` (or None), `summary`, `reasons`, `comparisons`, `indistinguishable`."""
    finished = [row for row in rows if row.status == "ok"]
    base = next((row for row in finished if row.precision == reference), None)
    reasons = [f"{row.precision} is out: {row.status} ({row.reason})." for row in rows if row.status != "ok"]
    if not finished:
        summary = "No precision could be measured, so none can be recommended."
        return {"precision": None, "summary": summary, "reasons": reasons}
    eligible = []
    for row in finished:
        problem = _quality_problem(row, base, max_ppl_increase)
        if problem is None:
            eligible.append(row)
        else:
            reasons.append(f"{row.precision} is out: {problem}.")
    if base is None:
        reasons.append(f"The reference {reference} has no scores, so quality differences are unknown.")
        eligible = finished
    chosen, tied = _fastest(eligible, reference, machine_drift(rows))
    comparisons = [_comparison(row, base) for row in finished if base is not None and row is not base]
    if stored_dtype in ("fp16", "bf16"):
        reasons.append(_stored_note(stored_dtype))
    return {
        "precision": chosen.precision,
        "summary": _summary(chosen, tied, base),
        "reasons": reasons,
        "comparisons": comparisons,
        "indistinguishable": sorted(row.precision for row in tied) if len(tied) > 1 else [],
        "max_ppl_increase": max_ppl_increase,
    }


def _quality_problem(row: PrecisionRow, base: PrecisionRow | None, limit: float) -> str | None:
    if base is None or row is base:
        return None
    delta = Figure(**row.quality["delta_ln_ppl"])
    worst = delta.high if delta.high is not None else delta.value
    if worst <= math.log1p(limit):
        return None
    return (
        f"its perplexity may be {_percent(math.expm1(worst))} higher than {base.precision}'s, "
        f"more than the limit of {_percent(limit)}"
    )


def _fastest(
    rows: Sequence[PrecisionRow], reference: str, drift: float
) -> tuple[PrecisionRow, list[PrecisionRow]]:
    best = max(rows, key=lambda row: row.metrics["throughput_tok_s"].value)
    tied = [row for row in rows if row is best or _indistinguishable(best, row, drift)]
    name = memory_name(tied)
    least = min(row.metrics[name].value for row in tied)
    light = [row for row in tied if row.metrics[name].value * MEMORY_MARGIN <= least]
    by_choice = (
        [row for row in light if row.precision == reference] or [row for row in light if row is best] or light
    )
    return by_choice[0], tied


def _indistinguishable(best: PrecisionRow, other: PrecisionRow, drift: float) -> bool:
    ratio = speed_ratio(generations_of(best), generations_of(other))
    low = ratio.low if ratio.low is not None else ratio.value
    return low <= 1 or ratio.value <= (drift if drift > DRIFT_WARNING else 1)


def _comparison(row: PrecisionRow, base: PrecisionRow) -> dict[str, Any]:
    delta = Figure(**row.quality["delta_ln_ppl"])
    return {
        "precision": row.precision,
        "reference": base.precision,
        "speedup": speed_ratio(generations_of(row), generations_of(base)).model_dump(),
        "ppl_change": {
            name: None if value is None else math.expm1(value)
            for name, value in (("value", delta.value), ("low", delta.low), ("high", delta.high))
        },
    }


def _summary(chosen: PrecisionRow, tied: Sequence[PrecisionRow], base: PrecisionRow | None) -> str:
    others = [row.precision for row in tied if row is not chosen]
    parts = [f"Use {chosen.precision}."]
    if base is not None and chosen is not base:
        ratio = speed_ratio(generations_of(chosen), generations_of(base))
        parts.append(f"It runs at {_times(ratio)} the tokens/s of {base.precision};")
        parts.append(f"perplexity changes by {_ppl_change(chosen)}; {_memory(chosen, base)}.")
    elif base is not None and not others:
        parts.append("No other measured precision is faster within the quality limit.")
    if others:
        reason = _tie_reason(chosen, tied, base)
        parts.append(f"In speed it is indistinguishable from {' and '.join(others)}; {reason}.")
    return " ".join(parts)


def _tie_reason(chosen: PrecisionRow, tied: Sequence[PrecisionRow], base: PrecisionRow | None) -> str:
    name = memory_name(tied)
    if all(
        chosen.metrics[name].value < MEMORY_MARGIN * row.metrics[name].value
        for row in tied
        if row is not chosen
    ):
        return "it takes the least memory of these"
    return "it is the reference" if chosen is base else "it is the fastest by value"


def _memory(chosen: PrecisionRow, base: PrecisionRow) -> str:
    name = memory_name([chosen, base])
    what = "peak VRAM" if name == "peak_vram_gb" else "peak RAM"
    return f"{what} is {chosen.metrics[name].value:.2f} instead of {base.metrics[name].value:.2f} GiB"


def _ppl_change(row: PrecisionRow) -> str:
    delta = Figure(**row.quality["delta_ln_ppl"])
    text = _percent(math.expm1(delta.value), signed=True)
    if delta.low is None or delta.high is None:
        return text
    return f"{text} [{_percent(math.expm1(delta.low), True)}, {_percent(math.expm1(delta.high), True)}]"


def _times(ratio: Figure) -> str:
    if ratio.low is None or ratio.high is None:
        return f"{ratio.value:.2f}×"
    return f"{ratio.value:.2f}× [{ratio.low:.2f}, {ratio.high:.2f}]"


def _percent(share: float, signed: bool = False) -> str:
    digits = 3 if abs(share) < 0.001 else 2
    return f"{100 * share:{'+' if signed else ''}.{digits}f} %"


def _stored_note(stored_dtype: str) -> str:
    return (
        f"The checkpoint is stored in {stored_dtype}: fp32 widens the arithmetic, not the weights, "
        "and a third precision rounds the weights as well."
    )
