"""Sentences of running servers."""

from __future__ import annotations

from bitdraft.present.sentences.base import Sentence
from bitdraft.present.words import counted, times_text
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
    "serving.others": lambda f: (
        f"{f.subject} {at(f)}: by its own count it ended {counted(f.number('n'), 'request')} more than it "
        "was sent: somebody else used it, and its counters are left out."
    ),
    "serving.restarted": lambda f: f"{f.subject} {at(f)}: its counters began anew in between.",
    "serving.contradiction": lambda f: (
        f"{f.subject} {at(f)}: what it says of its speculation does not fit ({f.word('what')}; "
        f"{counted(f.number('n'), 'such case')})."
    ),
    "serving.k_is_less": lambda f: (
        f"{f.subject} {at(f)}: its steps draft {f.number('drafted'):.2f} tokens, not K = {f.number('k'):.0f}"
        ": it drafts less where it is not confident, and its acceptance rate is by K."
    ),
    "serving.lengths": lambda f: (
        f"{f.subject} {at(f)}: its answers have {f.number('own'):.0f} tokens, the baseline's "
        f"{f.number('base'):.0f}: not the same work."
    ),
    "serving.same_prompts": lambda f: (
        "The text has too few prompts for each concurrency to have its own: caches of prefixes may know "
        "those of the one before."
    ),
}
