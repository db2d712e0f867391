"""The table of larger batches, and their lines of the CSV."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from bitdraft.present.tables import NO_DRAFT, Column, best_rows
from bitdraft.schema.records import Figure
from bitdraft.schema.results import SpecDecodeResult, SpecDecodeRow

# K = 0, and a draft's fastest row at each batch size
Plain = list[tuple[int, Figure]]
ByDraft = dict[str, list[tuple[int, SpecDecodeRow]]]
COLUMNS = (
    Column("throughput_tok_s", "Tok/s", 1, None),
    Column("speedup", "Speedup", 2, True),
    Column("over_batch_1", "vs. 1", 2, None),
    Column("acceptance_rate", "Accept", 3, None),
    Column("tokens_per_step", "Tok/st", 2, None),
    Column("tpot_ms", "TPOT ms", 2, None),
)


def lossless_text(row: SpecDecodeRow) -> str:
    """How many of the runs have the token ids of K = 0 at batch 1."""
    if row.lossless is None:
        return "sampled" if row.status == "ok" else ""
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
    """For charts, by batch size: K = 0's throughput, and each draft's fastest K. Batch 1 is from the sweep;
    what failed is left out."""
    assert result.baseline is not None
    plain = [(1, result.baseline.metrics["throughput_tok_s"])]
    drafts: ByDraft = {}
    for name in result.labels:
        rows = [row for row in result.sweep if row.draft == name and row.status == "ok"]
        if rows:
            drafts[name] = [(1, max(rows, key=lambda row: row.metrics["throughput_tok_s"].value))]
    for row in fastest(result.batches):
        if row.status == "ok" and row.k == 0:
            plain.append((row.batch_size, row.metrics["throughput_tok_s"]))
        elif row.status == "ok":
            drafts.setdefault(str(row.draft), []).append((row.batch_size, row))
    return plain, drafts


def table_lines(rows: Sequence[SpecDecodeRow]) -> list[str]:
    """Markdown; nothing without rows."""
    if not rows:
        return []
    titles = " | ".join(column.title for column in COLUMNS)
    lines = [
        "",
        "## Several prompts at once",
        "",
        f"| Batch | Draft | K | Status | {titles} | Same ids as K = 0 at batch 1 |",
        "| ---: | --- | ---: | --- |" + " ---: |" * (len(COLUMNS) + 1),
    ]
    for size, group in groupby(rows, key=lambda row: row.batch_size):
        own = list(group)
        best = [best_rows(column, own) for column in COLUMNS]
        for place, row in enumerate(own):
            cells = [
                f"**{column.text(row)}**" if place in places else column.text(row)
                for column, places in zip(COLUMNS, best, strict=True)
            ]
            draft = (row.draft or NO_DRAFT).replace("|", "\\|")
            values = " | ".join([*cells, lossless_text(row)])
            lines.append(f"| {size} | {draft} | {row.k} | {row.status} | {values} |")
    return [*lines, "", "vs. 1: tokens/s over those of the same (draft, K) at batch 1 on the same prompts."]
