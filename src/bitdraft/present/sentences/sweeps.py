"""Sentences of drafts and K at one prompt, and of plans."""

from __future__ import annotations

from itertools import groupby

from bitdraft.present.sentences.base import Sentence
from bitdraft.present.words import counted, joined, pace_text, times_text, too_few
from bitdraft.schema.findings import Finding
from bitdraft.schema.records import Figure

# what an interval that is too wide wants
MORE = "More prompts (--num-prompts), or a machine with nothing else to do, would tell."

_DISTURBED = (
    "Other work disturbed the costs, and what is predicted from them may be far off: plan again on a quiet "
    "machine."
)


def _pair_text(f: Finding) -> str:
    return (
        f"{f.subject} in {f.word('own')} agrees with {100 * f.number('share'):.1f} % of the tokens of the "
        f"target in {f.word('target')}"
    )


def _refuse(f: Finding) -> str:
    speedup = f.figure("speedup")
    return (
        f"Do not speculate: even the fastest, {f.subject}, {no_gain_text(speedup)} plain decoding "
        f"({times_text(speedup)} its tokens/s)."
    )


def too_few_prompts(f: Finding) -> str:
    """`3 prompts are too few`, or `3 articles or books (10 prompts) are`, which count as one each"""
    n, prompts = f.figure("speedup").n, f.figures.get("num_prompts") or 0
    if not isinstance(prompts, int) or prompts <= n:
        return too_few(n, "prompt")
    more = f" ({prompts} prompts)"
    return too_few(n, f"article or book{more}", f"articles or books{more}")


def no_gain_text(speedup: Figure) -> str:
    """`is slower than`, with an interval that holds no gain worth a draft"""
    high = speedup.high
    if high is not None and high < 1:
        return "is slower than"
    return (
        "is statistically tied with"
        if speedup.low is not None and speedup.low <= 1
        else "is hardly faster than"
    )


def _width_text(width: float) -> str:
    """Of a figure's own size"""
    return f"{100 * width:.0f} %" if width < 10 else f"{width:.0f} times the speedup"


def _ties(f: Finding) -> str:
    """`Statistically tied: draft-small, K = 3 and 4; ngram, K = 5.`"""
    pairs = list(zip(f.words("drafts"), f.words("ks"), strict=True))
    parts = [
        f"{draft}, K = {joined([k for _, k in group])}"
        for draft, group in groupby(pairs, key=lambda pair: pair[0])
    ]
    return f"Statistically tied: {'; '.join(parts)}."


def _lossless(f: Finding) -> str:
    total, identical = int(f.number("total")), int(f.number("identical"))
    if identical == total:
        return f"Lossless: all {total} runs gave the token ids of plain decoding."
    kinds = [("ties", "rounding tie", "rounding ties"), ("bugs", "bug", "bugs")]
    parts = [counted(f.number(key), one, many) for key, one, many in kinds if f.number(key)]
    if f.figures.get("noise"):
        parts.append(f"{f.number('noise'):.0f} where the engine leaves its own text, too")
    for kind in ("unexplained", "unchecked"):
        if f.figures.get(kind):
            parts.append(f"{f.number(kind):.0f} {kind}")
    others = ", ".join(parts) or "unchecked"
    return f"{identical} of {total} runs gave the token ids of plain decoding; the others: {others}."


def unexplained_text(f: Finding) -> str:
    """`2 of 15 texts are not those of plain decoding, and rounding does not explain it: …`"""
    few = f"{f.number('n'):.0f} of {f.number('of'):.0f}"
    text = f"{few} texts are not those of plain decoding, and rounding "
    if f.number("bugs"):
        return f"{text}does not explain it: they differ at a wider precision as well"
    if f.figures.get("gap") is not None:
        gap, lead = f.number("gap"), f.number("lead")
        return f"{text}does not explain it: tokens {gap:.2g} logits apart, where a tie's are within {lead:g}"
    return f"{text}is not shown to explain it"


def best_by_value(f: Finding) -> str:
    """`the best is draft-small: 1.20×`, or that none is faster."""
    times = times_text(f.figure("speedup"))
    if f.figure("speedup").value > 1:
        return f"the best is {f.subject}: {times}"
    return f"none is faster: the best, {f.subject}, has {times}"


def _replay_differs(f: Finding) -> str:
    where = (
        f" (prompt {f.number('prompt'):.0f}, step {f.number('step'):.0f})" if "prompt" in f.figures else ""
    )
    return f"{f.subject}: measurement and replay disagree{where}."


def _fallback(f: Finding) -> str:
    why = f.word("why")
    return f"{why[0].upper()}{why[1:]}."


SENTENCES: dict[str, Sentence] = {
    "spec.none_measured": lambda f: "Nothing could be measured, so nothing can be recommended.",
    "spec.too_few": lambda f: (
        f"{too_few_prompts(f)} to say. By value {best_by_value(f)} the tokens/s of plain decoding."
    ),
    "spec.too_noisy": lambda f: (
        f"Whether to speculate is open: the fastest that may pay, {f.subject}, has "
        f"{times_text(f.figure('speedup'))} the tokens/s of plain decoding. {MORE}"
    ),
    "spec.beyond_a_step": lambda f: (
        f"Whether to speculate is open: {f.subject} came out at {times_text(f.figure('speedup'))} the "
        f"tokens/s of plain decoding, where its steps can give {f.number('most'):.2f}× at most. Something "
        "else slowed the machine while one of the two ran: measure again on a quiet one."
    ),
    "spec.too_drifted": lambda f: (
        "Whether to speculate is open: engines ran one at a time, and between them the same fixed work "
        f"changed its speed {pace_text(f.number('drift'))}. Acceptance and texts hold. Measure again on a "
        "quiet machine."
    ),
    "spec.speculate": lambda f: (
        f"Speculate with {f.subject}: {times_text(f.figure('speedup'))} the tokens/s of plain decoding."
    ),
    "spec.refuse": _refuse,
    "spec.chosen_among": lambda f: (
        f"The fastest of {f.number('n'):.0f} (draft, K) is partly the luckiest: the lower end of its "
        "interval holds for all of them at once, and its speedup is estimated from prompts that did not "
        "choose it."
    ),
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
        f"{f.number('break_even'):.2f} (K draft forwards of {f.number('draft_cost'):.2f} and a verification "
        f"of {f.number('verify_cost'):.2f})."
    ),
    "spec.largest_k": lambda f: (
        f"K = {f.number('k'):.0f} is the largest that was asked for: a larger one may be faster still."
    ),
    "spec.other_k": lambda f: (
        f"{f.subject}: K = {f.number('k'):.0f}, which was not asked for, is predicted to be faster than any "
        f"that was ({f.number('speedup'):.2f}× against {f.number('asked'):.2f}× after the prefill)."
    ),
    "spec.bug": lambda f: (
        f"{f.subject}: prompt {f.number('prompt'):.0f} leaves the text of plain decoding at token "
        f"{f.number('position'):.0f}, and not by rounding. Please report this."
    ),
    "spec.replay_differs": _replay_differs,
    "spec.wide_intervals": lambda f: (
        f"The speedup varies widely between prompts in {f.number('n'):.0f} of {f.number('of'):.0f} rows "
        f"(intervals up to {_width_text(f.number('width'))} wide): more prompts narrow it."
    ),
    "spec.repeats": lambda f: (
        f"The text repeats itself: {100 * f.number('repeated'):.0f} % of its 4-grams occurred before in the "
        f"same answer, and {100 * f.number('kept'):.0f} % of what {f.subject} wrote came from steps "
        f"that kept all {f.number('k'):.0f} tokens. Speedups are of such text: measure your own (--dataset "
        "file:PATH), or sample (--temperature 0.8)."
    ),
    "spec.no_replay": lambda f: f"No replay of {f.subject}: {f.word('why')}.",
    "spec.none_lossless": lambda f: (
        "Do not speculate: of no (draft, K) that ran are the texts shown to be those of plain decoding."
    ),
    "spec.not_lossless": lambda f: f"{f.subject} is not recommended: {unexplained_text(f)}.",
    "spec.replay": lambda f: (
        f"Replay: the steps of {f.number('compared'):.0f} of {f.number('of'):.0f} runs were compared (those "
        f"with the text of plain decoding), and {f.number('same'):.0f} are as replayed."
    ),
    "deployed.retried": lambda f: (
        f"{f.subject} was measured again later than the others: what the machine did in between is in its "
        "ratios. --fresh measures all in turn."
    ),
    "deployed.in_turn": lambda f: (
        f"Engines ran one at a time, {f.number('n'):.0f} times each: what differs from start to start is in "
        "the intervals of speedups, and in no others."
    ),
    "spec.drift": lambda f: (
        f"The machine's own speed changed {pace_text(f.number('drift'))} during the sweep (fixed "
        "work, timed between the prompts). Rows took turns on each prompt, which keeps slow changes out of "
        "their ratios; their tokens/s are of a machine that changed."
    ),
    "deployed.drift": lambda f: (
        f"The machine's own speed changed {pace_text(f.number('drift'))} during the sweep (fixed "
        "work, timed between the engines). They did not all take turns, so part of it is in their ratios, "
        "and in the intervals of those."
    ),
    "spec.no_control": lambda f: f"Differences to plain decoding could not be rechecked: {f.word('why')}.",
    "spec.no_memory": lambda f: f"No peak memory for {f.subject or 'the target alone'}: {f.word('why')}.",
    "spec.fallback": _fallback,
    "spec.dead_draft": lambda f: (
        f"{f.subject} agrees with {100 * f.number('share'):.1f} % of the target's "
        f"{f.number('n'):.0f} tokens and brings nothing at any K: is it of another tokenizer or chat "
        "template, or spoilt by its quantisation?"
    ),
    "pairs.base": lambda f: f"{_pair_text(f)}, where both round least; every pair stands beside it.",
    "pairs.dead": lambda f: f"{_pair_text(f)}: as good as none. Look at how it was quantised.",
    "pairs.halved": lambda f: (
        f"{_pair_text(f)}, less than half of the {100 * f.number('base'):.1f} % where both round least. Look "
        "at how it was quantised."
    ),
    "pairs.lost": lambda f: f"{f.subject} was left out of the pairs ({f.word('status')}: {f.word('why')}).",
    "spec.batches_static": lambda f: (
        "Batch 1 ran eagerly, which was faster; larger batches by the static path."
    ),
    "spec.ended_early": lambda f: (
        f"Ended after {f.number('done'):.0f} of {f.number('of'):.0f} prompts: {f.word('why')}."
    ),
    "spec.strayed": lambda f: (
        f"{f.number('n'):.0f} runs left the text that their draft follows at every try, so that less is "
        "accepted than stated."
    ),
    "spec.draft_size": lambda f: (
        f"Draft {f.subject} is no smaller than the target ({f.number('size'):,.0f} and "
        f"{f.number('target'):,.0f} parameters): it is unlikely to make it faster."
    ),
    "plan.none": lambda f: "No draft could be planned for.",
    "plan.speculate": lambda f: (
        f"Speculate with {f.subject}: predicted {f.number('speedup'):.2f}× the tokens/s of plain decoding."
    ),
    "plan.open": lambda f: (
        f"Whether to speculate is open: the best is {f.subject}: predicted {f.number('speedup'):.2f}× the "
        "tokens/s of plain decoding, which a prediction cannot decide. Measure it."
    ),
    "plan.impossible_costs": lambda f: (
        f"Verifying {f.number('k') + 1:.0f} tokens was timed at {f.number('cost'):.2f} of a forward over "
        f"one: that cannot be. {_DISTURBED}"
    ),
    "plan.noisy_costs": lambda f: (
        f"A forward over one token took {f.figure('forward').low:.1f} to {f.figure('forward').high:.1f} ms. "
        f"{_DISTURBED}"
    ),
    "plan.refuse": lambda f: (
        f"Do not speculate: the best is {f.subject}: predicted {f.number('speedup'):.2f}× the tokens/s of "
        "plain decoding."
    ),
    "plan.draft": lambda f: (
        f"{f.subject}: best K = {f.number('k'):.0f} with {f.number('speedup'):.2f}× "
        f"({f.number('tokens_per_step'):.2f} tokens per step)."
    ),
    "plan.how": lambda f: (
        f"Predicted from {f.number('n'):.0f} prompts by replay and cost curves; nothing was swept, so there "
        "is no interval."
    ),
    "plan.not_predicted": lambda f: (
        f"{f.subject} is not predicted: its costs or its agreement with the text could not be measured, or "
        "every text ended with its first token."
    ),
    "plan.out": lambda f: f"{f.subject} is out: {f.word('status')} ({f.word('why')}).",
}
