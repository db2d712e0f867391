"""Several folders side by side. Runs on different machines or models are not paired, so that no ratio between
them is given: intervals stand beside one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bitdraft.metrics.memory import memory_name
from bitdraft.present.charts.precision import title_of
from bitdraft.present.page import theme
from bitdraft.present.page.model import Block, Cell, Chart, Section, Text
from bitdraft.present.page.run import Run, View, machine_of
from bitdraft.present.page.tables import plain_figure_cell, table
from bitdraft.present.words import times_text
from bitdraft.schema.precision import PrecisionResult, PrecisionRow
from bitdraft.schema.spec_decode import SpecDecodeResult, SpecDecodeRow

_WORDS = (
    "Each folder was measured on its own: nothing is paired between them, so compare intervals, and only "
    "where text and settings are the same (see the protocols)."
)


def section(runs: Sequence[Run]) -> Section:
    charts = [chart for chart in (precision_chart(runs), speculation_chart(runs)) if chart is not None]
    blocks: list[Block] = [Text(_WORDS, is_note=True), _verdicts(runs), *charts]
    blocks += [*_precision_table(runs), *_speculation_table(runs)]
    return Section("Side by side", blocks)


def _verdicts(runs: Sequence[Run]) -> Block:
    lines = []
    for run in runs:
        for view in run.views:
            model = view.result.model.name or "–"
            machine = machine_of(view.result) or "–"
            lines.append(
                [Cell(run.label), Cell(model), Cell(machine), Cell(view.title), Cell(view.verdict.summary)]
            )
    return table("Verdicts", ["Folder", "Model", "Machine", "Result", "Verdict"], lines)


def _precisions(runs: Sequence[Run]) -> list[tuple[str, PrecisionResult]]:
    """With the title behind the folder where a folder has several."""
    found = []
    for run in runs:
        own = [view for view in run.views if isinstance(view.result, PrecisionResult)]
        for view in own:
            label = run.label if len(own) == 1 else f"{run.label}: {view.title}"
            if isinstance(view.result, PrecisionResult):
                found.append((label, view.result))
    return found


def precision_chart(runs: Sequence[Run]) -> Chart | None:
    """Throughput at each precision, a bar a folder."""
    results = _precisions(runs)
    names = list(dict.fromkeys(row.precision for _, result in results for row in result.rows))
    data, said = [], []
    for index, (label, result) in enumerate(results):
        rows = [row for row in result.rows if "throughput_tok_s" in row.metrics]
        figures = [row.metrics["throughput_tok_s"] for row in rows]
        own = theme.style_at(index)
        hover = [
            f"{label}, {title_of(row.precision)}: {theme.figure_text(figure, 1, 'tok/s')}"
            for row, figure in zip(rows, figures, strict=True)
        ]
        xs, ys = [names.index(row.precision) for row in rows], [figure.value for figure in figures]
        group = {"name": theme.escaped(label), "legendgroup": theme.escaped(label)}
        data.append(theme.bars(xs, ys, own, hover, error_y=theme.spread(figures), **group))
        values = ", ".join(f"{r.precision} {f.value:.1f}" for r, f in zip(rows, figures, strict=True))
        said.append(f"{label}: {values}")
    if len(data) < 2:
        return None
    ticks = [theme.escaped(title_of(name)) for name in names]
    x = theme.axis("", tickvals=list(range(len(names))), ticktext=ticks)
    return Chart(
        "Throughput by precision (tokens/s)",
        "plain decoding, one prompt at a time",
        f"Bars of throughput by precision. {'; '.join(said)}.",
        data,
        theme.layout(x, theme.axis("tokens/s", rangemode="tozero"), 340, barmode="group"),
        "y",
        is_wide=True,
    )


def best_row(result: SpecDecodeResult) -> SpecDecodeRow | None:
    """The fastest by value, as the verdict takes it."""
    finished = [row for row in result.sweep if row.status == "ok" and "speedup" in row.metrics]
    return max(finished, key=lambda row: row.metrics["throughput_tok_s"].value, default=None)


def _sweeps(runs: Sequence[Run]) -> list[tuple[Run, View, SpecDecodeResult, SpecDecodeRow]]:
    found = []
    for run in runs:
        for view in run.views:
            result = view.result
            if isinstance(result, SpecDecodeResult) and not result.config.plan:
                row = best_row(result)
                if row is not None:
                    found.append((run, view, result, row))
    return found


def speculation_chart(runs: Sequence[Run]) -> Chart | None:
    """The speedup of each sweep's fastest draft and K, with its interval, below its name."""
    sweeps = _sweeps(runs)
    if len(sweeps) < 2:
        return None
    data, names, said = [], [], []
    for index, (run, view, _, row) in enumerate(sweeps):
        figure, arm = row.metrics["speedup"], f"{row.draft}, K = {row.k}"
        hover = f"{run.label}: {view.title}\n{arm}\n{theme.figure_text(figure, 2, '×')}"
        own = theme.style_at(list(runs).index(run))
        point = theme.line(run.label, [figure.value], [index], own, [hover], mode="markers", showlegend=False)
        data.append(point | {"error_x": theme.spread([figure])})
        names.append(_name_above(index, f"{run.label}: {arm}", view.title))
        said.append(f"{run.label}, {view.title}: {arm} {times_text(figure)}")
    y = theme.axis("", visible=False, range=[len(sweeps) - 0.6, -0.85])
    dashed = {"color": theme.INK, "width": 1, "dash": "dash"}
    one = {"type": "line", "x0": 1, "x1": 1, "y0": 0, "y1": 1, "yref": "paper", "line": dashed}
    height = 90 + 78 * len(sweeps)
    return Chart(
        "Best speculation (× of K = 0 in the same sweep)",
        "the fastest draft and K by value; right of the dashed line it pays",
        f"Points with intervals of the best speedup. {'; '.join(said)}.",
        data,
        theme.layout(theme.axis("× of K = 0"), y, height, shapes=[one], annotations=names),
        is_wide=True,
    )


def _name_above(index: int, first: str, second: str) -> dict[str, Any]:
    """Two lines above a point, from the left edge: names are too long for an axis of a narrow page."""
    return {
        "x": 0,
        "xref": "paper",
        "xanchor": "left",
        "y": index,
        "xshift": 8,
        "yshift": 10,
        "bgcolor": "$paper",
        "yanchor": "bottom",
        "align": "left",
        "text": f"<b>{theme.escaped(first)}</b><br>{theme.escaped(second)}",
        "showarrow": False,
    }


def _precision_table(runs: Sequence[Run]) -> list[Block]:
    lines = []
    for label, result in _precisions(runs):
        memory = memory_name(row.metrics for row in result.rows)
        for row in result.rows:
            lines.append([Cell(label), *_precision_cells(row, memory)])
    titles = ["Folder", "Precision", "Status", "Tok/s", "TPOT (ms)", "TTFT (ms)", "PPL", "Peak memory (GiB)"]
    return [table("Precision", titles, lines)] if lines else []


def _precision_cells(row: PrecisionRow, memory: str) -> list[Cell]:
    shown = (("throughput_tok_s", 1), ("tpot_ms", 2), ("ttft_ms", 1), ("ppl", 3), (memory, 3))
    figures = [plain_figure_cell(row.metrics.get(key), digits) for key, digits in shown]
    return [Cell(row.precision), Cell(row.status), *figures]


def _speculation_table(runs: Sequence[Run]) -> list[Block]:
    lines = []
    for run, view, _, row in _sweeps(runs):
        shown = (("throughput_tok_s", 1), ("speedup", 2), ("acceptance_rate", 3), ("tokens_per_step", 2))
        figures = [plain_figure_cell(row.metrics.get(key), digits) for key, digits in shown]
        lines.append([Cell(run.label), Cell(view.title), Cell(f"{row.draft}, K = {row.k}"), *figures])
    titles = ["Folder", "Sweep", "Fastest", "Tok/s", "Speedup", "Accept", "Tok/step"]
    return [table("Speculation", titles, lines)] if lines else []
