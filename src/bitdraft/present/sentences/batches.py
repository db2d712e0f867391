"""Sentences of several prompts at once."""

from __future__ import annotations

from bitdraft.present.sentences.base import Sentence
from bitdraft.present.sentences.sweeps import best_by_value, no_gain_text
from bitdraft.present.words import joined, times_text, too_few
from bitdraft.schema.findings import Finding


def _batch_too_few(f: Finding) -> str:
    n = f.figure("speedup").n
    few = too_few(n, "group")
    best = f"By value {best_by_value(f)} the speed of plain decoding."
    return f"Batch {f.word('batch_size')}: {few} to say. {best}"


def _batch_refuse(f: Finding) -> str:
    speedup = f.figure("speedup")
    why, times = no_gain_text(speedup), times_text(speedup)
    return f"Batch {f.word('batch_size')}: even the fastest, {f.subject}, {why} plain decoding ({times})."


def _batch_failed(f: Finding) -> str:
    who = f", {f.subject}" if f.subject else ""
    return f"Batch {f.word('batch_size')}{who}: {f.word('status')} ({f.word('why')})."


def _where_it_pays(text: str, f: Finding) -> str:
    if f.words("open"):
        text += f"; at batch {joined(f.words('open'))} it is open"
    if f.figures.get("all_by_value"):
        return f"{text}; all of this by value, without intervals."
    sizes = f.words("by_value")
    return f"{text}; at batch {joined(sizes)} by value alone." if sizes else f"{text}."


def _batch_lossless(f: Finding) -> str:
    total, identical = int(f.number("total")), int(f.number("identical"))
    if identical == total:
        return f"Larger batches: all {total} texts, those of plain decoding included, are those of batch 1."
    return (
        f"Larger batches: {identical} of {total} texts, those of plain decoding included, are those of batch "
        "1; the others are unchecked (a batch can round differently)."
    )


SENTENCES: dict[str, Sentence] = {
    "batch.too_few": _batch_too_few,
    "batch.too_noisy": lambda f: (
        f"Batch {f.word('batch_size')}: open. The fastest that may pay, {f.subject}, is "
        f"{times_text(f.figure('speedup'))} plain decoding."
    ),
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
    "batch.pays_nowhere": lambda f: _where_it_pays(
        f"Speculation {'is shown to pay' if f.words('open') else 'pays'} at no batch size that was measured",
        f,
    ),
    "batch.pays_at": lambda f: _where_it_pays(
        f"Speculation pays at batch {joined(f.words('paying'))}{'' if f.words('open') else ' alone'}", f
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
