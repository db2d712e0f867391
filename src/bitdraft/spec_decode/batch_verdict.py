"""Whether speculation still pays when several prompts are decoded at once. Pure.

At each batch size the fastest (draft, K) by value is the candidate, as in `verdict`: it pays when the lower
end of its speedup over K = 0 at that size is above 1, and it does not when the interval reaches 1. Without
an interval nothing is claimed but what it is by value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from bitdraft.schema.records import Figure
from bitdraft.schema.results import BatchRow, SpecDecodeRow
from bitdraft.tables import joined, times_text


@dataclass(frozen=True)
class Best:
    """The fastest (draft, K) at a batch size."""

    batch_size: int
    draft: str
    k: int
    speedup: Figure

    @property
    def pays(self) -> bool | None:
        """None without an interval."""
        return None if self.speedup.low is None else self.speedup.low > 1

    @property
    def pays_by_value(self) -> bool:
        """By its interval where there is one."""
        return self.speedup.value > 1 if self.pays is None else self.pays

    def record(self) -> dict[str, Any]:
        fields = {"batch_size": self.batch_size, "draft": self.draft, "k": self.k, "pays": self.pays}
        return fields | {"speedup": self.speedup.model_dump()}

    def sentence(self) -> str:
        arm, times = f"{self.draft}, K = {self.k}", times_text(self.speedup)
        where = f"Batch {self.batch_size}:"
        if self.speedup.low is None or self.speedup.high is None:
            n = self.speedup.n
            few = f"{n} {'group is' if n == 1 else 'groups are'} too few to say"
            return f"{where} {few}. By value the best is {arm}: {times} plain decoding."
        if self.pays:
            return f"{where} {arm} is {times} plain decoding."
        why = "is slower than" if self.speedup.high < 1 else "cannot be told from"
        return f"{where} even the fastest, {arm}, {why} plain decoding ({times})."


def with_batches(
    verdict: Mapping[str, Any], rows: Sequence[SpecDecodeRow], batches: Sequence[BatchRow]
) -> dict[str, Any]:
    """The verdict with a record `batches`: the best at every batch size (batch 1 from the sweep's rows),
    and `stops_at`, the smallest size from which on speculation does not pay; None where there is none.
    `by_value` are the sizes that have no interval."""
    bests = [best for best in (_best(1, rows), *_bests(batches)) if best is not None]
    reasons = [best.sentence() for best in bests if best.batch_size > 1]
    reasons += [*_unknown(batches), *_failures(batches), *_summary(bests), *_lossless(batches)]
    record = {
        "best": [best.record() for best in bests],
        "stops_at": _stop(bests),
        "by_value": [best.batch_size for best in bests if best.pays is None],
    }
    return {**verdict, "reasons": [*verdict["reasons"], *reasons], "batches": record}


def _bests(batches: Sequence[BatchRow]) -> list[Best | None]:
    return [_best(size, list(rows)) for size, rows in groupby(batches, key=lambda row: row.batch_size)]


def _best(size: int, rows: Sequence[SpecDecodeRow] | Sequence[BatchRow]) -> Best | None:
    finished = [row for row in rows if row.status == "ok" and row.k]
    if not finished:
        return None
    row = max(finished, key=lambda row: row.metrics["throughput_tok_s"].value)
    return Best(size, row.draft, row.k, row.metrics["speedup"])


def _stop(bests: Sequence[Best]) -> int | None:
    """From where on nothing pays."""
    last_paying = max((place for place, best in enumerate(bests) if best.pays_by_value), default=-1)
    behind = bests[last_paying + 1 :]
    return behind[0].batch_size if behind else None


def _summary(bests: Sequence[Best]) -> list[str]:
    """Where speculation pays, in one sentence; none where there are not two sizes to compare."""
    if len(bests) < 2:
        return []
    paying, stop = [best.batch_size for best in bests if best.pays_by_value], _stop(bests)
    if len(paying) == len(bests):
        text = "Speculation pays at every batch size that was measured"
    elif not paying:
        text = "Speculation pays at no batch size that was measured"
    else:
        text = f"Speculation pays at batch {joined(paying)} alone"
        before = [best.batch_size for best in bests if stop is None or best.batch_size < stop]
        if stop is not None and before == paying:
            most = max(best.speedup.value for best in bests if best.batch_size >= stop)
            text = f"From batch {stop} on speculation does not pay (best {most:.2f}×)"
    by_value = [best.batch_size for best in bests if best.pays is None]
    if len(by_value) == len(bests):
        return [f"{text}; all of this by value, without intervals."]
    return [f"{text}; at batch {joined(by_value)} by value alone." if by_value else f"{text}."]


def _failures(batches: Sequence[BatchRow]) -> list[str]:
    """A batch size whose K = 0 failed in one sentence; else each arm that failed."""
    reasons = []
    for size, group in groupby(batches, key=lambda row: row.batch_size):
        plain, *others = group
        failed = [plain] if plain.status != "ok" else [row for row in others if row.status != "ok"]
        for row in failed:
            who = f", {row.draft}, K = {row.k}" if row.k else ""
            reasons.append(f"Batch {size}{who}: {row.status} ({row.reason}).")
    return reasons


def _unknown(batches: Sequence[BatchRow]) -> list[str]:
    """The sizes at which plain decoding finished and no draft did."""
    reasons = []
    for size, group in groupby(batches, key=lambda row: row.batch_size):
        plain, *others = group
        if plain.status == "ok" and all(row.status != "ok" for row in others):
            reasons.append(f"Batch {size}: no draft finished, so that nothing is known of speculation there.")
    return reasons


def _lossless(batches: Sequence[BatchRow]) -> list[str]:
    checked = [row.lossless for row in batches if row.lossless is not None]
    if not checked:
        return []
    total = sum(entry["num_prompts"] for entry in checked)
    identical = sum(entry["identical"] for entry in checked)
    if identical == total:
        return [f"Larger batches: all {total} texts, those of K = 0 included, are those of batch 1."]
    return [
        f"Larger batches: {identical} of {total} texts, those of K = 0 included, are those of batch 1; the "
        "others are unchecked (a batch can round differently)."
    ]
