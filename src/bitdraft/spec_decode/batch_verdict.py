"""Up to which batch size speculation pays, as findings that the intervals support. Pure.

Each size is judged as the sweep is, by intervals whose lower ends hold for all (draft, K) of the larger
batches at once. A size that is open neither pays nor ends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from bitdraft.schema.findings import Finding, Value, reason
from bitdraft.schema.spec_decode import BatchBest, BatchVerdict, SpecDecodeRow
from bitdraft.spec_decode.candidates import candidate, is_lossless, name_of


def decide_batches(rows: Sequence[SpecDecodeRow]) -> tuple[BatchVerdict | None, list[Finding]]:
    """The best at every batch size, and from which on nothing pays; None where there is one size alone."""
    larger = [row for row in rows if row.batch_size > 1]
    if not larger:
        return None, []
    sizes = sorted({row.batch_size for row in rows})
    num_larger = sum(row.status == "ok" and bool(row.k) for row in larger)
    found = [_best([row for row in rows if row.batch_size == size], num_larger) for size in sizes]
    bests = [best for best in found if best is not None]
    findings = [_of_batch(best) for best in bests if best.batch_size > 1]
    findings += [*_unknown(larger), *_batch_failures(larger), *_summary(bests), *_batch_lossless(larger)]
    verdict = BatchVerdict(
        best=tuple(bests),
        stops_at=_stop(bests),
        by_value=_by_value(bests),
    )
    return verdict, findings


def _best(rows: Sequence[SpecDecodeRow], num_larger: int) -> BatchBest | None:
    """The fastest (draft, K) of one batch size. At batch 1 all rows of the sweep were looked at, behind it
    all of the larger batches."""
    finished = [row for row in rows if row.status == "ok" and row.k and "speedup" in row.metrics]
    # larger batches may round differently, and no control tells
    finished = [row for row in finished if row.batch_size > 1 or is_lossless(row)]
    if not finished:
        return None
    baseline = next((other for other in rows if not other.k and other.status == "ok"), None)
    num_looked_at = num_larger if finished[0].batch_size > 1 else len(finished)
    found = candidate(finished, baseline, num_looked_at)
    row = found.row
    return BatchBest(
        batch_size=row.batch_size, draft=str(row.draft), k=row.k, speedup=found.speedup, pays=found.pays
    )


def _of_batch(best: BatchBest) -> Finding:
    name, size = name_of(best.draft, best.k), best.batch_size
    if best.pays is None:
        code = "batch.too_few" if best.speedup.low is None else "batch.too_noisy"
        return reason(code, name, batch_size=size, speedup=best.speedup)
    return reason("batch.pays" if best.pays else "batch.refuse", name, batch_size=size, speedup=best.speedup)


def _stop(bests: Sequence[BatchBest]) -> int | None:
    """From where on nothing pays."""
    last = max((index for index, best in enumerate(bests) if best.pays_by_value is not False), default=-1)
    behind = bests[last + 1 :]
    return behind[0].batch_size if behind else None


def _by_value(bests: Sequence[BatchBest]) -> tuple[int, ...]:
    """The sizes without an interval."""
    return tuple(best.batch_size for best in bests if best.speedup.low is None)


def _summary(bests: Sequence[BatchBest]) -> list[Finding]:
    """Where speculation pays; none where there are not two sizes to compare."""
    if len(bests) < 2:
        return []
    paying, stop = [best.batch_size for best in bests if best.pays_by_value is True], _stop(bests)
    by_value = _by_value(bests)
    is_open = [best.batch_size for best in bests if best.pays_by_value is None]
    figures: dict[str, Value] = {
        "paying": tuple(paying),
        "by_value": by_value,
        "all_by_value": len(by_value) == len(bests),
        "open": tuple(is_open),
    }
    if len(is_open) == len(bests):
        return []
    if len(paying) == len(bests):
        return [reason("batch.pays_everywhere", **figures)]
    if not paying:
        return [reason("batch.pays_nowhere", **figures)]
    before = [best.batch_size for best in bests if stop is None or best.batch_size < stop]
    if stop is not None and set(before) <= {*paying, *is_open}:
        most = max(best.speedup.value for best in bests if best.batch_size >= stop)
        return [reason("batch.stops", stop=stop, best=most, **figures)]
    return [reason("batch.pays_at", **figures)]


def _by_size(rows: Sequence[SpecDecodeRow]) -> list[tuple[int, SpecDecodeRow, list[SpecDecodeRow]]]:
    """(size, its baseline, the others)"""
    found = []
    for size, group in groupby(rows, key=lambda row: row.batch_size):
        baseline, *others = group
        found.append((size, baseline, others))
    return found


def _unknown(rows: Sequence[SpecDecodeRow]) -> list[Finding]:
    """The sizes at which plain decoding finished and no draft did."""
    return [
        reason("batch.unknown", batch_size=size)
        for size, baseline, others in _by_size(rows)
        if baseline.status == "ok" and all(row.status != "ok" for row in others)
    ]


def _batch_failures(rows: Sequence[SpecDecodeRow]) -> list[Finding]:
    """A batch size whose baseline failed once; else each (draft, K) that failed."""
    reasons = []
    for size, baseline, others in _by_size(rows):
        failed = [baseline] if baseline.status != "ok" else [row for row in others if row.status != "ok"]
        for row in failed:
            name = name_of(row.draft, row.k) if row.k else ""
            reasons.append(reason("batch.failed", name, batch_size=size, status=row.status, why=row.reason))
    return reasons


def _batch_lossless(rows: Sequence[SpecDecodeRow]) -> list[Finding]:
    checked = [row.lossless for row in rows if row.lossless is not None]
    if not checked:
        return []
    total, identical = sum(c.num_prompts for c in checked), sum(c.identical for c in checked)
    return [reason("batch.lossless", total=total, identical=identical)]
