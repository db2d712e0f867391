"""Sentences of K schedules."""

from __future__ import annotations

from bitdraft.present.sentences.base import Sentence
from bitdraft.present.words import joined, times_text
from bitdraft.schema.findings import Finding


def time_text(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`"""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _context(f: Finding) -> str:
    pairs = zip(f.words("sizes"), f.words("ks"), strict=True)
    said = ", ".join(f"batch {size} K = {k}" for size, k in pairs)
    text = f"At {f.number('context'):.0f} tokens of context: {said}"
    sizes = f.words("open")
    return f"{text}; open at batch {joined(sizes)}." if sizes else f"{text}."


SENTENCES: dict[str, Sentence] = {
    "schedule.none": lambda f: "No schedule: nothing was timed or replayed.",
    "schedule.pays": lambda f: (
        f"Speculate at {f.number('n'):.0f} of {f.number('of'):.0f} batch sizes and contexts, most of all "
        f"with {f.subject} at batch {f.number('size'):.0f} and {f.number('context'):.0f} tokens of context: "
        f"{times_text(f.figure('speedup'))} predicted."
    ),
    "schedule.open": lambda f: (
        f"Open: at none of {f.number('n'):.0f} batch sizes and contexts is speculation shown to pay. More "
        "prompts, or a quieter machine, would tell."
    ),
    "schedule.refuse": lambda f: (
        f"Do not speculate: at none of {f.number('n'):.0f} batch sizes and contexts is it predicted to pay."
    ),
    "schedule.context": _context,
    "schedule.time": lambda f: (
        f"The grid was measured in {time_text(f.number('grid_s'))}; decoding every prompt at every point "
        f"of it would take {time_text(f.number('sweep_s'))}, by the same costs."
    ),
    "schedule.left_out": lambda f: (
        f"Batch {f.number('size'):.0f} behind {f.number('context'):.0f} tokens, and what is larger: not "
        f"measured ({f.word('why')})."
    ),
}
