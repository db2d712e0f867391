"""From the modules' results to a recommendation. Pure: the same results give the same words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from bitdraft.config import RecommendConfig
from bitdraft.precision.verdict import DRIFT_WARNING, decide, machine_drift, memory_name
from bitdraft.recommend.choose import Choice, choose, ratio
from bitdraft.recommend.options import (
    PLAIN,
    Option,
    Pair,
    Prediction,
    limit_problem,
    measured_options,
    other_precision,
    pareto,
    plain_options,
    ppl_change,
    predictions_of,
    reference_of,
)
from bitdraft.results import Contender, Figure, PrecisionResult, Recommendation, SpecDecodeResult
from bitdraft.tables import joined, times_text

Standing = Literal["chosen", "indistinguishable", "slower", "predicted", "out"]


@dataclass
class Found:
    """What the modules have said so far; plans and sweeps by the precisions of target and drafts."""

    precision: PrecisionResult | None = None
    plans: dict[Pair, SpecDecodeResult] = field(default_factory=dict)
    sweeps: dict[Pair, SpecDecodeResult] = field(default_factory=dict)
    stages: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def plain(self, config: RecommendConfig) -> list[Option]:
        return plain_options(self.precision, config) if self.precision else []

    def measured(self, config: RecommendConfig) -> list[Option]:
        return [option for sweep in self.sweeps.values() for option in measured_options(sweep, config)]

    def predictions(self) -> list[Prediction]:
        """All of them, best first."""
        speeds = {row.precision: row.metrics["throughput_tok_s"].value for row in self._finished()}
        found = [p for (own, _), plan in self.plans.items() for p in predictions_of(plan, speeds[own])]
        return sorted(found, key=lambda one: -one.throughput)

    def _finished(self) -> list[Any]:
        return [row for row in self.precision.rows if row.status == "ok"] if self.precision else []


def precision_verdict(result: PrecisionResult, config: RecommendConfig) -> dict[str, Any]:
    """The precision module's, with the limits of memory and time to the first token as well."""
    found = {row.precision: limit_problem(row.metrics, config) for row in result.rows if row.status == "ok"}
    problems = {name: problem for name, problem in found.items() if problem is not None}
    stored, limit = result.model["stored_dtype"], config.max_ppl_increase
    return decide(result.rows, reference_of(result), limit, stored, problems)


def build(config: RecommendConfig, found: Found) -> Recommendation:
    limits = {
        name: value
        for name in ("max_ppl_increase", "max_vram_gb", "max_ttft_ms", "min_speedup")
        if (value := getattr(config, name)) is not None
    }
    result = found.precision
    base = Recommendation(
        config=config.model_dump(mode="json", exclude={"output", "data_root"}),
        limits=limits,
        stages=tuple(found.stages),
        skipped=tuple(found.skipped),
    )
    if result is None or not result.rows:
        summary = "Nothing was measured, so nothing can be recommended."
        return base.model_copy(update={"verdict": {"summary": summary, "reasons": []}})
    verdict = precision_verdict(result, config)
    plain, measured = found.plain(config), found.measured(config)
    drift = machine_drift(result.rows)
    drift = drift if drift > DRIFT_WARNING else 1.0
    choice = choose(plain, measured, verdict["precision"], drift, config.seed)
    warnings = [*result.warnings]
    for sweep in found.sweeps.values():
        warnings += [text for text in sweep.warnings if text not in warnings]
    return base.model_copy(
        update={
            "environment": result.environment,
            "model": result.model,
            "text": result.text,
            "choice": _choice_record(choice),
            "verdict": {
                "summary": _summary(choice, verdict, plain, found, config),
                "reasons": [*_reasons(choice, verdict, measured, found), *found.notes],
            },
            "memory_name": memory_name(result.rows),
            "contenders": tuple(_contenders(result, choice, plain, measured, found)),
            "warnings": tuple(warnings),
        }
    )


def _choice_record(choice: Choice) -> dict[str, Any]:
    option = choice.option
    if option is None:
        return {"precision": None, "speculate": None, "draft": None, "k": None, "draft_precision": None}
    speculates = option.draft != PLAIN
    return {
        "precision": option.precision,
        "speculate": True if speculates else None if choice.unsure else False,
        "draft": option.draft if speculates else None,
        "k": option.k if speculates else None,
        "draft_precision": option.draft_precision,
    }


def _summary(
    choice: Choice,
    verdict: dict[str, Any],
    plain: Sequence[Option],
    found: Found,
    config: RecommendConfig,
) -> str:
    option = choice.option
    if option is None:
        return str(verdict["summary"])
    parts = [f"Deploy {option.name}: {option.throughput:.0f} tokens/s."]
    if option.draft != PLAIN:
        speedup = times_text(option.metrics["speedup"])
        parts.append(f"Speculation brings {speedup} the tokens/s of plain decoding at {option.precision}.")
    elif choice.unsure:
        parts.append(choice.unsure)
    else:
        parts.append(_why_not(found, config))
    assert found.precision is not None
    reference = reference_of(found.precision)
    base = next((one for one in plain if one.precision == reference), None)
    if base is not None and base.precision != option.precision:
        total = times_text(ratio(option, base, config.seed))
        parts.append(f"Against plain decoding at {reference}: {total}.")
    if choice.tied:
        names = joined([one.name for one in sorted(choice.tied, key=lambda one: -one.throughput)])
        parts.append(f"In speed, {names} cannot be told from it.")
    return " ".join(parts)


def _why_not(found: Found, config: RecommendConfig) -> str:
    measured = found.measured(config)
    if measured:
        best = max(measured, key=lambda one: one.metrics["speedup"].value)
        return f"Do not speculate: the best that was measured, {best.name}, is out: {best.problem}."
    predictions = found.predictions()
    if predictions:
        best_p = max(predictions, key=lambda one: one.speedup)
        return (
            f"Do not speculate: the best that is predicted, {best_p.name}, would bring {best_p.speedup:.2f}× "
            f"the tokens/s of plain decoding."
        )
    return "Speculation was not examined." if found.skipped else "No draft could be measured."


def _reasons(choice: Choice, verdict: dict[str, Any], measured: Sequence[Option], found: Found) -> list[str]:
    reasons = [f"Precision first: {verdict['summary']}", *verdict["reasons"]]
    for (precision, _), sweep in found.sweeps.items():
        other = other_precision(sweep)
        where = f"{precision}{f', drafts in {other}' if other else ''}"
        reasons.append(f"At {where}: {sweep.verdict['summary']}")
        reasons += [f"At {where}: {text}" for text in sweep.verdict["reasons"] if "Lossless" in text]
    option = choice.option
    if option is not None:
        rivals = [one for one in measured if one.problem is None and one.precision != option.precision]
        if rivals:
            best = max(rivals, key=lambda one: one.throughput)
            reasons.append(
                f"{best.name} brought {best.throughput:.0f} tokens/s. Precisions run one after another, so "
                "differences between them that are below the machine's drift are not counted."
            )
    return reasons


def _contenders(
    result: PrecisionResult,
    choice: Choice,
    plain: Sequence[Option],
    measured: Sequence[Option],
    found: Found,
) -> list[Contender]:
    """The choice first, then by speed; then what was predicted alone, and what failed."""
    name = memory_name(result.rows)
    change = {row.precision: ppl_change(row) for row in result.rows if row.status == "ok"}
    options = sorted([*plain, *measured], key=lambda one: (one is not choice.option, -one.throughput))
    points = [_point(one, change, name) for one in options]
    fronts = pareto(points)
    rows = [
        _contender(one, _standing(one, choice), change[one.precision], name, front)
        for one, front in zip(options, fronts, strict=True)
    ]
    known = {(one.pair, one.draft, one.k) for one in options}
    for prediction in found.predictions():
        if (prediction.pair, prediction.draft, prediction.k) not in known:
            rows.append(
                Contender(
                    precision=prediction.precision,
                    draft=prediction.draft,
                    k=prediction.k,
                    draft_precision=prediction.draft_precision,
                    standing="predicted",
                    predicted_speedup=prediction.speedup,
                )
            )
    return rows + _failed(result, found)


def _standing(option: Option, choice: Choice) -> Standing:
    if option is choice.option:
        return "chosen"
    if option.problem is not None:
        return "out"
    return "indistinguishable" if any(option is one for one in choice.tied) else "slower"


def _point(option: Option, change: dict[str, Figure | None], memory: str) -> tuple[float, float, float]:
    own = change[option.precision]
    peak = option.metrics.get(memory)
    return option.throughput, own.value if own else 0.0, peak.value if peak else float("inf")


def _contender(
    option: Option, standing: Standing, change: Figure | None, memory: str, is_pareto: bool
) -> Contender:
    peak = option.metrics.get(memory)
    return Contender(
        precision=option.precision,
        draft=option.draft,
        k=option.k,
        draft_precision=option.draft_precision,
        standing=standing,
        reason=option.problem,
        throughput_tok_s=option.metrics["throughput_tok_s"],
        speedup=option.metrics.get("speedup"),
        ttft_ms=option.metrics["ttft_ms"],
        peak_memory_gb=peak.value if peak else None,
        ppl_change=change,
        is_pareto=is_pareto,
    )


def _failed(result: PrecisionResult, found: Found) -> list[Contender]:
    rows = [
        Contender(
            precision=row.precision, draft=PLAIN, k=0, standing="out", reason=f"{row.status}: {row.reason}"
        )
        for row in result.rows
        if row.status != "ok"
    ]
    for (precision, other), sweep in found.sweeps.items():
        rows += [
            Contender(
                precision=precision,
                draft=row.draft,
                k=row.k,
                draft_precision=other,
                standing="out",
                reason=f"{row.status}: {row.reason}",
            )
            for row in sweep.rows
            if row.status != "ok"
        ]
    return rows
