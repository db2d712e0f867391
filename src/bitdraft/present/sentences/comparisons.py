"""Sentences of two folders compared."""

from __future__ import annotations

from bitdraft.present.sentences.base import Sentence, clauses
from bitdraft.present.words import METRIC_TITLES, joined, ratio_text, some
from bitdraft.schema.findings import Finding


def _speeds(f: Finding) -> str:
    named = {key: f"{f.number(key):.0f}" if f.number(key) else "none" for key in ("better", "worse")}
    total = f"{f.number('total'):.0f}"
    text = f"B is faster in {named['better']} of {total} rows, slower in {named['worse']}"
    others = [
        f"{f.number(key):.0f} {what}"
        for key, what in (
            ("same", "are statistically tied"),
            ("drift", "differ by no more than the machine itself did"),
            ("unknown", "have too few prompts for an interval"),
        )
        if f.number(key)
    ]
    return f"{text}; {joined(others)}." if others else f"{text}."


def _same_speed(f: Finding) -> str:
    rows = f" in any of {f.number('total'):.0f} rows" if f.number("total") > 1 else ""
    return f"The speeds of A and B are statistically tied{rows}."


def _status_changed(f: Finding) -> str:
    more = f" and {f.number('more'):.0f} more rows" if f.number("more") else ""
    why = f": {f.word('why')}" if f.word("why") else ""
    return f"{'; '.join(f.words('names'))}{more} ({f.word('before')} → {f.word('after')}{why})"


def _not_lossless(f: Finding) -> str:
    total = f" of {f.word('total')}" if f.word("total") else ""
    return (
        f"{f.subject}: not the text of plain decoding in {f.word('after')}{total}, and rounding does not "
        f"explain it ({f.word('before')} in A)"
    )


def _not_in_turn(f: Finding) -> str:
    free = " Only speedups over plain decoding, measured in turn within each run, are free of it."
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


SENTENCES: dict[str, Sentence] = {
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
    "compare.ppl_not_told_apart": lambda f: "Perplexities are statistically tied.",
    "compare.no_longer_runs": lambda f: f"Ran in A, failed in B: {clauses(f)}.",
    "compare.runs_now": lambda f: f"Failed in A, runs in B: {clauses(f)}.",
    "compare.missing": lambda f: f"In A, missing in B: {some(f.words('names'))}.",
    "compare.no_longer_lossless": lambda f: f"No longer lossless: {clauses(f)}.",
    "compare.ratio": lambda f: f"{METRIC_TITLES[f.subject]} {ratio_text(f.subject, f.figure('ratio'))}",
    "compare.typical_ratio": lambda f: (
        f"{METRIC_TITLES[f.subject]} worse in {f.number('num_worse'):.0f} of {f.number('n'):.0f} prompts, "
        f"{f.number('median'):.3f}× in their median"
    ),
    "compare.row_ratio": lambda f: f"{f.subject} {ratio_text('ppl', f.parts[0].figure('ratio'))}",
    "compare.lost": lambda f: f"{f.subject}: {', '.join(part.text for part in f.parts)}",
    "compare.not_in_b": lambda f: f"{f.subject}: not in B",
    "compare.status_changed": _status_changed,
    "compare.not_lossless": _not_lossless,
    "compare.no_speed": lambda f: "no row has a speed on both sides",
    "compare.no_interval": lambda f: (
        "no speed has an interval, because fewer than 5 prompts (or groups of them) were measured"
    ),
    "compare.not_in_turn": _not_in_turn,
    "compare.in_turn": lambda f: (
        f"A and B were measured in turn, {f.number('rounds'):.0f} times each, in processes of their own: the "
        "intervals hold what the machine did in between, too."
    ),
    "compare.times_apart": lambda f: (
        "throughput, TPOT and TTFT were measured apart, so what the machine did in between is in them "
        "(`bitdraft compare --measure A B` measures both in turn)"
    ),
    "compare.no_interval_of": lambda f: (
        f"{METRIC_TITLES[f.subject]} of {some(f.words('names'))}: too few prompts or blocks for an interval"
    ),
    "compare.no_ppl_interval": lambda f: (
        "no perplexity has an interval: too few blocks of text were scored (more with --ppl-max-tokens, or a "
        "longer text)"
    ),
    "compare.refused_file": lambda f: f"{f.subject} is not compared with what B has of it",
    "compare.not_compared": lambda f: (
        f"{METRIC_TITLES[f.subject]} of {some(f.words('names'))}: A has it, and it cannot be compared with B"
    ),
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
    "compare.unfinished": lambda f: f"In {f.subject}, {f.word('what')}.",
    "compare.no_ppl": lambda f: f"PPL left out: {f.word('why')}",
    "compare.no_numbers": lambda f: f"left out for being no numbers: {', '.join(f.words('names'))}",
}
