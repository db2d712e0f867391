"""The rows of a sweep as a table: K = 0 and every (draft, K), at one prompt or at several at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from bitdraft.metrics.memory import memory_name
from bitdraft.present.tables import NO_DRAFT, Column, best_rows
from bitdraft.schema.records import Figure
from bitdraft.schema.spec_decode import SpecDecodeResult, SpecDecodeRow

VERSUS_1 = "vs. 1: tokens/s over those of the same (draft, K) at batch 1 on the same prompts."
Plain = list[tuple[int, Figure]]
"""K = 0's throughput by batch size"""
ByDraft = dict[str, list[tuple[int, SpecDecodeRow]]]
"""A draft's fastest row by batch size"""


@dataclass(frozen=True)
class TableRow:
    """A row beside those that it is compared with: `best` are the columns whose best value it has."""

    row: SpecDecodeRow
    best: frozenset[str]

    @property
    def draft(self) -> str:
        """The baseline's is a dash."""
        return self.row.draft or NO_DRAFT

    @property
    def lossless(self) -> str:
        """Nothing for the baseline, which the others are compared with."""
        return lossless_text(self.row) if self.row.k or self.row.batch_size > 1 else ""


def columns(rows: Sequence[SpecDecodeRow]) -> list[Column]:
    """Those that the rows have figures for."""
    name = memory_name(row.metrics for row in rows)
    possible = [
        Column("throughput_tok_s", "Tok/s", 1, None),
        Column("speedup", "Speedup", 2, True),
        Column("over_batch_1", "vs. 1", 2, None),
        Column("acceptance_rate", "Accept", 3, None),
        Column("tokens_per_step", "Tok/st", 2, None),
        Column("tpot_ms", "TPOT ms", 2, None),
        Column(name, "VRAM GiB" if name == "peak_vram_gb" else "RAM GiB", 2, None),
    ]
    of_batches = any(row.batch_size > 1 for row in rows)
    # memory is measured at batch 1
    return [column for column in possible if column.key != (name if of_batches else "over_batch_1")]


def lossless_text(row: SpecDecodeRow) -> str:
    """How many of the runs have the token ids of K = 0 at batch 1."""
    if row.lossless is None:
        return "sampled" if row.status == "ok" else ""
    return f"{row.lossless.identical}/{row.lossless.num_prompts}"


def table_rows(rows: Sequence[SpecDecodeRow], shown: Sequence[Column]) -> list[TableRow]:
    """Each is compared with those of its batch size."""
    found = []
    for _, group in groupby(rows, key=lambda row: row.batch_size):
        own = list(group)
        best = {column.key: best_rows(column, own) for column in shown}
        for index, row in enumerate(own):
            keys = frozenset(key for key, indices in best.items() if index in indices)
            found.append(TableRow(row, keys))
    return found


def markdown_lines(rows: Sequence[SpecDecodeRow]) -> list[str]:
    """With a column of batch sizes where there are larger ones."""
    shown, of_batches = columns(rows), any(row.batch_size > 1 for row in rows)
    titles = ["Draft", "K", "Status", *(column.title for column in shown), same_ids_title(of_batches)]
    rules = ["---", "---:", "---", *["---:"] * (len(shown) + 1)]
    if of_batches:
        titles, rules = ["Batch", *titles], ["---:", *rules]
    lines = [_markdown(titles), _markdown(rules)]
    for found in table_rows(rows, shown):
        row = found.row
        cells = [found.draft.replace("|", "\\|"), str(row.k), row.status]
        for column in shown:
            text = column.text(row)
            cells.append(f"**{text}**" if column.key in found.best else text)
        lines.append(_markdown([*([str(row.batch_size)] if of_batches else []), *cells, found.lossless]))
    return lines


def _markdown(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def same_ids_title(of_batches: bool) -> str:
    """Of the column that says how many texts are those of plain decoding."""
    return "Same ids as K = 0" + (" at batch 1" if of_batches else "")


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
