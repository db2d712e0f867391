"""The table of larger batches, and their lines of the CSV."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from bitdraft.schema.records import Figure
from bitdraft.schema.results import BatchRow, SpecDecodeResult, SpecDecodeRow
from bitdraft.tables import Column, best_rows, flat_figures

# K = 0, and a draft's fastest row at each batch size
Plain = list[tuple[int, Figure]]
ByDraft = dict[str, list[tuple[int, SpecDecodeRow | BatchRow]]]
COLUMNS = (
    Column("throughput_tok_s", "Tok/s", 1, None),
    Column("speedup", "Speedup", 2, True),
    Column("over_batch_1", "vs. 1", 2, None),
    Column("acceptance_rate", "Accept", 3, None),
    Column("tokens_per_step", "Tok/st", 2, None),
    Column("tpot_ms", "TPOT ms", 2, None),
)


def lossless_text(row: SpecDecodeRow | BatchRow) -> str:
    """How many of the runs have the token ids of K = 0 at batch 1."""
    if row.lossless is None:
        return "sampled" if row.status == "ok" else ""
    return f"{row.lossless['identical']}/{row.lossless['num_prompts']}"


def fastest(rows: Sequence[BatchRow]) -> list[BatchRow]:
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
    plain = [(1, Figure.model_validate(result.baseline["metrics"]["throughput_tok_s"]))]
    drafts: ByDraft = {}
    for name in dict.fromkeys(row.draft for row in result.rows):
        rows = [row for row in result.rows if row.draft == name and row.status == "ok"]
        if rows:
            drafts[name] = [(1, max(rows, key=lambda row: row.metrics["throughput_tok_s"].value))]
    for row in fastest(result.batches):
        if row.status == "ok" and row.k == 0:
            plain.append((row.batch_size, row.metrics["throughput_tok_s"]))
        elif row.status == "ok":
            drafts.setdefault(row.draft, []).append((row.batch_size, row))
    return plain, drafts


def flat(row: BatchRow) -> dict[str, Any]:
    names = {"draft": row.draft, "k": row.k, "status": row.status, "reason": row.reason}
    figures = flat_figures({name: figure.model_dump() for name, figure in row.metrics.items()})
    # only the native backend decodes several prompts at once
    own = {"backend": "native", "batch_size": row.batch_size, "lossless": lossless_text(row)}
    return names | figures | own


def table_lines(rows: Sequence[BatchRow]) -> list[str]:
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
            draft = row.draft.replace("|", "\\|")
            values = " | ".join([*cells, lossless_text(row)])
            lines.append(f"| {size} | {draft} | {row.k} | {row.status} | {values} |")
    return [*lines, "", "vs. 1: tokens/s over those of the same (draft, K) at batch 1 on the same prompts."]
