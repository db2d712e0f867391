"""A recommendation's findings: what to deploy, why, and what takes trust from it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bitdraft.config import MOST_K, RecommendConfig
from bitdraft.precision.verdict import compared_with, process_noise
from bitdraft.recommend.choose import Choice, contenders
from bitdraft.recommend.found import Found
from bitdraft.recommend.options import Option, reference_of
from bitdraft.schema.findings import Finding, Value, answer, of_code, reason, warning
from bitdraft.schema.naming import pair_name
from bitdraft.spec_decode.plan_verdict import doubts_of
from bitdraft.stats.drift import DRIFT_WARNING
from bitdraft.stats.intervals import Noise


def unexamined(
    found: Found, measured: Sequence[Option], precision: str, config: RecommendConfig
) -> Finding | None:
    """Why nothing is known of speculation: no contender was tried, or none at the chosen precision that is
    predicted to pay there."""
    tried = found.tried()
    hopeful = [
        one
        for one in contenders(found.predictions(), precision, config)
        if (one.pair, one.draft, one.k) not in tried and (not measured or one.precision == precision)
    ]
    if hopeful:
        return answer("recommend.open_predicted", hopeful[0].name, speedup=hopeful[0].speedup)
    return None if found.plans or measured else answer("recommend.open")


def warnings_of(found: Found) -> list[Finding]:
    """Those of the stages, and how the machine's pace changed between them."""
    assert found.precision is not None
    warnings = [one for one in found.precision.findings if one.severity == "warning"]
    for pair, plan in found.plans.items():
        warnings += [warning("recommend.plan_at", pair_name(pair), [one]) for one in doubts_of(plan.costs)]
    for pair, sweep in found.sweeps.items():
        own = [one for one in sweep.findings if one.severity == "warning"]
        warnings += [warning("recommend.at", pair_name(pair), [one]) for one in own]
    for pair, pace in found.paces().items():
        if not 1 / DRIFT_WARNING <= pace <= DRIFT_WARNING:
            warnings.append(warning("recommend.pace", pair_name(pair), pace=pace))
    return warnings


def answers(
    choice: Choice,
    of_precision: Sequence[Finding],
    measured: Sequence[Option],
    found: Found,
    config: RecommendConfig,
) -> list[Finding]:
    """What is said first. `of_precision` are the precision verdict's findings."""
    option = choice.option
    if option is None or choice.speed is None:
        said = [one for one in of_precision if one.severity == "answer"]
        cut = bool(of_code(found.skipped, "budget.precision") or of_code(found.skipped, "budget.contender"))
        cut = cut or bool(of_code(found.skipped, "budget.time"))
        return [*said, answer("recommend.not_all")] if cut else said
    said = [answer("recommend.deploy", option.name, throughput=choice.speed.value)]
    if choice.speedup is not None:
        said.append(answer("recommend.speedup", option.precision, speedup=choice.speedup))
    elif choice.unsure is not None:
        said.append(choice.unsure)
    else:
        said.append(_why_not(choice, measured, found, config))
    base = _compared_with(found)
    said += [
        answer("recommend.against", precision, ratio=ratio)
        for precision, ratio in choice.against.items()
        if precision in (base, choice.first) and precision != option.precision
    ]
    said += of_code(of_precision, "precision.too_drifted")
    if choice.tied:
        names = tuple(one.name for one in sorted(choice.tied, key=lambda one: -one.throughput))
        said.append(answer("recommend.ties", option.name, names=names))
    return said


def _why_not(choice: Choice, measured: Sequence[Option], found: Found, config: RecommendConfig) -> Finding:
    assert choice.option is not None
    if measured:
        best = max(measured, key=lambda one: (not one.is_out, one.metrics["speedup"].value))
        if not best.is_out:  # at another precision than the one that was chosen first
            return answer(
                "recommend.refuse_slower", best.name, ratio=best.ratio(choice.option, _noise(found))
            )
        return answer("recommend.refuse_measured", best.name, best.problems)
    predictions = found.predictions()
    if predictions:
        first = max(predictions, key=lambda one: one.speedup)
        figures: dict[str, Value] = {"speedup": first.speedup, "min_speedup": config.min_speedup}
        return answer("recommend.refuse_predicted", first.name, **figures)
    return answer("recommend.no_draft_measured")


def reasons(
    choice: Choice,
    of_precision: Sequence[Finding],
    measured: Sequence[Option],
    found: Found,
    config: RecommendConfig,
) -> list[Finding]:
    """Why; the stages' own findings with what they are about."""
    said = [one for one in of_precision if one.severity == "answer"]
    found_reasons = [*_costs(choice, found), reason("recommend.precision_first", "", said)]
    found_reasons += [one for one in of_precision if one.severity == "reason"]
    for pair, sweep in found.sweeps.items():
        where = pair_name(pair)
        own = [one for one in sweep.findings if one.severity == "answer"]
        found_reasons.append(reason("recommend.by_speed", where, own))
        checks = of_code(sweep.findings, "spec.lossless")
        found_reasons += [reason("recommend.at", where, [check]) for check in checks]
    found_reasons += [
        reason("recommend.out" if one.is_out else "recommend.not_shown", one.name, one.problems)
        for one in measured
        if one.problems
    ]
    option = choice.option
    if option is None:
        return found_reasons
    if choice.speedup is not None and len(measured) > 1:
        found_reasons.append(reason("spec.chosen_among", option.name, n=len(measured)))
    if option.k == max(config.k) < MOST_K:
        found_reasons.append(reason("spec.largest_k", option.name, k=option.k))
    base = _compared_with(found)
    found_reasons += [
        reason("recommend.against", precision, ratio=ratio)
        for precision, ratio in choice.against.items()
        if precision not in (option.precision, base, choice.first)
    ]
    rivals = [one for one in measured if not one.problems and one.precision != option.precision]
    if rivals:
        best = max(rivals, key=lambda one: one.throughput)
        found_reasons.append(reason("recommend.rival", best.name, throughput=best.throughput))
    return found_reasons


def _costs(choice: Choice, found: Found) -> list[Finding]:
    """Why a draft pays at the chosen precision: what its forwards and a verification take there, and what a
    verification takes at the others."""
    option = choice.option
    if option is None or option.draft is None:
        return []
    plans = {pair: plan for pair, plan in found.plans.items() if not doubts_of(plan.costs)}
    own = plans.get(option.pair)
    if own is None or option.draft not in own.costs.draft_cost or option.k not in own.costs.verify_cost:
        return []
    others = {
        precision: plan.costs.verify_cost[option.k]
        for (precision, other), plan in plans.items()
        if other is None and precision != option.precision and option.k in plan.costs.verify_cost
    }
    entry = own.plan.get(option.draft)
    tokens = entry.by_k[option.k].tokens_per_step if entry and option.k in entry.by_k else None
    figures: dict[str, Value] = {
        "k": option.k,
        "draft": option.draft,
        "draft_cost": own.costs.draft_cost[option.draft],
        "verify_cost": own.costs.verify_cost[option.k],
        "tokens_per_step": tokens,
        "others": tuple(others),
        "other_costs": tuple(others.values()),
    }
    return [reason("recommend.why", option.precision, **figures)]


def _noise(found: Found) -> Noise | None:
    assert found.precision is not None
    return process_noise(found.precision.rows)


def _compared_with(found: Found) -> str | None:
    """The precision that the others' quality was compared with."""
    assert found.precision is not None
    base = compared_with(found.precision.rows, reference_of(found.precision))
    return None if base is None else base.precision
