"""Sentences of any run: how it ended, where it was computed."""

from __future__ import annotations

from bitdraft.present.sentences.base import Sentence
from bitdraft.present.words import counted, joined

SENTENCES: dict[str, Sentence] = {
    "earlier.text": lambda f: f.text,
    "run.incomplete": lambda f: (
        "Not finished: this is what was measured so far. Give the same command again to go on."
    ),
    "run.machines": lambda f: (
        f"Measured on several machines ({joined(f.words('machines'))}): speeds of different cells are those "
        "of different machines."
    ),
    "run.mixed": lambda f: (
        "Continued on another machine or with other versions (--mix-machines, "
        f"{counted(f.number('n'), 'part')}): differences between cells may be the machines'."
    ),
    "run.interrupted": lambda f: "what followed: the run was interrupted",
    "row.failed": lambda f: f"{f.subject} is out: {f.word('status')} ({f.word('why')}).",
    "row.status": lambda f: f"{f.word('status')}: {f.word('why')}",
}
