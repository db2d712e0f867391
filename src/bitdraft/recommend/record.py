"""From the modules' results to a recommendation. Pure: the same results give the same findings."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

from bitdraft.config import RecommendConfig
from bitdraft.metrics.memory import memory_name
from bitdraft.precision.verdict import machine_drift, ppl_change, process_noise
from bitdraft.recommend import explain
from bitdraft.recommend.choose import Choice, choose
from bitdraft.recommend.found import Found, precision_verdict
from bitdraft.recommend.options import Option, pareto
from bitdraft.schema.findings import Finding, answer
from bitdraft.schema.precision import PrecisionResult
from bitdraft.schema.recommendation import Choice as ChoiceRecord
from bitdraft.schema.recommendation import Contender, Limits, Recommendation, Standing
from bitdraft.schema.records import Figure


def build(config: RecommendConfig, found: Found, *, is_complete: bool = True) -> Recommendation:
    """A recommendation of what has been found; of a search that is not complete, what is ahead so far."""
    result = found.precision
    base = Recommendation(
        config=config,
        limits=Limits(**{name: getattr(config, name) for name in Limits.model_fields}),
        stages=tuple(found.stages),
        findings=tuple(found.skipped),
    )
    if result is None or not result.rows:
        return base.model_copy(update={"findings": (answer("recommend.nothing"), *found.skipped)})
    verdict, of_precision = precision_verdict(result, config)
    plain, measured = found.plain(config), found.measured(config)
    drift = machine_drift(result.rows)
    noise = process_noise(result.rows)
    choice = choose(plain, measured, verdict.precision, drift, noise=noise, min_speedup=config.min_speedup)
    if choice.option is not None and choice.option.draft is None and choice.unsure is None:
        choice = replace(choice, unsure=explain.unexamined(found, measured, choice.option.precision, config))
    if is_complete:
        said = explain.answers(choice, of_precision, measured, found, config)
        said += explain.reasons(choice, of_precision, measured, found, config)
    else:
        said = [] if choice.option is None else [answer("recommend.ahead", choice.option.name)]
    findings = [
        *said,
        *found.notes,
        *explain.warnings_of(found),
        *found.skipped,
    ]
    return base.model_copy(
        update={
            "environment": result.environment,
            "model": result.model,
            "text": result.text,
            "choice": _choice_record(choice) if is_complete else ChoiceRecord(),
            "findings": tuple(findings),
            "memory_name": memory_name(row.metrics for row in result.rows),
            "contenders": tuple(_contenders(result, choice, (plain, measured), found, is_complete)),
        }
    )


def _choice_record(choice: Choice) -> ChoiceRecord:
    option = choice.option
    if option is None:
        return ChoiceRecord()
    speculates = option.draft is not None
    return ChoiceRecord(
        precision=option.precision,
        speculate=True if speculates else None if choice.unsure else False,
        draft=option.draft,
        k=option.k if speculates else None,
        draft_precision=option.draft_precision,
    )


def _contenders(
    result: PrecisionResult,
    choice: Choice,
    options: tuple[Sequence[Option], Sequence[Option]],
    found: Found,
    is_complete: bool,
) -> list[Contender]:
    """The choice first, then by speed; then what was predicted alone, and what failed."""
    name = memory_name(row.metrics for row in result.rows)
    change = {row.precision: ppl_change(row) for row in result.rows if row.status == "ok"}
    ordered = sorted(itertools.chain(*options), key=lambda one: (one is not choice.option, -one.throughput))
    fronts = pareto([_point(one, change, name) for one in ordered])
    rows = [
        _contender(one, _standing(one, choice, is_complete), change[one.precision], name, front)
        for one, front in zip(ordered, fronts, strict=True)
    ]
    if is_complete and choice.option is not None and choice.speedup is not None:
        # one setting has one number: the one that is not chosen for its luck
        rows[0] = rows[0].model_copy(update={"throughput_tok_s": choice.speed, "speedup": choice.speedup})
    tried = found.tried()
    for prediction in found.predictions():
        if (prediction.pair, prediction.draft, prediction.k) not in tried:
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


def _standing(option: Option, choice: Choice, is_complete: bool) -> Standing:
    if option is choice.option:
        return "chosen" if is_complete else "ahead"
    if option.is_out:
        return "out"
    if choice.option is None or any(option is one for one in choice.faster):
        return "open"
    return "indistinguishable" if any(option is one for one in choice.tied) else "slower"


def _point(option: Option, change: Mapping[str, Figure | None], memory: str) -> tuple[float, float, float]:
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
        problems=option.problems,
        throughput_tok_s=option.speed,
        speedup=option.metrics.get("speedup"),
        ttft_ms=option.metrics["ttft_ms"],
        peak_memory_gb=peak.value if peak else None,
        ppl_change=change,
        is_pareto=is_pareto,
    )


def _failed(result: PrecisionResult, found: Found) -> list[Contender]:
    rows = [
        Contender(precision=row.precision, standing="out", problems=(_failure(row.status, row.reason),))
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
                problems=(_failure(row.status, row.reason),),
            )
            for row in sweep.sweep
            if row.status != "ok"
        ]
    return rows


def _failure(status: str, why: str | None) -> Finding:
    return Finding(code="row.status", figures={"status": status, "why": why})
