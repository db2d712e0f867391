"""What a spec_decode result leaves in a folder: JSON, CSV, Markdown and charts; and its table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bitdraft.drawing import hardware
from bitdraft.schema.io import to_json, write_atomically
from bitdraft.schema.results import SpecDecodeResult, SpecDecodeRow
from bitdraft.spec_decode import batch_output, chart
from bitdraft.spec_decode.anatomy import anatomy
from bitdraft.spec_decode.batch_chart import batch_chart
from bitdraft.spec_decode.batch_output import lossless_text
from bitdraft.tables import Column, best_rows, csv_of, flat_figures


def file_stem(result: SpecDecodeResult) -> str:
    """A plan, and what is synthetic, stands beside a sweep of the same text, not in its place."""
    return f"spec_decode_{'plan_' if is_plan(result) else ''}{_dataset(result)}"


def _dataset(result: SpecDecodeResult) -> str:
    """Its name as part of a file's."""
    name = re.sub(r"[^\w.-]+", "_", result.text["dataset"])
    return name if result.config.get("synthetic_acceptance") is None else f"synthetic_{name}"


def is_plan(result: SpecDecodeResult) -> bool:
    return bool(result.config["plan"])


def columns(rows: Sequence[SpecDecodeRow]) -> list[Column]:
    on_gpu = any("peak_vram_gb" in row.metrics for row in rows)
    memory = ("peak_vram_gb", "VRAM GiB") if on_gpu else ("peak_ram_gb", "RAM GiB")
    return [
        Column("throughput_tok_s", "Tok/s", 1, None),
        Column("speedup", "Speedup", 2, True),
        Column("acceptance_rate", "Accept", 3, None),
        Column("tokens_per_step", "Tok/st", 2, None),
        Column("tpot_ms", "TPOT ms", 2, None),
        Column(*memory, 2, None),
    ]


def baseline_row(result: SpecDecodeResult) -> SpecDecodeRow:
    """K = 0 in the shape of a row, for tables."""
    metrics = result.baseline.get("metrics", {})
    return SpecDecodeRow(draft="–", k=0, backend=result.config["backend"], status="ok", metrics=metrics)


def csv_text(result: SpecDecodeResult) -> str:
    """A line for K = 0 and a line a row, larger batches last: every metric with its interval and n; or a
    line a prediction."""
    if is_plan(result):
        lines = [
            {"draft": d, "k": k} | point
            for d, entry in result.plan.items()
            for k, point in entry["by_k"].items()
        ]
    else:
        lines = [_flat(row) for row in (baseline_row(result), *result.rows)]
        lines += map(batch_output.flat, result.batches)
    acceptance = result.config.get("synthetic_acceptance")
    if acceptance is not None:
        lines = [{"synthetic_acceptance": acceptance} | line for line in lines]
    return csv_of(lines)


def _flat(row: SpecDecodeRow) -> dict[str, Any]:
    names: dict[str, Any] = {"draft": row.draft, "k": row.k, "batch_size": 1}
    names |= {name: getattr(row, name) for name in ("backend", "status", "reason")}
    figures = flat_figures({name: figure.model_dump() for name, figure in row.metrics.items()})
    predicted = {f"predicted_{key}": row.predicted.get(key) for key in ("leviathan", "replay")}
    return names | figures | {"lossless": lossless_text(row)} | predicted


def markdown_text(result: SpecDecodeResult) -> str:
    lines = [
        f"# Speculative decoding of {chart.subject(result)}".replace("\n", " "),
        "",
        str(result.verdict.get("summary", "")),
        "",
        *(f"- {reason}" for reason in result.verdict.get("reasons", [])),
        *(f"- Warning: {warning}" for warning in result.warnings),
        "",
        *(_plan_lines(result) if is_plan(result) else _table_lines(result)),
        *batch_output.table_lines(result.batches),
        "",
        f"Text: {result.text['dataset']} (sha256 {result.text['sha256'][:12]}), "
        f"{len(result.text['prompt_ids'])} prompts, {chart.new_tokens(result.config)} new tokens each. "
        f"Run by the {chart.how_run(result)}.",
    ]
    environment = result.environment
    if environment:
        lines.append(
            f"Machine: {hardware(environment)}, torch {environment['torch']}, transformers "
            f"{environment['transformers']}, {environment['time_utc']}."
        )
    return "\n".join(lines) + "\n"


def _table_lines(result: SpecDecodeResult) -> list[str]:
    rows = [baseline_row(result), *result.rows]
    shown = columns(rows)
    best = [best_rows(column, rows) for column in shown]
    lines = [
        "| Draft | K | Status | " + " | ".join(column.title for column in shown) + " | Same ids as K = 0 |",
        "| --- | ---: | --- |" + " ---: |" * (len(shown) + 1),
    ]
    for place, row in enumerate(rows):
        cells = [
            f"**{column.text(row)}**" if place in places else column.text(row)
            for column, places in zip(shown, best, strict=True)
        ]
        cells.append(lossless_text(row) if row.k else "")
        draft = row.draft.replace("|", "\\|")
        lines.append(f"| {draft} | {row.k} | {row.status} | " + " | ".join(cells) + " |")
    return [*lines, "", "Best value of a column in bold; 95 % bootstrap intervals in brackets."]


def _plan_lines(result: SpecDecodeResult) -> list[str]:
    lines = [
        "| Draft | K | Predicted speedup | Leviathan, without prefills | Tokens/step |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for draft, entry in result.plan.items():
        for k, point in entry["by_k"].items():
            mark = "**" if int(k) == entry["best_k"]["replay"] else ""
            lines.append(
                f"| {draft} | {k} | {mark}{point['replay_end_to_end']:.2f}{mark} | {leviathan_text(point)} | "
                f"{point['tokens_per_step']:.2f} |"
            )
    return lines


def leviathan_text(point: dict[str, Any]) -> str:
    return "–" if point["leviathan"] is None else f"{point['leviathan']:.2f}"


def save(result: SpecDecodeResult, folder: Path) -> None:
    """Write the JSON, CSV, Markdown and the charts, each whole or not at all."""
    stem = file_stem(result)
    write_atomically(folder / f"{stem}.json", to_json(result))
    write_atomically(folder / f"{stem}.csv", csv_text(result))
    write_atomically(folder / f"{stem}.md", markdown_text(result))
    draw(result, folder)


def draw(result: SpecDecodeResult, folder: Path) -> list[Path]:
    """The charts of a result; none where nothing was measured."""
    name = _dataset(result)
    pictures = {}
    if result.plan:
        pictures[f"speculation_plan_{name}.png"] = chart.plan
    if result.baseline:
        pictures[f"speculative_comparison_{name}.png"] = chart.comparison
        pictures[f"speculation_anatomy_{name}.png"] = anatomy
    if any(row.status == "ok" for row in result.batches):
        pictures[f"speculation_batches_{name}.png"] = batch_chart
    rendered = {file_name: render(result) for file_name, render in pictures.items()}
    for file_name, picture in rendered.items():
        write_atomically(folder / file_name, picture)
    return [folder / file_name for file_name in pictures]
