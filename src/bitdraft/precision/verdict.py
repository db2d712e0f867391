"""Which precision to use, as findings that the intervals support. Pure functions over rows.

Quality comes first: a precision qualifies when the upper end of its paired Δ ln PPL interval stays
inside the limit. Among those the fastest wins. Two speeds can't be told apart when the interval of
their ratio (for all pairs at once) holds 1, when there are too few prompts for an interval, or when the
ratio is smaller than the machine's own drift during the run; then memory decides, and then the reference.
Of random weights only the speeds are compared, and no precision is recommended.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from bitdraft import formats
from bitdraft.metrics.memory import memory_name
from bitdraft.metrics.quality import ppl_increase
from bitdraft.metrics.speed import product_of_speeds
from bitdraft.schema.findings import Finding, answer, reason, warning
from bitdraft.schema.precision import PrecisionComparison, PrecisionRow, PrecisionVerdict
from bitdraft.schema.records import Figure
from bitdraft.stats.drift import DRIFT_LIMIT, DRIFT_WARNING, drift_of
from bitdraft.stats.intervals import Noise, with_noise

WIDE_INTERVAL = 0.20
_TIMES = ("throughput_tok_s", "tpot_ms", "decode_tok_s", "ttft_ms", "itl_ms")
MEMORY_MARGIN = 0.95

Decided = tuple[PrecisionVerdict, tuple[Finding, ...]]


def quality_is_skipped(rows: Sequence[PrecisionRow]) -> bool:
    """Random weights have speed and memory alone."""
    return any(row.quality.not_measured is not None for row in rows)


def machine_drift(rows: Sequence[PrecisionRow]) -> float:
    """Slowest over fastest row in the fixed work that is timed between its prompts (1 without any)."""
    return drift_of(row.raw.reference_work_s or row.raw.calibration_s or () for row in rows)


def process_noise(rows: Sequence[PrecisionRow]) -> Noise | None:
    """How much processes differ that did the same, from the rounds of all precisions; None for one round."""
    return Noise.of(
        [[product_of_speeds([[runs]], []).value for runs in row.rounds] for row in rows if row.more_runs]
    )


def with_process_noise(rows: Sequence[PrecisionRow]) -> list[PrecisionRow]:
    """The rows with the noise between processes in the intervals of their speeds."""
    noise = process_noise(rows)
    return [
        row.model_copy(
            update={
                "metrics": {
                    name: with_noise(figure, noise, 1 / len(row.rounds))[0] if name in _TIMES else figure
                    for name, figure in row.metrics.items()
                }
            }
        )
        for row in rows
    ]


def ratio_of_rows(
    one: PrecisionRow, other: PrecisionRow, noise: Noise | None, num_looked_at: int = 1
) -> Figure:
    """Throughput over throughput, prompts paired, with the noise between processes; the interval holds for so
    many at once."""
    found = product_of_speeds([one.rounds], [other.rounds])
    num_processes = 1 / len(one.rounds) + 1 / len(other.rounds)
    return with_noise(found, noise, num_processes, num_looked_at)[0]


def warnings_of(rows: Sequence[PrecisionRow]) -> tuple[Finding, ...]:
    """What takes trust from the rows."""
    warnings = []
    drift = machine_drift(rows)
    if drift > DRIFT_WARNING:
        warnings.append(warning("precision.drift", drift=drift))
    noise = process_noise(rows)
    if noise is not None and math.sqrt(noise.variance) > WIDE_INTERVAL:
        warnings.append(warning("precision.noisy", factor=math.exp(math.sqrt(noise.variance))))
    for row in rows:
        speed = row.metrics.get("throughput_tok_s")
        if speed and speed.low and speed.high and (speed.high - speed.low) / speed.value > WIDE_INTERVAL:
            width = (speed.high - speed.low) / speed.value
            warnings.append(warning("precision.wide_interval", row.precision, width=width))
        if row.quality.kl_missing is not None:
            warnings.append(warning("precision.kl_missing", row.precision, why=row.quality.kl_missing))
    return tuple(warnings)


def decide(
    rows: Sequence[PrecisionRow],
    reference: str,
    max_ppl_increase: float,
    stored_dtype: str | None,
    problems: Mapping[str, Sequence[Finding]] = MappingProxyType({}),
) -> Decided:
    """The verdict and its findings. `problems` take precisions out for other reasons than their quality."""
    finished = [row for row in rows if row.status == "ok"]
    base = compared_with(rows, reference)
    reasons = [
        reason("row.failed", row.precision, status=row.status, why=row.reason)
        for row in rows
        if row.status != "ok"
    ]
    if not finished:
        return PrecisionVerdict(), (answer("precision.none_measured"), *reasons)
    eligible = []
    for row in finished:
        found = [*quality_problems(row, base, max_ppl_increase), *problems.get(row.precision, ())]
        if found:
            reasons.append(reason("precision.out", row.precision, found))
        else:
            eligible.append(row)
    skipped = quality_is_skipped(finished)
    if base is None and not skipped:
        return PrecisionVerdict(), (answer("precision.not_judged", reference), *reasons)
    if not eligible:
        return PrecisionVerdict(), (answer("precision.none_within_limits"), *reasons)
    other = base is not None and base.precision != reference
    first = [answer("precision.other_reference", base.precision, asked=reference)] if base and other else []
    noise = process_noise(rows)
    drift = machine_drift(rows)
    differ = 1.0 if noise is None else math.exp(math.sqrt(noise.variance))
    too_noisy = drift > DRIFT_LIMIT or math.log(differ) > WIDE_INTERVAL
    if len(eligible) > 1 and too_noisy and base is not None:
        verdict = PrecisionVerdict(
            comparisons=tuple(_comparison(r, base, noise) for r in finished if r is not base),
            max_ppl_increase=max_ppl_increase,
        )
        return verdict, (
            *first,
            answer("precision.too_drifted", base.precision, drift=max(drift, differ)),
            *reasons,
        )
    judged = _Judge(drift, noise, math.comb(len(eligible), 2))
    chosen, tied = _fastest(eligible, base.precision if base else reference, judged)
    if formats.find(stored_dtype or "").bits == 16:
        reasons.append(reason("precision.stored", stored_dtype or ""))
    verdict = PrecisionVerdict(
        precision=None if skipped else chosen.precision,
        comparisons=tuple(
            _comparison(r, base, noise) for r in finished if base is not None and r is not base
        ),
        indistinguishable=tuple(sorted(row.precision for row in tied)) if len(tied) > 1 else (),
        max_ppl_increase=max_ppl_increase,
    )
    if noise is not None and math.sqrt(noise.variance) <= WIDE_INTERVAL:
        deviation = math.expm1(math.sqrt(noise.variance))
        reasons.append(reason("precision.rounds", deviation=deviation, degrees=noise.degrees))
    against = [] if base is None or chosen is base else [_against(chosen, base, noise)]
    return verdict, (*first, *_answers(chosen, tied, base, finished), *against, *reasons)


def compared_with(rows: Sequence[PrecisionRow], reference: str) -> PrecisionRow | None:
    """The row that the others' quality is compared with: the reference's, or where that failed the one that
    took its place (`stand_in`), if there are others to compare with it, or the device can't run what was to
    be it; else None."""
    finished = [row for row in rows if row.status == "ok"]
    base = next((row for row in finished if row.precision == reference), None)
    if base is not None:
        return base
    scored = [row for row in finished if "ppl" in row.metrics]
    alone = [row for row in scored if row.quality.delta_ln_ppl is None]
    impossible = any(row.precision == reference and row.status == "unsupported" for row in rows)
    return alone[0] if len(alone) == 1 and (len(scored) > 1 or impossible) else None


def stand_in(names: Sequence[str], reference: str) -> str:
    """What takes the reference's place where it has no scores: of the names of those that have, the one that
    rounds least."""
    able = [name for name in names if formats.find(name).can_be_reference]
    return reference if reference in names or not able else formats.default_reference(able)


def quality_problems(row: PrecisionRow, base: PrecisionRow | None, limit: float) -> list[Finding]:
    """Why a row's quality keeps it out: at most one finding."""
    if base is None or row is base or row.quality.not_measured is not None:
        return []
    delta = row.quality.delta_ln_ppl
    if delta is None or delta.high is None:
        return [Finding(code="quality.unjudged", figures={"n": 0 if delta is None else delta.n})]
    if delta.high <= math.log1p(limit):
        return []
    figures = {"increase": ppl_increase(delta.high), "limit": limit}
    return [Finding(code="quality.worse", subject=base.precision, figures=dict(figures))]


@dataclass(frozen=True)
class _Judge:
    """Which speeds cannot be told apart, by intervals for so many pairs at once."""

    drift: float
    noise: Noise | None
    num_pairs: int

    def same_speed(self, one: PrecisionRow, other: PrecisionRow) -> bool:
        ratio = ratio_of_rows(one, other, self.noise, self.num_pairs)
        if ratio.low is None or ratio.high is None or ratio.low <= 1 <= ratio.high:
            return True
        return max(ratio.value, 1 / ratio.value) <= self.drift


def _fastest(
    rows: Sequence[PrecisionRow], reference: str, judge: _Judge
) -> tuple[PrecisionRow, list[PrecisionRow]]:
    """The choice, and every row whose speed can't be told from it (itself included)."""
    best = max(rows, key=lambda row: row.metrics["throughput_tok_s"].value)
    tied = [row for row in rows if row is best or judge.same_speed(best, row)]
    name = memory_name(row.metrics for row in tied)
    least = min(row.metrics[name].value for row in tied)
    light = [row for row in tied if row.metrics[name].value * MEMORY_MARGIN <= least]
    chosen = next((row for row in light if row.precision == reference), best if best in light else light[0])
    return chosen, [row for row in tied if row is chosen or judge.same_speed(row, chosen)]


def ppl_change(row: PrecisionRow) -> Figure | None:
    """exp(Δ ln PPL) − 1 with its interval; None for the reference, and where nothing was scored."""
    delta = row.quality.delta_ln_ppl
    if delta is None:
        return None
    low, high = (None if end is None else ppl_increase(end) for end in (delta.low, delta.high))
    return Figure(value=ppl_increase(delta.value), low=low, high=high, n=delta.n)


def _comparison(row: PrecisionRow, base: PrecisionRow, noise: Noise | None) -> PrecisionComparison:
    return PrecisionComparison(
        precision=row.precision,
        reference=base.precision,
        speedup=ratio_of_rows(row, base, noise),
        ppl_change=ppl_change(row),
    )


def _answers(
    chosen: PrecisionRow,
    tied: Sequence[PrecisionRow],
    base: PrecisionRow | None,
    finished: Sequence[PrecisionRow],
) -> list[Finding]:
    others = tuple(row.precision for row in tied if row is not chosen)
    skipped = quality_is_skipped([chosen])
    name = chosen.precision
    found = [answer("precision.use_by_speed" if skipped else "precision.use", name)]
    unjudged = tuple(
        r.precision for r in finished if r.quality.delta_ln_ppl and r.quality.delta_ln_ppl.high is None
    )
    if others:
        found.append(answer("precision.tied", name, others=others, why=_tie_reason(chosen, tied, base)))
    elif len(finished) == 1:
        found.append(answer("precision.only_one", name))
    elif chosen is base and unjudged:
        found.append(answer("precision.unjudged", name, others=unjudged))
    elif chosen is base:
        found.append(answer("precision.no_faster", name, within_limit=not skipped))
    return found


def _against(chosen: PrecisionRow, base: PrecisionRow, noise: Noise | None) -> Finding:
    memory = memory_name((chosen.metrics, base.metrics))
    return answer(
        "precision.against",
        base.precision,
        ratio=ratio_of_rows(chosen, base, noise),
        ppl_change=None if quality_is_skipped([chosen]) else ppl_change(chosen),
        memory_name=memory,
        memory_gb=chosen.metrics[memory].value,
        reference_memory_gb=base.metrics[memory].value,
    )


def _tie_reason(chosen: PrecisionRow, tied: Sequence[PrecisionRow], base: PrecisionRow | None) -> str:
    name = memory_name(row.metrics for row in tied)
    if any(row.metrics[name].value * MEMORY_MARGIN > chosen.metrics[name].value for row in tied):
        return "memory"
    return "reference" if chosen is base else "value"
