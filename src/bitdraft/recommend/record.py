"""From the modules' results to a recommendation. Pure: the same results give the same words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from bitdraft.config import RecommendConfig
from bitdraft.precision.verdict import DRIFT_WARNING, machine_drift, memory_name
from bitdraft.recommend import words
from bitdraft.recommend.choose import Choice, choose
from bitdraft.recommend.found import Found, precision_verdict
from bitdraft.recommend.options import (
    PLAIN,
    Option,
    pareto,
    ppl_change,
)
from bitdraft.schema.records import Figure
from bitdraft.schema.results import Contender, PrecisionResult, Recommendation

Standing = Literal["chosen", "indistinguishable", "slower", "predicted", "out"]


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
    if choice.option is not None and choice.option.draft == PLAIN and not choice.unsure:
        choice = replace(choice, unsure=words.unexamined(found, measured, config))
    return base.model_copy(
        update={
            "environment": result.environment,
            "model": result.model,
            "text": result.text,
            "choice": _choice_record(choice),
            "verdict": {
                "summary": words.summary(choice, verdict, (plain, measured), found, config),
                "reasons": [*words.reasons(choice, verdict, measured, found, config), *found.notes],
            },
            "memory_name": memory_name(result.rows),
            "contenders": tuple(_contenders(result, choice, plain, measured, found)),
            "warnings": (*result.warnings, *words.sweep_warnings(found)),
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
        throughput_tok_s=option.speed,
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
