"""Every figure of a result with its interval, and what steps really drafted: tables for whom charts are too
little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bitdraft.metrics.speed import request_seconds, speed_ratio, ttft_ms
from bitdraft.present.charts.style import title_of
from bitdraft.present.sweep_table import PLAIN
from bitdraft.present.table import Cell, Column, Table
from bitdraft.schema.environment import TextRecord
from bitdraft.schema.precision import PrecisionResult
from bitdraft.schema.records import Figure, Generation
from bitdraft.schema.serving import ServingResult
from bitdraft.schema.spec_decode import SpecDecodeResult

_ENDS = ("Value", "Low", "High", "n", "Median")


def _table(title: str, columns: Sequence[str | Column], rows: Sequence[Sequence[Cell]]) -> Table:
    own = [column if isinstance(column, Column) else Column(column) for column in columns]
    return Table(title, own, rows, is_folded=True)


def _figure_cells(figure: Figure) -> list[Cell]:
    return [Cell(value) for value in (figure.value, figure.low, figure.high, figure.n, figure.median)]


def precision_tables(result: PrecisionResult) -> list[Table]:
    lines = []
    for row in result.rows:
        figures = {**row.metrics, **row.quality.figures()}
        lines += [[Cell(row.precision), Cell(name), *_figure_cells(f)] for name, f in figures.items()]
    tables = [_table("Figures", ["Precision", "Figure", *_ENDS], lines)] if lines else []
    runs = {title_of(row.precision): row.runs for row in result.rows if row.runs}
    return [*tables, *_prompts(result.text, runs)]


def serving_tables(result: ServingResult) -> list[Table]:
    """Every figure of each server and load."""
    lines = [
        [Cell(row.server), Cell(row.load), Cell(name), *_figure_cells(figure)]
        for row in result.rows
        for name, figure in row.metrics.items()
    ]
    return [_table("Figures", ["Server", "Load", "Figure", *_ENDS], lines)] if lines else []


def _prompts(
    text: TextRecord, runs: Mapping[str, Sequence[Generation]], *others: tuple[str, Sequence[Cell]]
) -> list[Table]:
    """A line a prompt: tokens/s and time to first token of each run, then other columns."""
    ids = text.prompt_ids
    if not runs or any(len(own) != len(ids) for own in runs.values()):
        return []
    lines = []
    for index, (name, first) in enumerate(zip(ids, next(iter(runs.values())), strict=True)):
        cells = [Cell(str(name)), Cell(first.prompt_tokens)]
        for own in runs.values():
            run = own[index]
            cells += [Cell(len(run.token_ids) / request_seconds(run)), Cell(ttft_ms(run))]
        lines.append([*cells, *(column[index] for _, column in others)])
    speeds = [
        Column(f"{name} {what}".strip(), digits=digits)
        for name in runs
        for what, digits in (("tok/s", 1), ("TTFT ms", 2))
    ]
    columns: list[str | Column] = [
        "Prompt",
        "Tokens",
        *speeds,
        *(Column(title, digits=2) for title, _ in others),
    ]
    return [_table("Prompts", columns, lines)]


def sweep_tables(result: SpecDecodeResult) -> list[Table]:
    lines = [
        [Cell(row.batch_size), Cell(row.draft or PLAIN), Cell(row.k), Cell(name), *_figure_cells(figure)]
        for row in result.rows
        for name, figure in row.metrics.items()
    ]
    tables = [_table("Figures", ["Batch", "Draft", "K", "Figure", *_ENDS], lines)] if lines else []
    return [*tables, *_prompts_of_sweep(result), *_realised(result), *_replays(result)]


def _prompts_of_sweep(result: SpecDecodeResult) -> list[Table]:
    """Plain decoding, and what each draft's fastest K brings on each prompt alone."""
    if result.baseline is None:
        return []
    base = result.baseline.runs
    columns = []
    for draft in result.labels:
        rows = [row for row in result.sweep if row.draft == draft and row.runs]
        if not rows:
            continue
        row = max(rows, key=lambda row: row.metrics["throughput_tok_s"].value)
        speedups = [speed_ratio([run], [plain]).value for run, plain in zip(row.runs, base, strict=True)]
        columns.append((f"{draft}, K = {row.k} ×", [Cell(speedup) for speedup in speedups]))
    return _prompts(result.text, {PLAIN: base}, *columns)


def _realised(result: SpecDecodeResult) -> list[Table]:
    """How many steps drafted how many tokens: a K that isn't K is the commonest mistake."""
    lines = [
        [
            Cell(row.draft),
            Cell(row.k),
            Cell(", ".join(f"{k}: {steps}" for k, steps in row.realised_k.items())),
            Cell(row.num_truncated_steps),
        ]
        for row in result.sweep
        if row.realised_k
    ]
    titles = ["Draft", "K", "Steps by drafted tokens", "Truncated steps"]
    return [_table("Realised K", titles, lines)] if lines else []


def _replays(result: SpecDecodeResult) -> list[Table]:
    """The replay's figures for every K from 1 to 32, whatever was swept."""
    lines = [
        [Cell(draft), Cell(k), *(Cell(getattr(summary, key)) for key in _REPLAYED)]
        for draft, by_k in result.replay.items()
        for k, summary in by_k.items()
    ]
    titles = ["Draft", "K", "Tokens/step", "Acceptance rate", "Draft acceptance", "Steps"]
    return [_table("Replay of every K", titles, lines)] if lines else []


_REPLAYED = ("tokens_per_step", "acceptance_rate", "draft_acceptance", "num_steps")


_NAMES = {
    "time_utc": "time (UTC)",
    "cpu": "CPU",
    "gpu": "GPU",
    "cuda": "CUDA",
    "num_cores": "cores",
    "num_threads": "threads",
    "usable_cpus": "usable processors",
    "memory_limit_gb": "memory limit (GiB)",
    "ram_gb": "RAM (GiB)",
    "gpu_memory_gb": "GPU memory (GiB)",
    "copy_gb_s": "copy (GB/s)",
    "read_gb_s": "read (GB/s)",
    "matmul_tflop_s": "matrix product (TFLOP/s)",
    "ignore_eos": "EOS ignored",
    "num_rows": "rows of text",
    "num_parameters": "parameters",
}


def flat(record: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Names and values of a nested record; a dictionary's entries carry its name in front."""
    pairs: list[tuple[str, str]] = []
    for name, value in record.items():
        key = prefix + _NAMES.get(name, name.replace("_", " "))
        if isinstance(value, dict):
            pairs += flat(value, f"{key}: ")
        elif value is not None:
            pairs.append((key, _shown(value)))
    return pairs


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_shown(part) for part in value)
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)
