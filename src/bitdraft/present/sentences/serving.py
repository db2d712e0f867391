"""Sentences of running servers."""

from __future__ import annotations

from bitdraft.present.sentences.base import Sentence
from bitdraft.present.words import counted, joined, pace_text, times_text
from bitdraft.schema.findings import Finding


def at(f: Finding) -> str:
    """`at concurrency 4`, or `at this rate`"""
    load = f.number("load")
    return f"at concurrency {load:.0f}" if load else "at this rate"


def _break_even(f: Finding) -> str:
    pays, stops = f.number("pays"), f.number("stops")
    if not pays:
        return f"{f.subject} is shown to pay at no concurrency, and not to from {stops:.0f} on."
    return f"{f.subject} pays up to concurrency {pays:.0f} and no longer at {stops:.0f}: it stops in between."


def _texts(f: Finding) -> str:
    same, total = f.number("same"), f.number("total")
    what = "all" if same == total else f"{same:.0f} of"
    more = "" if same == total else " (certify says whether rounding explains the others)"
    return f"Greedy texts {at(f)}: {what} {total:.0f} of {f.subject} are the baseline's, to the letter{more}."


def _lossless(f: Finding) -> str:
    same, total = f.number("same"), f.number("total")
    others = [
        f"{f.number(name):.0f} {what}"
        for name, what in (
            ("ties", "part at near-ties"),
            ("noise", "where the plain server leaves its own text, too"),
            ("unexplained", "unexplained"),
        )
        if f.number(name)
    ]
    text = f"{same:.0f} of {total:.0f} greedy texts are the plain server's, to the letter"
    return f"{text}; {', '.join(others)}" if others else text


def _difference(f: Finding) -> str:
    gap = f.figures.get("gap")
    how = "the plain server tells no gap" if gap is None else f"{f.number('gap'):.3f} nats behind"
    return (
        f"Prompt {f.number('prompt'):.0f}, behind {counted(f.number('chars'), 'character')}: "
        f"{f.word('found')!r} in place of {f.word('expected')!r}: {f.word('what')} ({how})."
    )


SENTENCES: dict[str, Sentence] = {
    "serving.none_measured": lambda f: "No server answered to the end.",
    "serving.so_far": lambda f: f"Not finished: {counted(f.number('n'), 'request')} so far, and no verdict.",
    "serving.alone": lambda f: (
        f"{f.subject} {at(f)}: {f.figure('speed').value:.1f} tokens/s a request. "
        "With --baseline it is compared."
    ),
    "serving.not_compared": lambda f: (
        f"Nothing is compared: no prompt was answered by {f.subject} and another server."
    ),
    "serving.pays": lambda f: (
        f"{at(f).capitalize()} use {f.subject}: {times_text(f.figure('speedup'))} as fast as "
        f"{f.word('baseline')}."
    ),
    "serving.refuse": lambda f: (
        f"{at(f).capitalize()} do not: {f.subject} has {times_text(f.figure('speedup'))} the speed of "
        f"{f.word('baseline')}."
    ),
    "serving.open": lambda f: (
        f"{at(f).capitalize()} it is open: {f.subject} has {times_text(f.figure('speedup'))} the speed of "
        f"{f.word('baseline')}; more prompts, or a quieter machine, would tell."
    ),
    "serving.not_the_same": lambda f: (
        f"{at(f).capitalize()} it is open: {f.subject} does not do what {f.word('baseline')} does, as a "
        "warning says. Compare servers of the same model."
    ),
    "serving.too_drifted": lambda f: (
        f"{at(f).capitalize()} it is open: servers ran one at a time, and the plain one's own steps "
        f"changed their speed {pace_text(f.number('drift'))}. Measure again on a quiet machine."
    ),
    "serving.beyond_a_step": lambda f: (
        f"{f.subject} {at(f)} has {times_text(f.figure('speedup'))} the baseline's speed, more than the "
        f"{f.number('most'):.2f} tokens of its steps can give: the two differ in more than speculation, or "
        "something else slowed one of them."
    ),
    "serving.chosen_among": lambda f: (
        f"Verdicts look at {f.number('n'):.0f} speedups, and their lower ends hold for all of them at once: "
        "they lie below those of the table, which are each row's own."
    ),
    "serving.drift": lambda f: (
        f"{f.subject} {at(f)}: its own steps changed their speed {pace_text(f.number('drift'))} during the "
        "run (medians of TPOT over thirds of its requests): the machine did, or others used it."
    ),
    "serving.overloaded": lambda f: (
        f"{f.subject} {at(f)}: when the last request was sent, {f.number('n'):.0f} of "
        f"{f.number('of'):.0f} were not over. It does not keep up with this rate, or the run is too short to "
        "tell (--num-prompts): speeds, and speedups beside it, are those of a queue that grows."
    ),
    "serving.counters_partial": lambda f: (
        f"{f.subject} {at(f)}: its counters were read over {f.number('n'):.0f} of "
        f"{counted(f.number('of'), 'request')}, those behind the interrupt, and are left out."
    ),
    "serving.other": lambda f: f"{f.subject} {at(f)}: {times_text(f.figure('speedup'))}.",
    "serving.break_even": _break_even,
    "serving.failed": lambda f: f"{f.subject} {at(f)}: failed ({f.word('why')}).",
    "serving.texts": _texts,
    "serving.some_failed": lambda f: (
        f"{f.subject} {at(f)}: {f.number('n'):.0f} of {counted(f.number('of'), 'request')} failed "
        f"({f.word('why')}); they are in no speed."
    ),
    "serving.retried": lambda f: (
        f"{f.subject} {at(f)}: {counted(f.number('n'), 'request')} took more than one try; times are the "
        "last one's."
    ),
    "import.read": lambda f: (
        f"{counted(f.number('n'), 'request')} as {joined(f.words('tools'))} measured them."
    ),
    "import.ratio": lambda f: (
        f"{at(f).capitalize()} {f.subject} has {times_text(f.figure('speedup'))} the speed of "
        f"{f.word('baseline')}."
    ),
    "import.apart": lambda f: (
        "They were measured apart: what the machine did in between is in these ratios and not in their "
        "intervals, so that nothing is judged (serve-bench measures in turn)."
    ),
    "import.no_common_load": lambda f: (
        f"{f.subject} was measured at concurrency {joined(f.words('own'))} and {f.word('baseline')} at "
        f"{joined(f.words('base'))}: nothing is compared."
    ),
    "import.lengths": lambda f: (
        f"{f.subject} {at(f)} has {counted(f.number('own'), 'request')} and {f.word('baseline')} "
        f"{f.number('base'):.0f}: those that both have are compared."
    ),
    "import.by_place": lambda f: (
        f"{f.subject} {at(f)}: the files do not tell all prompts' lengths, and requests are paired with "
        f"those of {f.word('baseline')} by their places alone: both must be of the same prompts in the same "
        "order."
    ),
    "import.no_start_times": lambda f: (
        f"{f.subject}: the file tells no times of sending, so that the server's throughput is not known."
    ),
    "import.not_streamed": lambda f: (
        f"{f.subject}: answers were not streamed. Where a first token came is taken from the server's own "
        "timings, and gaps between tokens are not known."
    ),
    "import.turns": lambda f: (
        f"{f.subject}: some samples have several turns, whose times are summed: their TTFT is that of all."
    ),
    "serving.died": lambda f: f"{f.subject} ended before the run did ({f.word('why')}).",
    "serving.in_turn": lambda f: (
        f"Servers ran one at a time, {f.number('n'):.0f} times each: what differs from start to start is in "
        "the intervals of speedups, and in no others."
    ),
    "serving.others": lambda f: (
        f"{f.subject} {at(f)}: by its own count it ended {counted(f.number('n'), 'request')} more than it "
        "was sent: somebody else used it, and its counters are left out."
    ),
    "serving.restarted": lambda f: f"{f.subject} {at(f)}: its counters began anew in between.",
    "serving.contradiction": lambda f: (
        f"{f.subject} {at(f)}: what it says of its speculation contradicts itself ({f.word('what')}; "
        f"{counted(f.number('n'), 'such case')}), and is in no figure."
    ),
    "serving.k_is_less": lambda f: (
        f"{f.subject} {at(f)}: its steps draft {f.number('drafted'):.2f} tokens, not K = {f.number('k'):.0f}"
        ", and the ends of answers do not explain it: an engine may draft less where it is not confident. "
        "Its acceptance rate is by K."
    ),
    "serving.lengths": lambda f: (
        f"{f.subject} {at(f)}: its answers have {f.number('own'):.0f} tokens, the baseline's "
        f"{f.number('base'):.0f}: not the same work."
    ),
    "serving.cached": lambda f: (
        f"{f.subject} {at(f)}: {100 * f.number('share'):.0f} % of the prompts' tokens were in its cache: its "
        "TTFT is of prompts that it knows."
    ),
    "serving.same_prompts": lambda f: (
        "The text has too few prompts for each concurrency to have its own: caches of prefixes may know "
        "those of the one before."
    ),
    "certify.lossless": lambda f: f"Lossless: {_lossless(f)}.",
    "certify.unexplained": lambda f: f"Not lossless: {_lossless(f)}.",
    "certify.unanswered": lambda f: (
        f"Not certified: {counted(f.number('unanswered'), 'prompt')} had no answer of both. Of the others "
        f"{_lossless(f)}."
    ),
    "certify.draws_missing": lambda f: (
        f"Not certified: of {f.number('n'):.0f} of {counted(f.number('total'), 'prompt')} fewer than half of "
        "the draws were answered by both. In the others no distributions differ."
    ),
    "certify.difference": _difference,
    "certify.failed": lambda f: (
        f"{f.number('n'):.0f} of {counted(f.number('of'), 'prompt')} failed ({f.word('why')})."
    ),
    "certify.same_distribution": lambda f: (
        f"Lossless as far as {f.number('n'):.0f} draws tell: in none of "
        f"{counted(f.number('total'), 'prompt')} do the distributions differ (smallest "
        f"p = {f.number('p'):.3f})."
    ),
    "certify.other_distribution": lambda f: (
        f"Not lossless: in {f.number('n'):.0f} of {counted(f.number('total'), 'prompt')} {f.subject} "
        f"draws from another distribution (prompt {f.number('prompt'):.0f}: total variation "
        f"{f.number('distance'):.2f}, p = {f.number('p'):.4f})."
    ),
    "certify.no_chance": lambda f: (
        "Nothing was left to chance: every draw gave the same text. Raise --temperature or --draw-tokens."
    ),
}
