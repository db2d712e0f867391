"""The section of a precision result: five metrics, quality differences with intervals, the trade-off."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bitdraft.metrics.memory import memory_name
from bitdraft.present.charts.precision import NOT_MEASURED, in_percent, quality_is_skipped, title_of
from bitdraft.present.page import theme
from bitdraft.present.page.model import Block, Cell, Chart, Section, Text
from bitdraft.present.page.tables import figure_cells, plain_figure_cell, table
from bitdraft.present.precision_files import columns
from bitdraft.present.words import times_text
from bitdraft.schema.precision import PrecisionComparison, PrecisionResult, PrecisionRow
from bitdraft.schema.records import Figure


def section(result: PrecisionResult, title: str) -> Section:
    rows = result.rows
    blocks: list[Block] = [Text(_how(result), is_note=True), *metric_charts(result), _table(rows)]
    quality = quality_charts(result)
    parts = []
    if quality or not quality_is_skipped(rows):
        parts.append(Section("Quality against the reference", [*_quality_words(result, quality), *quality]))
    trade_off, compared = trade_off_chart(result), _comparison(result)
    if trade_off is not None or compared:
        parts.append(Section("Trade-off", [*([trade_off] if trade_off else []), *compared]))
    return Section(title, blocks, parts)


def _how(result: PrecisionResult) -> str:
    config = result.config
    if quality_is_skipped(result.rows):
        quality = f"{NOT_MEASURED}."
    else:
        quality = f"Perplexity by the protocol {config.ppl_protocol}."
    return (
        f"{len(result.text.prompt_ids)} prompts × {config.max_new_tokens} new tokens, one at a time, "
        f"greedy, {config.backend} backend, each precision in a process of its own. {quality} "
        "Bars of uncertainty are 95 % intervals over prompts (perplexity: over blocks of text)."
    )


@dataclass(frozen=True)
class Panel:
    """A metric or a difference as a chart shows it."""

    key: str
    title: str
    unit: str
    caption: str
    digits: int
    log_axis: str = ""

    @property
    def heading(self) -> str:
        return f"{self.title}{f' ({self.unit})' if self.unit else ''}"


def metric_charts(result: PrecisionResult) -> list[Chart]:
    """One chart a metric, a bar a precision; a precision without the metric says why."""
    rows, memory = result.rows, memory_name(row.metrics for row in result.rows)
    ppl = "lower is better; the intervals are the text's spread"
    panels = [
        Panel("throughput_tok_s", "Throughput", "tokens/s", "higher is better", 1),
        Panel("tpot_ms", "TPOT, time per output token", "ms", "lower is better", 2),
        Panel("ttft_ms", "TTFT, time to first token", "ms", "lower is better", 1),
        Panel("ppl", "PPL, perplexity", "", ppl, 3),
        Panel(memory, "Peak VRAM" if memory == "peak_vram_gb" else "Peak RAM", "GiB", "lower is better", 3),
    ]
    skipped = quality_is_skipped(rows)
    return [_bars(rows, panel) for panel in panels if not (skipped and panel.key == "ppl")]


def _bars(rows: Sequence[PrecisionRow], panel: Panel) -> Chart:
    figures = [row.metrics.get(panel.key) for row in rows]
    texts = [
        f"{title_of(row.precision)} "
        + (_why(row) if figure is None else theme.figure_text(figure, panel.digits, panel.unit))
        for row, figure in zip(rows, figures, strict=True)
    ]
    ticks = [
        theme.escaped(title_of(row.precision)) + (f"<br>{figure.value:.{panel.digits}f}" if figure else "")
        for row, figure in zip(rows, figures, strict=True)
    ]
    indices = list(range(len(rows)))
    data = []
    for index, (row, figure) in enumerate(zip(rows, figures, strict=True)):
        if figure is not None:
            own, hover = theme.style_of_precision(row.precision), [texts[index]]
            bar = theme.bars([index], [figure.value], own, hover, width=0.62, showlegend=False)
            data.append(bar | {"error_y": theme.spread([figure])})
    x = theme.axis("", tickvals=indices, ticktext=ticks, range=[-0.6, len(rows) - 0.4])
    missing = [_missing(index, row) for index, row in enumerate(rows) if figures[index] is None]
    return Chart(
        panel.heading,
        panel.caption,
        f"Bar chart of {panel.title}: {'; '.join(texts)}.",
        data,
        theme.layout(x, theme.axis("", rangemode="tozero"), 280, annotations=missing, barmode="overlay"),
        is_small=True,
    )


def _why(row: PrecisionRow) -> str:
    return "not measured" if row.status == "ok" else row.status


def _missing(index: int, row: PrecisionRow) -> dict[str, Any]:
    return {
        "x": index,
        "y": 0.04,
        "yref": "paper",
        "yanchor": "bottom",
        "text": _why(row),
        "textangle": -90,
        "showarrow": False,
        "font": {"color": theme.MUTED if row.status == "ok" else theme.BAD},
    }


def _table(rows: Sequence[PrecisionRow]) -> Block:
    shown = columns(rows)
    lines = [
        [
            Cell(row.precision),
            Cell(row.status if row.reason is None else f"{row.status}: {row.reason}"),
            *cells,
        ]
        for row, cells in zip(rows, figure_cells(shown, rows), strict=True)
    ]
    titles = ["Precision", "Status", *(column.title for column in shown)]
    note = "★ best value of a column; in brackets the 95 % interval."
    return table("All metrics", titles, lines, note=note)


def _quality_words(result: PrecisionResult, charts: Sequence[Chart]) -> list[Block]:
    if not charts:
        return [
            Text("Differences need the reference and a second precision, both with scores.", is_note=True)
        ]
    return [
        Text(
            "Paired with the reference on the same tokens. Perplexities' own intervals are the spread of the "
            "text and overlap even where the precisions differ; these differences can tell them apart.",
            is_note=True,
        )
    ]


def quality_charts(result: PrecisionResult) -> list[Chart]:
    """A chart a difference, a point a precision; those that nothing was paired for are left out."""
    limit = 100 * (result.verdict.max_ppl_increase or 0.0)
    tolerated = f"against the reference; the verdict tolerates an upper end of +{limit:g} %"
    close = "lower is closer to the reference"
    moved = "Change of the true token's probability, RMS"
    panels = [
        Panel("delta_ln_ppl", "Change of perplexity", "%", tolerated, 4),
        Panel("kl_divergence", "KL divergence from the reference", "nats", close, 6, "x"),
        Panel("top1_agreement", "Same most probable token", "%", "higher is closer to the reference", 2),
        Panel("delta_p_rms", moved, "%", close, 4, "x"),
    ]
    found = [_differences(result, panel) for panel in panels]
    return [chart for chart in found if chart is not None]


def shown_figure(key: str, figure: Figure) -> Figure:
    """In the unit that is shown: percent, but for nats."""

    def shown(value: float | None) -> float | None:
        if value is None:
            return None
        if key == "delta_ln_ppl":
            return 100 * math.expm1(value)
        return value if key == "kl_divergence" else 100 * value

    ends = {name: shown(getattr(figure, name)) for name in ("value", "low", "high")}
    return Figure.model_validate(ends | {"n": figure.n})


def _differences(result: PrecisionResult, panel: Panel) -> Chart | None:
    key = panel.key
    rows = [row for row in result.rows if key in row.quality.figures()]
    if not rows:
        return None
    figures = [shown_figure(key, row.quality.figures()[key]) for row in rows]
    names = [title_of(row.precision) for row in rows]
    texts = [
        f"{name} {theme.figure_text(figure, panel.digits, panel.unit)}"
        for name, figure in zip(names, figures, strict=True)
    ]
    data = []
    for index, (row, figure) in enumerate(zip(rows, figures, strict=True)):
        own, hover = theme.style_of_precision(row.precision), [texts[index]]
        point = theme.line(
            names[index], [figure.value], [index], own, hover, mode="markers", showlegend=False
        )
        data.append(point | {"error_x": theme.spread([figure])})
    labels = [theme.escaped(name) for name in names]
    y = theme.axis("", tickvals=list(range(len(rows))), ticktext=labels, range=[-0.7, len(rows) - 0.3])
    x = theme.axis(panel.unit, zeroline=not panel.log_axis, nticks=4, tickangle=0)
    lines = _limit(result, figures) if key == "delta_ln_ppl" else []
    return Chart(
        panel.heading,
        panel.caption,
        f"Points with intervals, {panel.title}: {'; '.join(texts)}.",
        data,
        theme.layout(x, y, 130 + 42 * len(rows), shapes=lines),
        panel.log_axis,
        is_small=True,
    )


def _limit(result: PrecisionResult, figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """A line at the limit, unless it is so far out that the points would shrink to nothing."""
    limit = 100 * (result.verdict.max_ppl_increase or 0.0)
    reach = max(abs(end) for f in figures for end in (f.value, f.low, f.high) if end is not None)
    if not limit or limit > 8 * reach:
        return []
    line = {"color": theme.BAD, "width": 1.5, "dash": "dash"}
    return [{"type": "line", "x0": limit, "x1": limit, "y0": 0, "y1": 1, "yref": "paper", "line": line}]


def trade_off_chart(result: PrecisionResult) -> Chart | None:
    """Speed against quality loss relative to the reference; the area of a point is its memory."""
    comparisons = result.verdict.comparisons
    rows = [row for row in result.rows if row.status == "ok"]
    if quality_is_skipped(rows) or not comparisons or len(rows) < 2:
        return None
    reference, memory = comparisons[0].reference, memory_name(row.metrics for row in rows)
    compared = {entry.precision: entry for entry in comparisons}
    largest = max(row.metrics[memory].value for row in rows)
    points = [_trade(row, compared.get(row.precision), memory, largest) for row in rows]
    said = "; ".join(text for _, text in points)
    x = theme.axis(f"PPL change against {reference} (%)", zeroline=True)
    return Chart(
        "Speed, quality and memory",
        f"against {reference}: up is faster, left is better text, a smaller area is less memory",
        f"Scatter of speed over change of perplexity: {said}.",
        [point for point, _ in points],
        theme.layout(x, theme.axis("Speed relative to it (×)"), 380),
        is_wide=True,
    )


def _trade(
    row: PrecisionRow, entry: PrecisionComparison | None, memory: str, largest: float
) -> tuple[dict[str, Any], str]:
    """A point, and what it says in words."""
    speed = entry.speedup if entry is not None else Figure(value=1.0)
    change = in_percent(entry.ppl_change if entry is not None else None)
    gib, name = row.metrics[memory].value, title_of(row.precision)
    quality = theme.figure_text(change, 4, "%").partition(", n =")[0]
    text = f"{name}\nspeed {times_text(speed)}\nperplexity {quality}\n{gib:.2f} GiB"
    own = theme.style_of_precision(row.precision)
    point = theme.line(name, [change.value], [speed.value], own, [text], mode="markers")
    point["marker"] |= {"size": 38 * math.sqrt(gib / largest), "opacity": 0.85}
    bars = {"error_x": theme.spread([change]), "error_y": theme.spread([speed])}
    return point | bars, text.replace("\n", ", ")


def _comparison(result: PrecisionResult) -> list[Block]:
    entries = result.verdict.comparisons
    lines = [
        [
            Cell(entry.precision),
            plain_figure_cell(entry.speedup, 3),
            plain_figure_cell(in_percent(entry.ppl_change), 4) if entry.ppl_change is not None else Cell("–"),
        ]
        for entry in entries
    ]
    titles = ["Precision", "Speed (×)", "PPL change (%)"]
    return [table(f"Against {entries[0].reference}, paired", titles, lines)] if entries else []
