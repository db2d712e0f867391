"""Sentences of what to deploy."""

from __future__ import annotations

from bitdraft.present.sentences.base import Sentence, clauses, parts_as_text
from bitdraft.present.sentences.sweeps import MORE, too_few_prompts, unexplained_text
from bitdraft.present.words import joined, memory_text, times_text, too_few
from bitdraft.schema.findings import Finding


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


def _asked(f: Finding) -> str:
    least = f.figures.get("min_speedup") or 1.0
    return f", and {least:.2f}× is asked for" if isinstance(least, int | float) and least > 1 else ""


def _too_little(f: Finding) -> str:
    speedup, asked = f.figure("speedup"), f.number("min_speedup")
    wanted = f"{asked:.2f}× is asked for" if asked > 1 else "that is not worth a draft"
    return f"its speedup of {speedup.value:.2f}× is at most {speedup.high:.2f}×, and {wanted}"


def _pace(f: Finding) -> str:
    pace = f.number("pace")
    change = f"{100 * abs(1 - 1 / pace):.0f} % {'slower' if pace > 1 else 'faster'}"
    return (
        f"At {f.subject}: plain decoding was {change} in the sweep than when precisions were measured. "
        "Speedups hold, they are of one sweep; tokens/s of different stages are compared at one pace."
    )


def _why(f: Finding) -> str:
    """Costs in forwards over one token, at the chosen precision and at the others."""
    k, costs = int(f.number("k")), map(float, f.words("other_costs"))
    elsewhere = "".join(f", {c:.1f} in {name}" for name, c in zip(f.words("others"), costs, strict=True))
    text = (
        f"Verifying {k + 1} tokens takes the time of {f.number('verify_cost'):.1f} forwards in {f.subject}"
        f"{elsewhere}; drafting {k} with {f.word('draft')} takes {k * f.number('draft_cost'):.1f}"
    )
    tokens = f.figures.get("tokens_per_step")
    return f"{text}, and a step brings {f.number('tokens_per_step'):.1f} tokens." if tokens else f"{text}."


SENTENCES: dict[str, Sentence] = {
    "recommend.why": _why,
    "limit.memory": _limit_memory,
    "limit.ttft": lambda f: (
        f"its time to the first token may be {f.number('ttft_ms'):.1f} ms, above the limit of "
        f"{f.number('limit_ms'):g} ms"
    ),
    "speculation.bug": lambda f: "its text is not the target's",
    "speculation.not_lossless": unexplained_text,
    "speculation.too_few": lambda f: f"{too_few(f.number('n'), 'prompt')} to say whether it is faster",
    "speculation.slower": lambda f: f"it is slower than plain decoding ({f.figure('speedup').value:.2f}×)",
    "speculation.unsure": _unsure,
    "speculation.too_little": _too_little,
    "recommend.nothing": lambda f: "Nothing was measured, so nothing can be recommended.",
    "recommend.ahead": lambda f: f"So far {f.subject} is ahead; nothing is recommended yet.",
    "recommend.not_all": lambda f: "Not all that was asked for was measured.",
    "recommend.deploy": lambda f: f"Deploy {f.subject}: {f.number('throughput'):.0f} tokens/s.",
    "recommend.speedup": lambda f: (
        f"Speculation brings {times_text(f.figure('speedup'))} the tokens/s of plain decoding at {f.subject}."
    ),
    "recommend.too_few": lambda f: (
        f"{too_few_prompts(f)} to say whether to speculate. By value {f.subject} "
        f"brings {times_text(f.figure('speedup'))} the tokens/s of plain decoding at {f.word('precision')}."
    ),
    "recommend.too_noisy": lambda f: (
        f"Whether to speculate is open: {f.subject} has {times_text(f.figure('ratio'))} the tokens/s of this"
        f"{_asked(f)}. {MORE}"
    ),
    "recommend.open_predicted": lambda f: (
        f"Whether to speculate is open: nothing was measured. The best that is predicted, {f.subject}, "
        f"would bring {f.number('speedup'):.2f}× the tokens/s of plain decoding."
    ),
    "recommend.open": lambda f: "Whether to speculate is open: no draft was examined.",
    "recommend.refuse_slower": lambda f: (
        f"Do not speculate: the best that was measured, {f.subject}, has {times_text(f.figure('ratio'))} the "
        "tokens/s of this."
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
    "recommend.ties": lambda f: f"Statistically tied in speed: {joined(f.words('names'))}.",
    "recommend.precision_first": lambda f: f"Precision first: {parts_as_text(f)}",
    "recommend.by_speed": lambda f: f"At {f.subject}, by speed alone: {parts_as_text(f)}",
    "recommend.at": lambda f: f"At {f.subject}: {parts_as_text(f)}",
    "recommend.plan_at": lambda f: f"Plan at {f.subject}: {parts_as_text(f)}",
    "recommend.out": lambda f: f"{f.subject} is out: {clauses(f)}.",
    "recommend.not_shown": lambda f: f"{f.subject} is not shown to pay: {clauses(f)}.",
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
        "What measurements take is estimated."
    ),
    "recommend.pace": _pace,
    "budget.time": lambda f: f"for the budget: time was up while this was measured: {f.subject}",
    "budget.precision": lambda f: f"for the budget: {f.subject} was not measured",
    "budget.prompts": lambda f: (
        f"for the budget: {f.number('kept'):.0f} prompts in place of {f.number('asked'):.0f}"
    ),
    "budget.scored": lambda f: (
        f"for the budget: perplexity on at most {f.number('kept'):,.0f} tokens in place of "
        + (f"{f.number('asked'):,.0f}" if f.figures.get("asked") else "the whole text")
    ),
    "budget.compared": lambda f: (
        f"for the budget: KL divergence on {f.number('kept'):,.0f} tokens in place of "
        f"{f.number('asked'):,.0f}"
    ),
    "budget.rounds": lambda f: (
        f"for the budget: each precision timed in {f.number('kept'):.0f} process in place of "
        f"{f.number('asked'):.0f}"
    ),
    "budget.plan": lambda f: f"for the budget: no plan at {f.subject}, so no draft was considered there",
    "budget.contender": lambda f: (
        f"for the budget: {f.subject} was not measured (predicted {f.number('speedup'):.2f}×)"
    ),
}
