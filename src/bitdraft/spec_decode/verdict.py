"""Whether to speculate, with which draft and K, and up to which batch size, as findings that the intervals
support. Pure.

At each batch size the fastest (draft, K) by value is the candidate. Speculation is recommended when the lower
end of the candidate's speedup over the baseline, which holds for all (draft, K) at once, is above 1, and
refused when the upper end is not worth a draft; between the two it is unknown. The speedup itself is told
from prompts that did not choose it (stats/selection). At batch 1, rows whose throughput can't be told from
the candidate's, by the interval of their paired ratio, are named beside it. Without an interval nothing is
claimed but what it is by value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from bitdraft.config import MOST_K, SpecDecodeConfig
from bitdraft.metrics.speed import clusters_of_items, speed_ratio, tokens_and_seconds
from bitdraft.schema.findings import Finding, Value, answer, reason, warning
from bitdraft.schema.records import Figure
from bitdraft.schema.spec_decode import (
    BatchBest,
    BatchVerdict,
    CostRecord,
    DraftPlan,
    SpecDecodeRow,
    SpecDecodeVerdict,
)
from bitdraft.stats.selection import of_the_best, pays, speedup_of_the_best

WIDE_INTERVAL = 0.25

Decided = tuple[SpecDecodeVerdict, tuple[Finding, ...]]


def name_of(draft: str | None, k: int) -> str:
    """`draft-small, K = 3`"""
    return f"{draft}, K = {k}"


def decide(rows: Sequence[SpecDecodeRow], costs: CostRecord) -> Decided:
    """The verdict and its findings, over rows of all batch sizes."""
    sweep = [row for row in rows if row.k and row.batch_size == 1]
    finished = [row for row in sweep if row.status == "ok"]
    reasons = [*_failures(sweep), *_not_lossless(finished)]
    checks = [*_lossless(sweep), *_replays(sweep)]
    if not finished:
        return SpecDecodeVerdict(), (answer("spec.none_measured"), *reasons)
    fit = [row for row in finished if is_lossless(row)]
    if not fit:
        return SpecDecodeVerdict(speculate=False), (answer("spec.none_lossless"), *reasons, *checks)
    best = max(fit, key=_throughput)
    baseline = next((row for row in rows if not row.k and row.batch_size == 1), None)
    speedup = _speedup_of_best(best, fit, baseline, len(fit))
    reasons += [*checks, *_steps(fit, costs)]
    if len(fit) > 1 and speedup.low is not None:
        reasons.append(reason("spec.chosen_among", name_of(best.draft, best.k), n=len(fit)))
    speculate = pays(speedup)
    if speculate and best.k == max(row.k for row in sweep) < MOST_K:
        reasons.append(reason("spec.largest_k", name_of(best.draft, best.k), k=best.k))
    others = [row for row in fit if row is not best and _same_speed(row, best)]
    if speedup.low is None:
        others = []
    answers = [_first_answer(best, speedup, speculate), *(_ties(best, others) if speculate else ())]
    batches, of_batches = _decide_batches(rows)
    verdict = SpecDecodeVerdict(
        speculate=speculate,
        draft=best.draft if speculate is not False else None,
        k=best.k if speculate is not False else None,
        indistinguishable=tuple((str(row.draft), row.k) for row in ([best, *others] if others else [])),
        batches=batches,
    )
    return verdict, (*answers, *reasons, *of_batches)


def _ties(best: SpecDecodeRow, others: Sequence[SpecDecodeRow]) -> list[Finding]:
    if not others:
        return []
    drafts, ks = tuple(str(row.draft) for row in others), tuple(row.k for row in others)
    return [answer("spec.ties", name_of(best.draft, best.k), drafts=drafts, ks=ks)]


def _speedup_of_best(
    best: SpecDecodeRow, rows: Sequence[SpecDecodeRow], baseline: SpecDecodeRow | None, num_looked_at: int
) -> Figure:
    """Of the fastest of some rows at one batch size: free of its having been chosen among so many."""
    found = of_the_best(best.metrics["speedup"], num_looked_at)
    value = None if baseline is None else _value_of_best(rows, baseline)
    return found if value is None or found.low is None else found.model_copy(update={"value": value})


def _value_of_best(rows: Sequence[SpecDecodeRow], baseline: SpecDecodeRow) -> float | None:
    """None where some row has not run what the baseline ran."""
    sides = [[tokens_and_seconds(item) for item in row.items] for row in (baseline, *rows)]
    if len({len(side) for side in sides}) > 1 or any(seconds <= 0 for side in sides for _, seconds in side):
        return None
    (base_work, base_seconds), *others = (tuple(zip(*side, strict=True)) for side in sides)
    work, seconds = zip(*others, strict=True)
    clusters = clusters_of_items(baseline.items)
    return speedup_of_the_best(work, seconds, base_work, base_seconds, clusters=clusters)


def _throughput(row: SpecDecodeRow) -> float:
    return row.metrics["throughput_tok_s"].value


def _first_answer(best: SpecDecodeRow, speedup: Figure, speculate: bool | None) -> Finding:
    name = name_of(best.draft, best.k)
    if speculate is None:
        return answer("spec.too_few" if speedup.low is None else "spec.too_noisy", name, speedup=speedup)
    return answer("spec.speculate" if speculate else "spec.refuse", name, speedup=speedup)


def _same_speed(row: SpecDecodeRow, best: SpecDecodeRow) -> bool:
    ratio = speed_ratio(row.runs, best.runs)
    return ratio.low is None or ratio.high is None or ratio.low <= 1 <= ratio.high


def _failures(rows: Sequence[SpecDecodeRow]) -> list[Finding]:
    """The K of a draft that failed alike together."""
    failed = [row for row in rows if row.status != "ok"]
    return [
        reason("spec.failed", str(draft), ks=tuple(row.k for row in group), status=status, why=why)
        for (draft, status, why), group in groupby(
            failed, key=lambda row: (row.draft, row.status, row.reason)
        )
    ]


def is_lossless(row: SpecDecodeRow) -> bool:
    """Whether its greedy texts are those of K = 0, but for rounding ties. Sampled texts are not held against
    one another."""
    return row.lossless is None or row.lossless.num_unexplained == 0


def _not_lossless(rows: Sequence[SpecDecodeRow]) -> list[Finding]:
    """Those that are recommended by no verdict, and why."""
    return [
        reason("spec.not_lossless", name_of(row.draft, row.k), **unexplained_figures(row))
        for row in rows
        if not is_lossless(row)
    ]


def unexplained_figures(row: SpecDecodeRow) -> dict[str, Value]:
    """Of how many runs other token ids are not explained, and the largest gap where it is beyond a tie's."""
    assert row.lossless is not None
    far = [one for one in row.lossless.divergences if one.kind == "unexplained"]
    gap = max((one.logit_gap for one in far if one.logit_gap is not None), default=None)
    lead = far[0].tie_lead if far else None
    check = row.lossless
    return {
        "n": check.num_unexplained,
        "of": check.num_prompts,
        "gap": gap,
        "lead": lead,
        "bugs": len(check.bugs),
    }


def _replays(rows: Sequence[SpecDecodeRow]) -> list[Finding]:
    """How much of what was measured was held against the replay."""
    checks = [row.replay_check for row in rows if row.replay_check is not None]
    compared = sum(check.num_compared or 0 for check in checks)
    asked = sum(len(row.runs) for row in rows if row.replay_check is not None)
    if not any(check.num_compared is not None for check in checks):
        return []
    same = sum(check.num_identical or 0 for check in checks)
    return [reason("spec.replay", compared=compared, of=asked, same=same)]


def _lossless(rows: Sequence[SpecDecodeRow]) -> list[Finding]:
    """What the lossless check found over all rows."""
    checked = [row.lossless for row in rows if row.lossless is not None]
    if not checked:
        return []
    kinds = [found.kind for entry in checked for found in entry.divergences]
    return [
        reason(
            "spec.lossless",
            total=sum(entry.num_prompts for entry in checked),
            identical=sum(entry.identical for entry in checked),
            ties=kinds.count("rounding tie"),
            bugs=kinds.count("bug"),
            unexplained=kinds.count("unexplained"),
            unchecked=kinds.count("unchecked"),
        )
    ]


def _steps(rows: Sequence[SpecDecodeRow], costs: CostRecord) -> list[Finding]:
    """For each draft, its best row: what a draft forward costs and what a step brings."""
    reasons = []
    for draft in dict.fromkeys(row.draft for row in rows if row.draft is not None):
        row = max((row for row in rows if row.draft == draft), key=_throughput)
        tau, cost = row.metrics.get("tokens_per_step"), costs.draft_cost.get(draft)
        if tau is None or cost is None:
            continue
        verify = costs.verify_cost.get(row.k, 1.0)
        reasons.append(
            reason(
                "spec.step",
                name_of(draft, row.k),
                tokens_per_step=tau.value,
                break_even=cost * row.k + verify,
                draft_cost=cost,
                verify_cost=verify,
            )
        )
    return reasons


def warnings_of(rows: Sequence[SpecDecodeRow]) -> tuple[Finding, ...]:
    """What takes trust from a sweep's rows."""
    warnings = []
    finished = [row for row in rows if row.k and row.batch_size == 1 and row.status == "ok"]
    for row in finished:
        name = name_of(row.draft, row.k)
        bugs = row.lossless.bugs if row.lossless is not None else []
        if bugs:
            warnings.append(warning("spec.bug", name, prompt=bugs[0].prompt, position=bugs[0].position))
        check = row.replay_check
        if check is None:
            continue
        real = [found for found in check.mismatches if not found.rounding_tie]
        if real:
            warnings.append(warning("spec.replay_differs", name, prompt=real[0].prompt, step=real[0].step))
        elif check.agrees is False and check.measured_over_expected is not None:
            warnings.append(warning("spec.replay_differs", name))
    widths = [_width(row.metrics["speedup"]) for row in finished if "speedup" in row.metrics]
    wide = [width for width in widths if width > WIDE_INTERVAL]
    if wide:
        warnings.append(warning("spec.wide_intervals", n=len(wide), of=len(widths), width=max(wide)))
    return tuple(warnings)


def _width(figure: Figure) -> float:
    return 0.0 if figure.low is None or figure.high is None else (figure.high - figure.low) / figure.value


def caveats(config: SpecDecodeConfig) -> tuple[Finding, ...]:
    """Said before anything else, where something was not measured: what random weights accept is chance, and
    a synthetic acceptance is stated."""
    if config.synthetic_acceptance is not None:
        return (answer("spec.synthetic", acceptance=config.synthetic_acceptance),)
    return (answer("spec.random_weights"),) if config.random_weights else ()


# --- plans --------------------------------------------------------------------------------------------------


def decide_plan(plan: Mapping[str, DraftPlan], num_prompts: int) -> Decided:
    """The best predicted (draft, K), or not to speculate."""
    if not plan:
        return SpecDecodeVerdict(), (answer("plan.none"),)
    draft = max(plan, key=lambda name: plan[name].best.replay_end_to_end)
    k, speedup = plan[draft].best_k.replay, plan[draft].best.replay_end_to_end
    speculate = speedup > 1
    code = "plan.speculate" if speculate else "plan.refuse"
    findings = [answer(code, name_of(draft, k), speedup=speedup)]
    findings += [
        reason(
            "plan.draft",
            name,
            k=entry.best_k.replay,
            speedup=entry.best.replay_end_to_end,
            tokens_per_step=entry.best.tokens_per_step,
        )
        for name, entry in plan.items()
    ]
    findings.append(reason("plan.how", n=num_prompts))
    verdict = SpecDecodeVerdict(
        speculate=speculate, draft=draft if speculate else None, k=k if speculate else None
    )
    return verdict, tuple(findings)


# --- larger batches -----------------------------------------------------------------------------------------


def _decide_batches(rows: Sequence[SpecDecodeRow]) -> tuple[BatchVerdict | None, list[Finding]]:
    """The best at every batch size, and from which on nothing pays; None where there is one size alone."""
    larger = [row for row in rows if row.batch_size > 1]
    if not larger:
        return None, []
    sizes = sorted({row.batch_size for row in rows})
    num_larger = sum(row.status == "ok" and bool(row.k) for row in larger)
    found = [_best([row for row in rows if row.batch_size == size], num_larger) for size in sizes]
    bests = [best for best in found if best is not None]
    findings = [_of_batch(best) for best in bests if best.batch_size > 1]
    findings += [*_unknown(larger), *_batch_failures(larger), *_summary(bests), *_batch_lossless(larger)]
    verdict = BatchVerdict(
        best=tuple(bests),
        stops_at=_stop(bests),
        by_value=tuple(best.batch_size for best in bests if best.pays is None),
    )
    return verdict, findings


def _best(rows: Sequence[SpecDecodeRow], num_larger: int) -> BatchBest | None:
    """The fastest (draft, K) of one batch size. At batch 1 all rows of the sweep were looked at, behind it
    all of the larger batches."""
    finished = [row for row in rows if row.status == "ok" and row.k and "speedup" in row.metrics]
    # larger batches may round differently, and no control tells
    finished = [row for row in finished if row.batch_size > 1 or is_lossless(row)]
    if not finished:
        return None
    baseline = next((other for other in rows if not other.k and other.status == "ok"), None)
    num_looked_at = num_larger if finished[0].batch_size > 1 else len(finished)
    row = max(finished, key=_throughput)
    speedup = _speedup_of_best(row, finished, baseline, num_looked_at)
    return BatchBest(
        batch_size=row.batch_size, draft=str(row.draft), k=row.k, speedup=speedup, pays=pays(speedup)
    )


def _of_batch(best: BatchBest) -> Finding:
    name, size = name_of(best.draft, best.k), best.batch_size
    if best.pays is None:
        code = "batch.too_few" if best.speedup.low is None else "batch.too_noisy"
        return reason(code, name, batch_size=size, speedup=best.speedup)
    return reason("batch.pays" if best.pays else "batch.refuse", name, batch_size=size, speedup=best.speedup)


def _stop(bests: Sequence[BatchBest]) -> int | None:
    """From where on nothing pays."""
    last_paying = max((index for index, best in enumerate(bests) if best.pays_by_value), default=-1)
    behind = bests[last_paying + 1 :]
    return behind[0].batch_size if behind else None


def _summary(bests: Sequence[BatchBest]) -> list[Finding]:
    """Where speculation pays; none where there are not two sizes to compare."""
    if len(bests) < 2:
        return []
    paying, stop = [best.batch_size for best in bests if best.pays_by_value], _stop(bests)
    by_value = tuple(best.batch_size for best in bests if best.pays is None)
    figures: dict[str, Value] = {
        "paying": tuple(paying),
        "by_value": by_value,
        "all_by_value": len(by_value) == len(bests),
    }
    if len(paying) == len(bests):
        return [reason("batch.pays_everywhere", **figures)]
    if not paying:
        return [reason("batch.pays_nowhere", **figures)]
    before = [best.batch_size for best in bests if stop is None or best.batch_size < stop]
    if stop is not None and before == paying:
        most = max(best.speedup.value for best in bests if best.batch_size >= stop)
        return [reason("batch.stops", stop=stop, best=most, **figures)]
    return [reason("batch.pays_at", **figures)]


def _by_size(rows: Sequence[SpecDecodeRow]) -> list[tuple[int, SpecDecodeRow, list[SpecDecodeRow]]]:
    """(size, its baseline, the others)"""
    found = []
    for size, group in groupby(rows, key=lambda row: row.batch_size):
        baseline, *others = group
        found.append((size, baseline, others))
    return found


def _unknown(rows: Sequence[SpecDecodeRow]) -> list[Finding]:
    """The sizes at which plain decoding finished and no draft did."""
    return [
        reason("batch.unknown", batch_size=size)
        for size, baseline, others in _by_size(rows)
        if baseline.status == "ok" and all(row.status != "ok" for row in others)
    ]


def _batch_failures(rows: Sequence[SpecDecodeRow]) -> list[Finding]:
    """A batch size whose baseline failed once; else each (draft, K) that failed."""
    reasons = []
    for size, baseline, others in _by_size(rows):
        failed = [baseline] if baseline.status != "ok" else [row for row in others if row.status != "ok"]
        for row in failed:
            name = name_of(row.draft, row.k) if row.k else ""
            reasons.append(reason("batch.failed", name, batch_size=size, status=row.status, why=row.reason))
    return reasons


def _batch_lossless(rows: Sequence[SpecDecodeRow]) -> list[Finding]:
    checked = [row.lossless for row in rows if row.lossless is not None]
    if not checked:
        return []
    total, identical = sum(c.num_prompts for c in checked), sum(c.identical for c in checked)
    return [reason("batch.lossless", total=total, identical=identical)]
