"""Whether to speculate, and with which draft and K, as findings that the intervals support; of larger batches
in batch_verdict. Pure.

Speculation is recommended with the fastest (draft, K) whose speedup over the baseline is above 1 by the
lower end of its interval, which holds for all (draft, K) at once. It is refused when no (draft, K) has an
upper end that would be worth a draft; between the two it is unknown, and so it is where a speedup is above
what a step can give, or the machine changed too much between engines that ran apart. The speedup itself is
told from prompts that did not choose it (stats/selection). Rows whose throughput can't be told from the
candidate's, by the intervals of all pairs, are named beside it. Without intervals nothing is claimed but what
it is by value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from bitdraft.config import MOST_K, SpecDecodeConfig
from bitdraft.metrics.repetition import MOST_NATURAL, fully_kept_share, repeated_share
from bitdraft.metrics.speed import speed_ratio
from bitdraft.schema.findings import Finding, answer, reason, warning
from bitdraft.schema.records import Figure
from bitdraft.schema.spec_decode import CostRecord, SpecDecodeRow, SpecDecodeVerdict
from bitdraft.spec_decode.batch_verdict import decide_batches
from bitdraft.spec_decode.candidates import (
    Candidate,
    Decided,
    candidate,
    is_lossless,
    name_of,
    throughput,
    unexplained_figures,
)
from bitdraft.stats.selection import BEYOND_A_STEP, for_all

WIDE_INTERVAL = 0.25


def decide(rows: Sequence[SpecDecodeRow], costs: CostRecord, largest_k: int | None = None) -> Decided:
    """The verdict and its findings, over rows of all batch sizes. `largest_k` is the largest K that was asked
    for, where a larger one could have been."""
    sweep = [row for row in rows if row.k and row.batch_size == 1]
    finished = _finished(rows)
    reasons = [*_failures(sweep), *_not_lossless(finished)]
    checks = [*_lossless(sweep), *_replays(sweep)]
    if not finished:
        return SpecDecodeVerdict(), (answer("spec.none_measured"), *reasons)
    fit = [row for row in finished if is_lossless(row)]
    if not fit:
        return SpecDecodeVerdict(speculate=False), (answer("spec.none_lossless"), *reasons, *checks)
    baseline = _baseline(rows)
    found = candidate(fit, baseline, len(fit))
    best, speculate = found.row, found.pays
    reasons += [*checks, *_steps(fit, costs)]
    batches, of_batches = decide_batches(rows)
    most = _most_of_a_step(best, costs)
    if speculate is not False and _told_at_least(found) > BEYOND_A_STEP * most:
        name, speedup = name_of(best.draft, best.k), best.metrics["speedup"]
        beyond = answer("spec.beyond_a_step", name, speedup=speedup, most=most)
        return SpecDecodeVerdict(batches=batches), (beyond, *reasons, *of_batches)
    if len(fit) > 1 and found.speedup.low is not None:
        reasons.append(reason("spec.chosen_among", name_of(best.draft, best.k), n=len(fit)))
    if speculate and best.k == largest_k and best.k < MOST_K:
        reasons.append(reason("spec.largest_k", name_of(best.draft, best.k), k=best.k))
    others = [row for row in fit if row is not best and _same_speed(row, best, math.comb(len(fit), 2))]
    if found.speedup.low is None:
        others = []
    answers = [_first_answer(found), *(_ties(best, others) if speculate else ())]
    verdict = SpecDecodeVerdict(
        speculate=speculate,
        draft=best.draft if speculate is not False else None,
        k=best.k if speculate is not False else None,
        indistinguishable=tuple((str(row.draft), row.k) for row in ([best, *others] if others else [])),
        batches=batches,
    )
    return verdict, (*answers, *reasons, *of_batches)


def withheld(decided: Decided, drift: float) -> Decided:
    """What is left of a verdict where engines ran apart and the machine changed by so much between them."""
    verdict, findings = decided
    left = [finding for finding in findings if finding.severity != "answer"]
    open_verdict = SpecDecodeVerdict(batches=verdict.batches)
    return open_verdict, (answer("spec.too_drifted", drift=drift), *left)


def _most_of_a_step(row: SpecDecodeRow, costs: CostRecord) -> float:
    """What a speedup can be at most: the tokens of a step, which takes a verification at least."""
    tau = row.metrics.get("tokens_per_step")
    return math.inf if tau is None else tau.value / min(1.0, costs.verify_cost.get(row.k, 1.0))


def _told_at_least(found: Candidate) -> float:
    """The speedup that is surely claimed: an interval's lower end, or what is said by value alone."""
    if found.pays and found.speedup.low is not None:
        return found.speedup.low
    return found.row.metrics["speedup"].value


def _baseline(rows: Sequence[SpecDecodeRow]) -> SpecDecodeRow | None:
    return next((row for row in rows if not row.k and row.batch_size == 1), None)


def _finished(rows: Sequence[SpecDecodeRow]) -> list[SpecDecodeRow]:
    """Of the sweep."""
    return [row for row in rows if row.k and row.batch_size == 1 and row.status == "ok"]


def _ties(best: SpecDecodeRow, others: Sequence[SpecDecodeRow]) -> list[Finding]:
    if not others:
        return []
    drafts, ks = tuple(str(row.draft) for row in others), tuple(row.k for row in others)
    return [answer("spec.ties", name_of(best.draft, best.k), drafts=drafts, ks=ks)]


def _first_answer(found: Candidate) -> Finding:
    name, speedup = name_of(found.row.draft, found.row.k), found.speedup
    own = found.row.metrics["speedup"]
    if speedup.low is None and own.low is not None:
        # for all at once it would be wider than says anything
        return answer("spec.too_noisy", name, speedup=own)
    if found.pays is None and speedup.low is None:
        return answer("spec.too_few", name, speedup=speedup, num_prompts=len(found.row.runs))
    code = {True: "spec.speculate", False: "spec.refuse", None: "spec.too_noisy"}[found.pays]
    return answer(code, name, speedup=speedup)


def _same_speed(row: SpecDecodeRow, best: SpecDecodeRow, num_pairs: int) -> bool:
    """By an interval for all pairs."""
    ratio = for_all(speed_ratio(row.runs, best.runs), num_pairs)
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


def _not_lossless(rows: Sequence[SpecDecodeRow]) -> list[Finding]:
    """Those that are recommended by no verdict, and why."""
    return [
        reason("spec.not_lossless", name_of(row.draft, row.k), **unexplained_figures(row))
        for row in rows
        if not is_lossless(row)
    ]


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
            noise=kinds.count("engine noise"),
            bugs=kinds.count("bug"),
            unexplained=kinds.count("unexplained"),
            unchecked=kinds.count("unchecked"),
        )
    ]


def _steps(rows: Sequence[SpecDecodeRow], costs: CostRecord) -> list[Finding]:
    """For each draft, its best row: what a draft forward costs and what a step brings."""
    reasons = []
    for draft in dict.fromkeys(row.draft for row in rows if row.draft is not None):
        row = max((row for row in rows if row.draft == draft), key=throughput)
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
    finished = _finished(rows)
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


def repetition_of(rows: Sequence[SpecDecodeRow]) -> tuple[Finding, ...]:
    """That the text repeats itself, with what the fastest (draft, K) owes to it."""
    base, sweep = _baseline(rows), _finished(rows)
    repeated = None if base is None else repeated_share([run.token_ids for run in base.runs])
    if not sweep or repeated is None or repeated <= MOST_NATURAL:
        return ()
    best = max(sweep, key=throughput)
    kept, name = fully_kept_share(best.runs), name_of(best.draft, best.k)
    return (warning("spec.repeats", name, repeated=repeated, kept=kept, k=best.k),)


def _width(figure: Figure) -> float:
    return 0.0 if figure.low is None or figure.high is None else (figure.high - figure.low) / figure.value


def caveats(config: SpecDecodeConfig) -> tuple[Finding, ...]:
    """Said before anything else, where something was not measured: what random weights accept is chance, and
    a synthetic acceptance is stated."""
    if config.synthetic_acceptance is not None:
        return (answer("spec.synthetic", acceptance=config.synthetic_acceptance),)
    return (answer("spec.random_weights"),) if config.random_weights else ()
