"""Sentences of any run: how it ended, where it was computed."""

from __future__ import annotations

from bitdraft.present.sentences.base import Sentence
from bitdraft.present.words import counted, joined


def _processors(usable: float) -> str:
    return "1 processor" if usable == 1 else f"{usable:g} processors"


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
    "run.threads": lambda f: (
        f"{counted(f.number('n'), 'thread')} compute on {_processors(f.number('cpus'))} that this process "
        f"may use: they wait for each other. Set OMP_NUM_THREADS={max(int(f.number('cpus')), 1)}."
    ),
    "run.interrupted": lambda f: "what followed: the run was interrupted",
    "row.failed": lambda f: f"{f.subject} is out: {f.word('status')} ({f.word('why')}).",
    "row.status": lambda f: f"{f.word('status')}: {f.word('why')}",
}
