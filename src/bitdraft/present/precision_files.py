"""What a precision result leaves in a folder: JSON, CSV, Markdown and the chart; and its table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bitdraft.metrics.memory import memory_name
from bitdraft.present.charts.precision import quality_is_skipped, render
from bitdraft.present.sentences import with_sentences
from bitdraft.present.tables import Column, best_rows, csv_of, flat_figures, interval_hint, machine_line
from bitdraft.schema.io import to_json, write_atomically
from bitdraft.schema.precision import PrecisionResult, PrecisionRow

CHART_NAME = "precision_benchmark_2rows.png"


def _change_percent(delta: float) -> float:
    return 100 * math.expm1(delta)


def columns(rows: Sequence[PrecisionRow]) -> list[Column]:
    memory = memory_name(row.metrics for row in rows)
    title = "Peak VRAM (GiB)" if memory == "peak_vram_gb" else "Peak RAM (GiB)"
    speed = [
        Column("throughput_tok_s", "Throughput (tok/s)", 1, True),
        Column("tpot_ms", "TPOT (ms)", 2, False),
        Column("ttft_ms", "TTFT (ms)", 1, False),
    ]
    memory_column, mbu = Column(memory, title, 3, False), Column("mbu", "MBU", 3, True)
    if quality_is_skipped(rows):
        return [*speed, memory_column, mbu]
    return [
        *speed,
        Column("ppl", "PPL", 3, False),
        memory_column,
        Column("delta_ln_ppl", "ΔPPL (%)", 4, None, in_quality=True, transform=_change_percent),
        Column("kl_divergence", "KL (nats)", 6, None, in_quality=True),
        Column("top1_agreement", "Same top-1 (%)", 2, None, in_quality=True, transform=lambda x: 100 * x),
        mbu,
    ]


def csv_text(rows: Sequence[PrecisionRow]) -> str:
    """A line a precision: every metric and quality figure with its interval and n."""
    return csv_of([_flat(row) for row in rows])


def _flat(row: PrecisionRow) -> dict[str, Any]:
    figures = {**row.metrics, **row.quality.figures()}
    names = {"precision": row.precision, "status": row.status, "reason": row.reason}
    return names | flat_figures(figures)


def markdown_text(result: PrecisionResult) -> str:
    rows = result.rows
    shown = columns(rows)
    lines = [
        f"# Precision of {result.model.name}".replace("\n", " "),
        "",
        result.summary,
        "",
        *(f"- {reason}" for reason in result.reasons),
        *(f"- Warning: {warning}" for warning in result.warnings),
        "",
        "| Precision | Status | " + " | ".join(column.title for column in shown) + " |",
        "| --- | --- |" + " ---: |" * len(shown),
    ]
    best = [best_rows(column, rows) for column in shown]
    for index, row in enumerate(rows):
        cells = [
            f"**{column.text(row)}**" if index in indices else column.text(row)
            for column, indices in zip(shown, best, strict=True)
        ]
        lines.append(f"| {row.precision} | {row.status} | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"Best value of a column in bold; {interval_hint(shown, rows)}.",
        "",
        *_footer(result),
    ]
    return "\n".join(lines) + "\n"


def _footer(result: PrecisionResult) -> list[str]:
    environment, text = result.environment, result.text
    protocols = [row.quality.protocol for row in result.rows if row.quality.protocol is not None]
    protocol = protocols[0] if protocols else None
    lines = [
        f"Text: {text.dataset} (sha256 {text.sha256[:12]}), {len(text.prompt_ids)} prompts.",
        machine_line(environment),
    ]
    if protocol:
        lines.insert(
            1,
            f"PPL: {protocol.protocol}, window {protocol.window}, stride {protocol.stride}, "
            f"{protocol.num_scored_tokens} tokens scored, mean over {protocol.normaliser}.",
        )
    return lines


def publish(result: PrecisionResult, folder: Path | None) -> tuple[PrecisionResult, list[str]]:
    """Give the result its sentences; write precision.json, .csv, .md and the chart, each whole or not at all.
    Returns it with the names of its files."""
    found = with_sentences(result)
    if folder is None:
        return found, []
    texts = {"json": to_json(found), "csv": csv_text(found.rows), "md": markdown_text(found)}
    for ending, text in texts.items():
        write_atomically(folder / f"precision.{ending}", text)
    return found, [*(f"precision.{ending}" for ending in texts), draw(found, folder).name]


def draw(result: PrecisionResult, folder: Path) -> Path:
    """The chart, from the result alone; its path."""
    path = folder / CHART_NAME
    write_atomically(path, render(result))
    return path
