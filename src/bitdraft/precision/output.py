"""What a precision result leaves in a folder: JSON, CSV, Markdown and the chart; and its table."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitdraft.precision.chart import render
from bitdraft.precision.verdict import memory_name
from bitdraft.results import Figure, PrecisionResult, PrecisionRow, to_json, write_atomically

CHART_NAME = "precision_benchmark_2rows.png"


@dataclass(frozen=True)
class Column:
    """A table column: where its figure is, how it is shown, and whether more or less is better."""

    key: str
    title: str
    digits: int
    higher_is_better: bool | None
    in_quality: bool = False
    transform: Callable[[float], float] = float

    def figure(self, row: PrecisionRow) -> Figure | None:
        found = row.quality.get(self.key) if self.in_quality else row.metrics.get(self.key)
        return Figure.model_validate(found) if found is not None else None

    def value_text(self, row: PrecisionRow) -> str:
        figure = self.figure(row)
        return "–" if figure is None else f"{self.transform(figure.value):.{self.digits}f}"

    def interval_text(self, row: PrecisionRow) -> str:
        """`[low, high]`, or nothing where a figure has no interval."""
        figure = self.figure(row)
        if figure is None or figure.low is None or figure.high is None:
            return ""
        low, high = self.transform(figure.low), self.transform(figure.high)
        return f"[{low:.{self.digits}f}, {high:.{self.digits}f}]"

    def text(self, row: PrecisionRow) -> str:
        return f"{self.value_text(row)} {self.interval_text(row)}".rstrip()


def _change_percent(delta: float) -> float:
    return 100 * math.expm1(delta)


def columns(rows: Sequence[PrecisionRow]) -> list[Column]:
    memory = memory_name(rows)
    title = "Peak VRAM (GiB)" if memory == "peak_vram_gb" else "Peak RAM (GiB)"
    return [
        Column("throughput_tok_s", "Throughput (tok/s)", 1, True),
        Column("tpot_ms", "TPOT (ms)", 2, False),
        Column("ttft_ms", "TTFT (ms)", 1, False),
        Column("ppl", "PPL", 3, False),
        Column(memory, title, 3, False),
        Column("delta_ln_ppl", "ΔPPL (%)", 4, None, in_quality=True, transform=_change_percent),
        Column("kl_divergence", "KL (nats)", 6, None, in_quality=True),
        Column("top1_agreement", "Same top-1 (%)", 2, None, in_quality=True, transform=lambda x: 100 * x),
        Column("mbu", "MBU", 3, True),
    ]


def best_rows(column: Column, rows: Sequence[PrecisionRow]) -> set[str]:
    """The precisions that hold a column's best value; none where there is nothing to compare."""
    values = {row.precision: f.value for row in rows if (f := column.figure(row)) and row.status == "ok"}
    if column.higher_is_better is None or len(values) < 2:
        return set()
    best = max(values.values()) if column.higher_is_better else min(values.values())
    return {name for name, value in values.items() if value == best}


def csv_text(rows: Sequence[PrecisionRow]) -> str:
    """A line a precision: every metric and quality figure with its interval and n."""
    records = [_flat(row) for row in rows]
    names = list(dict.fromkeys(name for record in records for name in record))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return buffer.getvalue()


def _flat(row: PrecisionRow) -> dict[str, Any]:
    record: dict[str, Any] = {"precision": row.precision, "status": row.status, "reason": row.reason}
    figures: dict[str, Any] = {name: figure.model_dump() for name, figure in row.metrics.items()}
    figures |= {
        name: value for name, value in row.quality.items() if isinstance(value, dict) and "value" in value
    }
    for name, figure in figures.items():
        record[name] = figure["value"]
        record |= {f"{name}_{end}": figure[end] for end in ("low", "high", "n")}
    return record


def markdown_text(result: PrecisionResult) -> str:
    rows = result.rows
    shown = columns(rows)
    lines = [
        f"# Precision of {result.model['name']}".replace("\n", " "),
        "",
        str(result.verdict.get("summary", "")),
        "",
        *(f"- {reason}" for reason in result.verdict.get("reasons", [])),
        *(f"- Warning: {warning}" for warning in result.warnings),
        "",
        "| Precision | Status | " + " | ".join(column.title for column in shown) + " |",
        "| --- | --- |" + " ---: |" * len(shown),
    ]
    best = [best_rows(column, rows) for column in shown]
    for row in rows:
        cells = [
            f"**{column.text(row)}**" if row.precision in names else column.text(row)
            for column, names in zip(shown, best, strict=True)
        ]
        lines.append(f"| {row.precision} | {row.status} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "Best value of a column in bold; 95 % bootstrap intervals in brackets.",
        "",
        *_footer(result),
    ]
    return "\n".join(lines) + "\n"


def _footer(result: PrecisionResult) -> list[str]:
    environment, text = result.environment, result.text
    protocol = next((row.quality["protocol"] for row in result.rows if "protocol" in row.quality), None)
    lines = [
        f"Text: {text['dataset']} (sha256 {text['sha256'][:12]}), {len(text['prompt_ids'])} prompts.",
        f"Machine: {environment.get('gpu') or environment['cpu']}, torch {environment['torch']}, "
        f"transformers {environment['transformers']}, {environment['time_utc']}.",
    ]
    if protocol:
        lines.insert(
            1,
            f"PPL: {protocol['protocol']}, window {protocol['window']}, stride {protocol['stride']}, "
            f"{protocol['num_scored_tokens']} tokens scored, mean over {protocol['normaliser']}.",
        )
    return lines


def save(result: PrecisionResult, folder: Path) -> None:
    """Write precision.json, .csv, .md and the chart, each whole or not at all."""
    write_atomically(folder / "precision.json", to_json(result))
    write_atomically(folder / "precision.csv", csv_text(result.rows))
    write_atomically(folder / "precision.md", markdown_text(result))
    draw(result, folder)


def draw(result: PrecisionResult, folder: Path) -> Path:
    path = folder / CHART_NAME
    write_atomically(path, render(result))
    return path
