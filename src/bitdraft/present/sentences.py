"""Findings in plain English: the one place where conclusions become sentences, from code and figures alone.

Each code has a function of its finding. What a finding is made of (`parts`) is said by the same table; a part
is a clause, without a full stop.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import TypeVar

from pydantic import BaseModel

from bitdraft.present.words import (
    METRIC_TITLES,
    change_text,
    counted,
    joined,
    memory_text,
    percent,
    ratio_text,
    some,
    times_text,
)
from bitdraft.schema.comparison import Comparison
from bitdraft.schema.findings import Finding
from bitdraft.schema.precision import PrecisionResult
from bitdraft.schema.recommendation import Recommendation
from bitdraft.schema.spec_decode import SpecDecodeResult

_Said = TypeVar("_Said", PrecisionResult, SpecDecodeResult, Recommendation, Comparison)
Sentence = Callable[[Finding], str]


def sentence(finding: Finding) -> str:
    """A finding in words; one of a code that this version does not know keeps the words that it has."""
    make = SENTENCES.get(finding.code)
    return finding.text if make is None else make(finding)


def clauses(finding: Finding) -> str:
    """Its parts, with semicolons between them."""
    return "; ".join(sentence(part) for part in finding.parts)


def said(finding: Finding) -> Finding:
    """With its sentence, and its parts with theirs."""
    parts = tuple(map(said, finding.parts))
    return finding.model_copy(update={"text": sentence(finding), "parts": parts})


def with_sentences(result: _Said) -> _Said:
    """A result whose findings have their sentences, those of its contenders and rows too."""
    update: dict[str, object] = {"findings": tuple(map(said, result.findings))}
    if isinstance(result, Recommendation):
        contenders = [
            row.model_copy(update={"problems": tuple(map(said, row.problems))}) for row in result.contenders
        ]
        update["contenders"] = tuple(contenders)
    if isinstance(result, Comparison):
        rows = [row.model_copy(update={"notes": tuple(map(said, row.notes))}) for row in result.rows]
        update["rows"] = tuple(rows)
    found: BaseModel = result.model_copy(update=update)
    return found  # type: ignore[return-value]


# --- runs ---------------------------------------------------------------------------------------------------

_RUNS: dict[str, Sentence] = {
    "earlier.text": lambda f: f.text,
    "run.incomplete": lambda f: (
        "Not finished: this is what was measured so far. Give the same command again to go on."
    ),
    "run.machines": lambda f: (
        f"Measured on several machines ({joined(f.words('machines'))}): speeds of different cells are "
        "those of "
        "different machines."
    ),
    "run.mixed": lambda f: (
        "Continued on another machine or with other versions (--mix-machines, "
        f"{counted(f.number('n'), 'part')}): "
        "differences between cells may be the machines'."
    ),
    "run.interrupted": lambda f: "what followed: the run was interrupted",
    "row.failed": lambda f: f"{f.subject} is out: {f.word('status')} ({f.word('why')}).",
    "row.status": lambda f: f"{f.word('status')}: {f.word('why')}",
}

# --- precision ----------------------------------------------------------------------------------------------


def _tied(f: Finding) -> str:
    why = {
        "memory": "it takes less memory",
        "reference": "it is the reference",
        "value": "it is the fastest of them by value",
    }[f.word("why")]
    return f"Its speed cannot be told from that of {' and '.join(f.words('others'))}; {why}."


def _against(f: Finding) -> str:
    change = f.figures.get("ppl_change")
    quality = f"perplexity {change_text(f.figure('ppl_change'))}, " if change is not None else ""
    memory = (
        f"{memory_text(f.word('memory_name'))} {f.number('memory_gb'):.2f} against "
        f"{f.number('reference_memory_gb'):.2f} GiB"
    )
    return f"Against {f.subject}: {times_text(f.figure('ratio'))} the tokens/s, {quality}{memory}."


def _no_faster(f: Finding) -> str:
    limit = " within the quality limit" if f.figures.get("within_limit") else ""
    return f"No other measured precision is faster{limit}."


_PRECISION: dict[str, Sentence] = {
    "precision.none_measured": lambda f: "No precision could be measured, so none can be recommended.",
    "precision.none_within_limits": lambda f: (
        "No measured precision keeps within the limits, so none can be recommended."
    ),
    "precision.use": lambda f: f"Use {f.subject}.",
    "precision.use_by_speed": lambda f: (
        f"Random weights: quality not measured. By speed and memory alone: {f.subject}."
    ),
    "precision.tied": _tied,
    "precision.only_one": lambda f: "No other precision was measured.",
    "precision.unjudged": lambda f: (
        f"Too little text was scored to judge the quality of {joined(f.words('others'))}."
    ),
    "precision.no_faster": _no_faster,
    "precision.against": _against,
    "precision.out": lambda f: f"{f.subject} is out: {clauses(f)}.",
    "precision.no_reference_scores": lambda f: (
        f"The reference {f.subject} has no scores, so quality differences are unknown."
    ),
    "precision.stored": lambda f: (
        f"The checkpoint is stored in {f.subject}: fp32 widens the arithmetic, not the weights, "
        "and a third precision rounds the weights as well."
    ),
    "precision.drift": lambda f: (
        f"The machine's speed changed by {100 * (f.number('drift') - 1):.0f} % between precisions (fixed "
        "work, "
        "timed between the prompts). Speed differences below that say nothing: measure again on a quiet "
        "machine."
    ),
    "precision.wide_interval": lambda f: (
        f"{f.subject}: throughput varies widely between prompts (interval {100 * f.number('width'):.0f} %)."
    ),
    "precision.kl_missing": lambda f: f"{f.subject}: no KL divergence ({f.word('why')}).",
    "quality.unjudged": lambda f: (
        f"{counted(f.number('n'), 'block')} of scored text are too few to judge its quality (score more with "
        "--ppl-max-tokens, or a longer text)"
    ),
    "quality.worse": lambda f: (
        f"its perplexity may be {percent(f.number('increase'))} higher than {f.subject}'s, "
        f"more than the limit of {percent(f.number('limit'))}"
    ),
}

# --- spec_decode --------------------------------------------------------------------------------------------


def _refuse(f: Finding) -> str:
    speedup = f.figure("speedup")
    why = "is slower than" if speedup.high is not None and speedup.high < 1 else "cannot be told from"
    return (
        f"Do not speculate: even the fastest, {f.subject}, {why} plain decoding "
        f"({times_text(speedup)} its tokens/s)."
    )


def _ties(f: Finding) -> str:
    """`draft-small, K = 3, 4 and ngram, K = 5 cannot be told from it.`"""
    pairs = list(zip(f.words("drafts"), f.words("ks"), strict=True))
    parts = [
        f"{draft}, K = {joined([k for _, k in group])}"
        for draft, group in groupby(pairs, key=lambda pair: pair[0])
    ]
    return f"{joined(parts)} cannot be told from it."


def _lossless(f: Finding) -> str:
    total, identical = int(f.number("total")), int(f.number("identical"))
    if identical == total:
        return f"Lossless: all {total} runs gave the token ids of K = 0."
    kinds = [("ties", "rounding tie", "rounding ties"), ("bugs", "bug", "bugs")]
    parts = [counted(f.number(key), one, many) for key, one, many in kinds if f.number(key)]
    if f.number("unchecked"):
        parts.append(f"{f.number('unchecked'):.0f} unchecked")
    others = ", ".join(parts) or "unchecked"
    return f"{identical} of {total} runs gave the token ids of K = 0; the others: {others}."


def _replay_differs(f: Finding) -> str:
    where = (
        f" (prompt {f.number('prompt'):.0f}, step {f.number('step'):.0f})" if "prompt" in f.figures else ""
    )
    return f"{f.subject}: measurement and replay disagree{where}."


def _fallback(f: Finding) -> str:
    why = f.word("why")
    return f"{why[0].upper()}{why[1:]}."


_SPEC_DECODE: dict[str, Sentence] = {
    "spec.none_measured": lambda f: "Nothing could be measured, so nothing can be recommended.",
    "spec.too_few": lambda f: (
        f"{f.figure('speedup').n} prompts are too few to say. By value the best is {f.subject}: "
        f"{times_text(f.figure('speedup'))} the tokens/s of plain decoding."
    ),
    "spec.speculate": lambda f: (
        f"Speculate with {f.subject}: {times_text(f.figure('speedup'))} the tokens/s of plain decoding."
    ),
    "spec.refuse": _refuse,
    "spec.ties": _ties,
    "spec.random_weights": lambda f: (
        "Random weights: acceptance, and so speedup, says nothing of trained ones."
    ),
    "spec.synthetic": lambda f: (
        f"Synthetic acceptance of {f.number('acceptance'):g}: speeds are measured, agreement is stated."
    ),
    "spec.failed": lambda f: (
        f"{f.subject}, K = {joined(f.words('ks'))}: {f.word('status')} ({f.word('why')})."
    ),
    "spec.lossless": _lossless,
    "spec.step": lambda f: (
        f"{f.subject}: a step brings {f.number('tokens_per_step'):.2f} tokens for the time of "
        f"{f.number('break_even'):.2f} (K draft forwards of {f.number('draft_cost'):.2f} and a "
        "verification of "
        f"{f.number('verify_cost'):.2f})."
    ),
    "spec.largest_k": lambda f: (
        f"K = {f.number('k'):.0f} is the largest that was asked for: a larger one may be faster still."
    ),
    "spec.other_k": lambda f: (
        f"{f.subject}: K = {f.number('k'):.0f}, which was not asked for, is predicted to be faster than "
        "any that "
        f"was ({f.number('speedup'):.2f}× against {f.number('asked'):.2f}× after the prefill)."
    ),
    "spec.bug": lambda f: (
        f"{f.subject}: prompt {f.number('prompt'):.0f} leaves the text of K = 0 at token "
        f"{f.number('position'):.0f}, and not by rounding. Please report this."
    ),
    "spec.replay_differs": _replay_differs,
    "spec.wide_intervals": lambda f: (
        f"The speedup varies widely between prompts in {f.number('n'):.0f} of {f.number('of'):.0f} rows "
        f"(intervals up to {100 * f.number('width'):.0f} % wide): more prompts narrow it."
    ),
    "spec.no_replay": lambda f: f"No replay of {f.subject}: {f.word('why')}.",
    "spec.no_control": lambda f: f"Differences to K = 0 have no control: {f.word('why')}.",
    "spec.no_memory": lambda f: f"No peak memory for {f.subject or 'the target alone'}: {f.word('why')}.",
    "spec.fallback": _fallback,
    "spec.batches_static": lambda f: (
        "Batch 1 ran eagerly, which was faster; larger batches by the static path."
    ),
    "spec.ended_early": lambda f: (
        f"Ended after {f.number('done'):.0f} of {f.number('of'):.0f} prompts: {f.word('why')}."
    ),
    "spec.strayed": lambda f: (
        f"{f.number('n'):.0f} runs left the text that their draft follows at every try, so that less is "
        "accepted "
        "than stated."
    ),
    "spec.draft_size": lambda f: (
        f"Draft {f.subject} is no smaller than the target ({f.number('size'):,.0f} and "
        f"{f.number('target'):,.0f} "
        "parameters): it is unlikely to make it faster."
    ),
    "plan.none": lambda f: "No draft could be planned for.",
    "plan.speculate": lambda f: (
        f"Speculate with {f.subject}: predicted {f.number('speedup'):.2f}× the tokens/s of plain decoding."
    ),
    "plan.refuse": lambda f: (
        f"Do not speculate: the best is {f.subject}: predicted {f.number('speedup'):.2f}× the tokens/s of "
        "plain "
        "decoding."
    ),
    "plan.draft": lambda f: (
        f"{f.subject}: best K = {f.number('k'):.0f} with {f.number('speedup'):.2f}× "
        f"({f.number('tokens_per_step'):.2f} tokens per step)."
    ),
    "plan.how": lambda f: (
        f"Predicted from {f.number('n'):.0f} prompts by replay and cost curves; nothing was swept, so there "
        "is no interval."
    ),
    "plan.out": lambda f: f"{f.subject} is out: {f.word('status')} ({f.word('why')}).",
}

# --- larger batches -----------------------------------------------------------------------------------------


def _batch_too_few(f: Finding) -> str:
    n = f.figure("speedup").n
    few = f"{n} {'group is' if n == 1 else 'groups are'} too few to say"
    times = times_text(f.figure("speedup"))
    return f"Batch {f.word('batch_size')}: {few}. By value the best is {f.subject}: {times} plain decoding."


def _batch_refuse(f: Finding) -> str:
    speedup = f.figure("speedup")
    why = "is slower than" if speedup.high is not None and speedup.high < 1 else "cannot be told from"
    times = times_text(speedup)
    return f"Batch {f.word('batch_size')}: even the fastest, {f.subject}, {why} plain decoding ({times})."


def _batch_failed(f: Finding) -> str:
    who = f", {f.subject}" if f.subject else ""
    return f"Batch {f.word('batch_size')}{who}: {f.word('status')} ({f.word('why')})."


def _where_it_pays(text: str, f: Finding) -> str:
    if f.figures.get("all_by_value"):
        return f"{text}; all of this by value, without intervals."
    sizes = f.words("by_value")
    return f"{text}; at batch {joined(sizes)} by value alone." if sizes else f"{text}."


def _batch_lossless(f: Finding) -> str:
    total, identical = int(f.number("total")), int(f.number("identical"))
    if identical == total:
        return f"Larger batches: all {total} texts, those of K = 0 included, are those of batch 1."
    return (
        f"Larger batches: {identical} of {total} texts, those of K = 0 included, are those of batch 1; the "
        "others are unchecked (a batch can round differently)."
    )


_BATCHES: dict[str, Sentence] = {
    "batch.too_few": _batch_too_few,
    "batch.pays": lambda f: (
        f"Batch {f.word('batch_size')}: {f.subject} is {times_text(f.figure('speedup'))} plain decoding."
    ),
    "batch.refuse": _batch_refuse,
    "batch.unknown": lambda f: (
        f"Batch {f.word('batch_size')}: no draft finished, so that nothing is known of speculation there."
    ),
    "batch.failed": _batch_failed,
    "batch.pays_everywhere": lambda f: _where_it_pays(
        "Speculation pays at every batch size that was measured", f
    ),
    "batch.pays_nowhere": lambda f: _where_it_pays("Speculation pays at no batch size that was measured", f),
    "batch.pays_at": lambda f: _where_it_pays(
        f"Speculation pays at batch {joined(f.words('paying'))} alone", f
    ),
    "batch.stops": lambda f: _where_it_pays(
        f"From batch {f.word('stop')} on speculation does not pay (best {f.number('best'):.2f}×)", f
    ),
    "batch.lossless": _batch_lossless,
    "batch.ended_early": lambda f: (
        f"Batch {f.word('batch_size')} ended after {f.word('done')} of {f.word('of')} groups: "
        f"{f.word('why')}."
    ),
}

# --- recommend ----------------------------------------------------------------------------------------------


def _limit_memory(f: Finding) -> str:
    limit = f"{f.number('limit_gb'):g} GiB"
    if f.figures.get("memory_gb") is None:
        return f"its peak memory is unknown, and the limit is {limit}"
    what = memory_text(f.word("memory_name"))
    return f"its {what} of {f.number('memory_gb'):.2f} GiB is above the limit of {limit}"


def _unsure(f: Finding) -> str:
    speedup = f.figure("speedup")
    return (
        f"its speedup of {speedup.value:.2f}× may be as small as {speedup.low:.2f}×, and more than "
        f"{f.number('min_speedup'):.2f}× is asked for"
    )


def _pace(f: Finding) -> str:
    pace = f.number("pace")
    change = f"{100 * abs(1 - 1 / pace):.0f} % {'slower' if pace > 1 else 'faster'}"
    return (
        f"At {f.subject}: plain decoding was {change} in the sweep than when precisions were "
        "measured. Speedups hold, they are of one sweep; tokens/s of different stages are compared "
        "at one pace."
    )


def _parts_as_text(f: Finding) -> str:
    return " ".join(sentence(part) for part in f.parts)


_RECOMMEND: dict[str, Sentence] = {
    "limit.memory": _limit_memory,
    "limit.ttft": lambda f: (
        f"its time to the first token may be {f.number('ttft_ms'):.1f} ms, above the limit of "
        f"{f.number('limit_ms'):g} ms"
    ),
    "speculation.bug": lambda f: "its text is not the target's",
    "speculation.too_few": lambda f: f"{f.number('n'):.0f} prompts are too few to say whether it is faster",
    "speculation.slower": lambda f: f"it is slower than plain decoding ({f.figure('speedup').value:.2f}×)",
    "speculation.unsure": _unsure,
    "recommend.nothing": lambda f: "Nothing was measured, so nothing can be recommended.",
    "recommend.ahead": lambda f: f"So far {f.subject} is ahead; nothing is recommended yet.",
    "recommend.not_all": lambda f: "Not all that was asked for was measured.",
    "recommend.deploy": lambda f: f"Deploy {f.subject}: {f.number('throughput'):.0f} tokens/s.",
    "recommend.speedup": lambda f: (
        f"Speculation brings {times_text(f.figure('speedup'))} the tokens/s of plain decoding at {f.subject}."
    ),
    "recommend.too_few": lambda f: (
        f"{f.figure('speedup').n} prompts are too few to say whether to speculate. By value {f.subject} "
        "brings "
        f"{times_text(f.figure('speedup'))} the tokens/s of plain decoding at {f.word('precision')}."
    ),
    "recommend.open_predicted": lambda f: (
        f"Whether to speculate is open: nothing was measured. The best that is predicted, {f.subject}, "
        "would bring "
        f"{f.number('speedup'):.2f}× the tokens/s of plain decoding."
    ),
    "recommend.open": lambda f: "Whether to speculate is open: no draft was examined.",
    "recommend.refuse_unsure": lambda f: (
        f"Do not speculate: {f.subject} is not faster than this beyond doubt."
    ),
    "recommend.refuse_measured": lambda f: (
        f"Do not speculate: the best that was measured, {f.subject}, is out: {clauses(f)}."
    ),
    "recommend.refuse_predicted": lambda f: (
        f"Do not speculate: the best that is predicted, {f.subject}, would bring {f.number('speedup'):.2f}× "
        f"the tokens/s of plain decoding; more than {f.number('min_speedup'):.2f}× is asked for."
    ),
    "recommend.no_draft_measured": lambda f: "No draft could be measured.",
    "recommend.against": lambda f: f"Against plain decoding at {f.subject}: {times_text(f.figure('ratio'))}.",
    "recommend.ties": lambda f: f"In speed, {joined(f.words('names'))} cannot be told from it.",
    "recommend.precision_first": lambda f: f"Precision first: {_parts_as_text(f)}",
    "recommend.by_speed": lambda f: f"At {f.subject}, by speed alone: {_parts_as_text(f)}",
    "recommend.at": lambda f: f"At {f.subject}: {_parts_as_text(f)}",
    "recommend.plan_at": lambda f: f"Plan at {f.subject}: {_parts_as_text(f)}",
    "recommend.out": lambda f: f"{f.subject} is out: {clauses(f)}.",
    "recommend.rival": lambda f: (
        f"{f.subject} brought {f.number('throughput'):.0f} tokens/s. Precisions run one after another, so "
        "differences between them that are below the machine's drift are not counted."
    ),
    "recommend.none_near": lambda f: (
        "No draft is predicted to come near what is asked for: none was measured."
    ),
    "recommend.mixed_cannot_pay": lambda f: (
        f"Draft models at another precision than the target's {f.subject} cannot pay: even if their "
        f"forwards cost nothing, {f.word('best')} would be faster."
    ),
    "recommend.late": lambda f: (
        f"The budget of {f.number('budget_s'):.0f} s was exceeded: {f.number('spent_s'):.0f} s were used. "
        "What "
        "measurements take is estimated."
    ),
    "recommend.pace": _pace,
    "budget.precision": lambda f: f"for the budget: {f.subject} was not measured",
    "budget.prompts": lambda f: (
        f"for the budget: {f.number('kept'):.0f} prompts in place of {f.number('asked'):.0f}"
    ),
    "budget.scored": lambda f: (
        f"for the budget: perplexity on {f.number('kept'):,.0f} tokens in place of {f.number('asked'):,.0f}"
    ),
    "budget.compared": lambda f: (
        f"for the budget: KL divergence on {f.number('kept'):,.0f} tokens in place of "
        f"{f.number('asked'):,.0f}"
    ),
    "budget.plan": lambda f: f"for the budget: no plan at {f.subject}, so no draft was considered there",
    "budget.contender": lambda f: (
        f"for the budget: {f.subject} was not measured (predicted {f.number('speedup'):.2f}×)"
    ),
}

# --- compare ------------------------------------------------------------------------------------------------


def _speeds(f: Finding) -> str:
    named = {key: f"{f.number(key):.0f}" if f.number(key) else "none" for key in ("better", "worse")}
    total = f"{f.number('total'):.0f}"
    text = f"B is faster in {named['better']} of {total} rows, slower in {named['worse']}"
    others = [
        f"{f.number(key):.0f} {what}"
        for key, what in (
            ("same", "cannot be told apart"),
            ("drift", "differ by no more than the machine itself did"),
            ("unknown", "have too few prompts for an interval"),
        )
        if f.number(key)
    ]
    return f"{text}; {joined(others)}." if others else f"{text}."


def _same_speed(f: Finding) -> str:
    rows = f" in any of {f.number('total'):.0f} rows" if f.number("total") > 1 else ""
    return f"The speeds of A and B cannot be told apart{rows}."


def _status_changed(f: Finding) -> str:
    more = f" and {f.number('more'):.0f} more rows" if f.number("more") else ""
    why = f": {f.word('why')}" if f.word("why") else ""
    return f"{'; '.join(f.words('names'))}{more} ({f.word('before')} → {f.word('after')}{why})"


def _new_bugs(f: Finding) -> str:
    total = f" of {f.word('total')}" if f.word("total") else ""
    return (
        f"{f.subject}: not the text of K = 0 in {f.word('after')}{total}, by a bug and not by "
        f"rounding ({f.word('before')} in A)"
    )


def _not_in_turn(f: Finding) -> str:
    free = " Only speedups over K = 0, measured in turn within each run, are free of it."
    return (
        "A and B were not measured in turn: what the machine did between the two runs is in the ratios and "
        f"not in their intervals.{free if f.figures.get('speedups') else ''}"
    )


def _no_work_timed(f: Finding) -> str:
    where = "The same machine, by its description. " if f.figures.get("same") else ""
    return f"{where}No fixed work was timed, so how much its own speed changed is unknown."


def _work_timed(f: Finding) -> str:
    pairs = zip(f.words("names"), f.words("speeds"), strict=True)
    timed = joined([f"{name} {float(speed):.2f}×" for name, speed in pairs])
    text = f"fixed work, timed between the prompts, ran at these speeds in B over A: {timed}"
    if not f.figures.get("same"):
        return f"{text[0].upper()}{text[1:]}."
    other = f.words("changed")
    also = f". With {', '.join(other)} that work is not quite the same" if other else ""
    return f"The same machine, by its description; {text}{also}."


_COMPARE: dict[str, Sentence] = {
    "compare.no_speed_at_all": lambda f: "No row has a speed on both sides.",
    "compare.nothing_significant": lambda f: (
        "Nothing is significant: fewer than 5 prompts (or groups of them) have no interval. Measure more "
        "of them."
    ),
    "compare.same_speed": _same_speed,
    "compare.speeds": _speeds,
    "compare.largest_regression": lambda f: f"Largest regression: {f.subject}, {clauses(f)}.",
    "compare.no_regression": lambda f: "No significant regression.",
    "compare.ppl_same": lambda f: "Perplexity is the same.",
    "compare.ppl_changed": lambda f: f"Perplexity: {clauses(f)}.",
    "compare.ppl_too_few": lambda f: "Too few blocks of text were scored to compare perplexities.",
    "compare.ppl_not_told_apart": lambda f: "Perplexity cannot be told apart.",
    "compare.no_longer_runs": lambda f: f"What ran in A does not in B: {clauses(f)}.",
    "compare.runs_now": lambda f: f"What did not run in A does in B: {clauses(f)}.",
    "compare.missing": lambda f: f"Of what A has, B has not: {some(f.words('names'))}.",
    "compare.no_longer_lossless": lambda f: f"No longer lossless: {clauses(f)}.",
    "compare.ratio": lambda f: f"{METRIC_TITLES[f.subject]} {ratio_text(f.subject, f.figure('ratio'))}",
    "compare.row_ratio": lambda f: f"{f.subject} {ratio_text('ppl', f.parts[0].figure('ratio'))}",
    "compare.lost": lambda f: f"{f.subject}: {', '.join(sentence(part) for part in f.parts)}",
    "compare.not_in_b": lambda f: f"{f.subject}: not in B",
    "compare.status_changed": _status_changed,
    "compare.new_bugs": _new_bugs,
    "compare.no_speed": lambda f: "no row has a speed on both sides",
    "compare.no_interval": lambda f: (
        "no speed has an interval, because fewer than 5 prompts (or groups of them) were measured"
    ),
    "compare.not_in_turn": _not_in_turn,
    "compare.another_machine": lambda f: (
        f"Another machine ({', '.join(f.words('changed'))}): the ratios compare the machines, too."
    ),
    "compare.no_work_timed": _no_work_timed,
    "compare.work_timed": _work_timed,
    "compare.same_ids": lambda f: (
        f"Greedy texts: all {f.word('total')} have the same token ids."
        if f.number("same") == f.number("total")
        else f"Greedy texts: {f.word('same')} of {f.word('total')} have the same token ids."
    ),
    "compare.refused": lambda f: (
        f"{f.subject} is not compared: {f.word('field')} is {f.word('values')}: {f.word('problem')}. "
        f"{f.word('remedy')}."
    ),
    "compare.only_in": lambda f: f"Only in {f.subject}: {some(f.words('names'))}.",
    "compare.note": lambda f: f"{some(f.words('names'))}: {clauses(f)}.",
    "compare.plans": lambda f: f"Plans measured no speed and were skipped: {', '.join(f.words('names'))}.",
    "compare.no_same_prompts": lambda f: "no runs of the same prompts",
    "compare.other_tokens": lambda f: (
        "tokens are those of each side's own tokenizer, which may not be the same amount of text"
    ),
    "compare.no_ppl": lambda f: f"PPL left out: {f.word('why')}",
    "compare.no_numbers": lambda f: f"left out for being no numbers: {', '.join(f.words('names'))}",
}

SENTENCES: dict[str, Sentence] = {
    **_RUNS,
    **_PRECISION,
    **_SPEC_DECODE,
    **_BATCHES,
    **_RECOMMEND,
    **_COMPARE,
}
