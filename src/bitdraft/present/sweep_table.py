"""The rows of a sweep as tables: K = 0 and every (draft, K), at one prompt or at several at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from bitdraft.metrics.memory import memory_name
from bitdraft.present.charts.sweep import chosen
from bitdraft.present.table import Cell, Column, Mark, Table, best_of
from bitdraft.schema.records import Figure
from bitdraft.schema.spec_decode import SpecDecodeResult, SpecDecodeRow

VERSUS_1 = "vs. 1: tokens/s over those of the same (draft, K) at batch 1 on the same prompts."
PLAIN = "plain decoding"
Plain = list[tuple[int, Figure]]
"""K = 0's throughput by batch size"""
ByDraft = dict[str, list[tuple[int, SpecDecodeRow]]]
"""A draft's fastest row by batch size"""


def columns_of(rows: Sequence[SpecDecodeRow]) -> list[Column]:
    """Those that the rows have figures for."""
    memory = memory_name(row.metrics for row in rows)
    possible = [
        Column(
            "Tok/s", "throughput_tok_s", 1, hint="New tokens over seconds of a request, pooled over prompts."
        ),
        Column(
            "Speedup",
            "speedup",
            2,
            hint="Tokens/s over plain decoding's, measured in turn, paired by prompt.",
        ),
        Column("vs. 1", "over_batch_1", 2, hint=VERSUS_1, rank=1),
        Column("Accept", "acceptance_rate", 3, hint="Acceptance rate: (tokens per step - 1) / K.", rank=1),
        Column(
            "Tok/step", "tokens_per_step", 2, hint="Acceptance length: tokens that a step brings.", rank=2
        ),
        Column("TPOT ms", "tpot_ms", 2, hint="Time per output token after the first.", rank=3),
        Column("VRAM GiB" if memory == "peak_vram_gb" else "RAM GiB", memory, 2, hint="Peak memory.", rank=4),
    ]
    # memory is measured at batch 1
    missing = memory if any(row.batch_size > 1 for row in rows) else "over_batch_1"
    return [c for c in possible if c.key != missing and any(c.key in row.metrics for row in rows)]


def sweep_table(result: SpecDecodeResult, rows: Sequence[SpecDecodeRow], title: str) -> Table:
    """Plain decoding and every (draft, K) of these rows, with a column of batch sizes where there are larger
    ones. The speedups that are recommended or tied with that are marked; at larger batches the best."""
    shown, of_batches = columns_of(rows), any(row.batch_size > 1 for row in rows)
    has_failed = any(row.status != "ok" for row in rows)
    starred = _best_of_batches(rows) if of_batches else chosen(result)
    lines, groups = [], set()
    for index, row in enumerate(rows):
        if index and _part(row) != _part(rows[index - 1]):
            groups.add(index)
        names = [Cell(row.batch_size)] if of_batches else []
        names += [Cell(row.draft or PLAIN), Cell(row.k)]
        if has_failed:
            names += [Cell(row.status, "" if row.status == "ok" else "bad"), Cell(row.reason)]
        key = (row.batch_size, row.draft, row.k) if of_batches else (row.draft, row.k)
        cells = [Cell(row.metrics.get(c.key), _mark(c.key, row, key in starred)) for c in shown]
        lines.append([*names, *cells, Cell(lossless_text(row))])
    first = [Column("Batch", "batch_size")] if of_batches else []
    first += [Column("Draft", "draft"), Column("K", "k")]
    first += [Column("Status", "status"), Column("Reason", "reason", rank=9)] if has_failed else []
    same = (
        f"Of how many prompts the token ids are those of plain decoding{' at batch 1' if of_batches else ''}."
    )
    return Table(
        title,
        [*first, *shown, Column("Same ids", "same_ids", hint=same, rank=2)],
        lines,
        groups=frozenset(groups),
    )


def _part(row: SpecDecodeRow) -> object:
    return row.batch_size if row.batch_size > 1 else (row.batch_size, row.draft)


def _mark(key: str, row: SpecDecodeRow, is_starred: bool) -> Mark:
    if key != "speedup":
        return ""
    if is_starred:
        return "best"
    figure = row.metrics.get(key)
    return "bad" if figure is not None and figure.high is not None and figure.high < 1 else ""


def _best_of_batches(rows: Sequence[SpecDecodeRow]) -> set[tuple[int, str | None, int]]:
    found = set()
    for size, group in groupby(rows, key=lambda row: row.batch_size):
        own = list(group)
        for index in best_of([row.metrics.get("speedup") for row in own], higher_is_better=True):
            found.add((size, own[index].draft, own[index].k))
    return found


def plan_table(result: SpecDecodeResult) -> Table:
    """A row a draft and K: what is predicted. The best K of a draft is marked."""
    rows: list[list[Cell]] = []
    groups = set()
    for draft, entry in result.plan.items():
        groups.add(len(rows))
        for k, point in entry.by_k.items():
            mark: Mark = "best" if k == entry.best_k.replay else ""
            values = (point.leviathan, point.tokens_per_step)
            rows.append([Cell(draft), Cell(k), Cell(point.replay_end_to_end, mark), *map(Cell, values)])
    columns = [
        Column("Draft", "draft"),
        Column("K", "k"),
        Column(
            "Predicted speedup",
            "replay_end_to_end",
            2,
            hint="By replay and measured costs, prefills included.",
        ),
        Column(
            "Leviathan",
            "leviathan",
            2,
            hint="By the formula of Leviathan et al. (2023), without prefills.",
            rank=2,
        ),
        Column(
            "Tok/step", "tokens_per_step", 2, hint="Acceptance length: tokens that a step brings.", rank=1
        ),
    ]
    return Table("The plan", columns, rows, groups=frozenset(groups - {0}))


def best_rows(result: SpecDecodeResult) -> list[SpecDecodeRow]:
    """Plain decoding, and of each draft what is recommended or tied with it, else its fastest K: what a
    terminal has room for."""
    starred = chosen(result)
    found = []
    for row in fastest([row for row in result.rows if row.batch_size == 1]):
        own = [r for r in result.sweep if r.draft == row.draft and (r.draft, r.k) in starred]
        found += own if row.k and own else [row]
    return found


def lossless_text(row: SpecDecodeRow) -> str:
    """How many of the runs have the token ids of plain decoding at batch 1; nothing of plain decoding itself,
    which the others are compared with, nor of samples, which differ by chance."""
    if row.lossless is None or (row.k == 0 and row.batch_size == 1):
        return ""
    return f"{row.lossless.identical}/{row.lossless.num_prompts}"


def fastest(rows: Sequence[SpecDecodeRow]) -> list[SpecDecodeRow]:
    """At each batch size K = 0, and of each draft the K with the highest throughput; a draft without any
    that finished by its first K."""
    found = []
    for _, group in groupby(rows, key=lambda row: (row.batch_size, row.draft)):
        own = list(group)
        finished = [row for row in own if row.status == "ok"]
        found.append(max(finished, key=lambda row: row.metrics["throughput_tok_s"].value, default=own[0]))
    return found


def points_by_size(result: SpecDecodeResult) -> tuple[Plain, ByDraft]:
    """For charts, by batch size: K = 0's throughput, and each draft's fastest K. What failed is left out."""
    plain: Plain = []
    drafts: ByDraft = {}
    for row in fastest(result.rows):
        if row.status == "ok" and row.k == 0:
            plain.append((row.batch_size, row.metrics["throughput_tok_s"]))
        elif row.status == "ok":
            drafts.setdefault(str(row.draft), []).append((row.batch_size, row))
    return plain, {name: drafts[name] for name in result.labels if name in drafts}
