"""Several prompts at once: throughput and speedup over the batch size, and their table."""

from __future__ import annotations

from typing import Any

from bitdraft.present.page import theme
from bitdraft.present.page.model import Chart, Section, Text
from bitdraft.present.page.tables import sweep_table
from bitdraft.present.sweep_table import VERSUS_1, ByDraft, points_by_size
from bitdraft.schema.spec_decode import SpecDecodeResult

_WORDS = (
    "Each draft at its fastest K of that size. Intervals are over groups of prompts decoded at once; "
    "below five groups there is none."
)


def section(result: SpecDecodeResult) -> Section:
    charts = [chart for chart in (_throughput(result), _speedup(result)) if chart is not None]
    note = f"{VERSUS_1} ★ best speedup of a size."
    rows = sweep_table("Larger batches", result.batches, note)
    return Section("Several prompts at once", [Text(_WORDS, is_note=True), *charts, rows])


def _lines(
    result: SpecDecodeResult, drafts: ByDraft, key: str, digits: int, unit: str
) -> list[dict[str, Any]]:
    indices = {name: index for index, name in enumerate(result.labels)}
    data: list[dict[str, Any]] = []
    for name, found in drafts.items():
        there = [(size, row) for size, row in found if key in row.metrics]
        hover = [
            f"batch {size}: {name}, K = {row.k}\n{theme.figure_text(row.metrics[key], digits, unit)}"
            for size, row in there
        ]
        own, sizes = theme.style_at(indices.get(name, 0)), [size for size, _ in there]
        data += theme.banded_line(name, sizes, [row.metrics[key] for _, row in there], own, hover)
    return data


def _size_axis(sizes: list[int]) -> dict[str, Any]:
    return theme.axis("batch size, prompts decoded at once", type="log", tickvals=sizes)


def _throughput(result: SpecDecodeResult) -> Chart | None:
    if not result.baseline:
        return None
    plain, drafts = points_by_size(result)
    sizes, figures = [size for size, _ in plain], [figure for _, figure in plain]
    hover = [f"batch {size}: K = 0\n{theme.figure_text(figure, 1, 'tok/s')}" for size, figure in plain]
    data = theme.banded_line("K = 0", sizes, figures, theme.SeriesStyle(theme.INK), hover, dash="dash")
    data += _lines(result, drafts, "throughput_tok_s", 1, "tok/s")
    said = "; ".join(f"batch {size}: {figure.value:.1f}" for size, figure in plain)
    return Chart(
        "Throughput of the batch (tokens/s)",
        "higher is better",
        f"Lines of throughput over the batch size. K = 0: {said}.",
        data,
        theme.layout(_size_axis(sizes), theme.axis("tokens/s", rangemode="tozero"), 360),
        "y",
    )


def _speedup(result: SpecDecodeResult) -> Chart | None:
    if not result.baseline:
        return None
    plain, drafts = points_by_size(result)
    sizes = [size for size, _ in plain]
    data = [theme.level("no gain", sizes, 1, "1×: plain decoding at that batch size")]
    data += _lines(result, drafts, "speedup", 2, "×")
    best = [
        f"batch {size}: {max(row.metrics['speedup'].value for row in rows):.2f}"
        for size in sizes
        if (rows := [row for found in drafts.values() for at, row in found if at == size])
    ]
    return Chart(
        "Speedup (× of K = 0 at the same batch size)",
        "above 1 speculation pays; a draft's K is in its hover text",
        f"Lines of speedup over the batch size. Best: {'; '.join(best)}.",
        data,
        theme.layout(_size_axis(sizes), theme.axis("× of K = 0", rangemode="tozero"), 360),
        "y",
    )
