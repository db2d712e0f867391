"""Where speculation's time goes: acceptance by position, the parts of a step, predicted against measured
speedup, and what one forward costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bitdraft.present.charts.drawing import BLUE, ORANGE, SKY
from bitdraft.present.charts.sweep import drafts_of
from bitdraft.present.page import theme
from bitdraft.present.page.model import Block, Cell, Chart, Section, Text
from bitdraft.present.page.tables import count_cell, number_cell, plain_figure_cell, table
from bitdraft.schema.records import Figure
from bitdraft.schema.spec_decode import Predicted, SpecDecodeResult, SpecDecodeRow, StepTimes

_PARTS = {
    "draft": theme.SeriesStyle(SKY, pattern="/"),
    "verify": theme.SeriesStyle(BLUE),
    "host": theme.SeriesStyle(ORANGE, pattern="x"),
}


def sections(result: SpecDecodeResult) -> list[Section]:
    """Those that there are data for."""
    found: list[tuple[str, Sequence[Block | None]]] = [
        ("Acceptance by position", [positions_chart(result)]),
        ("Time of a step", step_charts(result)),
        ("Predicted against measured", [*predictions_charts(result), *_predictions_table(result)]),
    ]
    sections = []
    for title, blocks in found:
        there = [block for block in blocks if block is not None]
        if there:
            sections.append(Section(title, there))
    return sections


def positions_chart(result: SpecDecodeResult) -> Chart | None:
    """At each draft's largest K, which has all positions."""
    data, said = [], []
    for name, (colour, marker, rows) in drafts_of(result).items():
        entries, own = rows[-1].acceptance_by_position, theme.SeriesStyle(colour, theme.symbol_of(marker))
        for key, what, dash in (
            ("share", "of all steps", "solid"),
            ("conditional", "given the one before", "dot"),
        ):
            points = [
                (entry.position, getattr(entry, key), entry.n)
                for entry in entries
                if getattr(entry, key) is not None
            ]
            if not points:
                continue
            hover = [f"{name}, position {p}\n{share:.3f} {what}\n{n:.0f} steps" for p, share, n in points]
            xs, ys = [p for p, _, _ in points], [share for _, share, _ in points]
            data.append(theme.line(name, xs, ys, own, hover, dash=dash, showlegend=key == "share"))
            if key == "share":
                said.append(f"{name}: {ys[0]:.2f} at position 1, {ys[-1]:.2f} at {xs[-1]}")
    if not data:
        return None
    x = theme.count_axis("position in the draft", range(1, 1 + max(max(trace["x"]) for trace in data)))
    return Chart(
        "Share of drafted tokens kept, by position",
        "at the largest K; dotted: among the steps that kept the token before",
        f"Lines of acceptance over position. {'; '.join(said)}.",
        data,
        theme.layout(x, theme.axis("share kept", range=[0, 1.04])),
        is_wide=True,
    )


def step_charts(result: SpecDecodeResult) -> list[Chart]:
    """A draft a chart: stacked bars over K, and what the costs predict as a mark across."""
    charts = []
    for name, (_, _, rows) in drafts_of(result).items():
        timed = [(row.k, row.predicted.step) for row in rows if row.predicted.step is not None]
        if timed:
            charts.append(_step_chart(name, timed))
    return charts


def _step_chart(name: str, timed: Sequence[tuple[int, StepTimes]]) -> Chart:
    ks, steps = [k for k, _ in timed], [step for _, step in timed]
    data: list[dict[str, Any]] = []
    for part, own in _PARTS.items():
        values = [step.part(part) for step in steps]
        hover = [_step_hover(name, k, part, step) for k, step in zip(ks, steps, strict=True)]
        group = {"name": part, "legendgroup": part, "width": 0.62}
        data.append(theme.bars(ks, values, own, hover, **group))
    predicted = [sum(step.predicted(part) or 0.0 for part in _PARTS) for step in steps]
    hover = [f"{name}, K = {k}\npredicted {value:.3f} ms" for k, value in zip(ks, predicted, strict=True)]
    marks = theme.line(
        "predicted from costs", ks, predicted, theme.SeriesStyle(theme.INK), hover, mode="markers"
    )
    marks["marker"] |= {"symbol": "line-ew", "size": 26, "line": {"color": theme.INK, "width": 3}}
    totals = [sum(step.part(part) for part in _PARTS) for step in steps]
    said = theme.range_of(list(zip(ks, totals, strict=True)), 2)
    x = theme.count_axis("K", ks)
    return Chart(
        f"Time of a step with {name} (ms)",
        "draft, verification and host; the mark is what the measured costs predict",
        f"Stacked bars of milliseconds a step with {name}: {said}.",
        [*data, marks],
        theme.layout(x, theme.axis("ms", rangemode="tozero"), 300, barmode="stack"),
    )


def _step_hover(name: str, k: int, part: str, step: StepTimes) -> str:
    text = f"{name}, K = {k}\n{part} {step.part(part):.3f} ms"
    predicted = step.predicted(part)
    return text if predicted is None else f"{text}, predicted {predicted:.3f} ms"


def predictions_charts(result: SpecDecodeResult) -> list[Chart]:
    """Speedup after the prefill: measured with intervals, by replay, by Leviathan's formula."""
    ks = result.config.k
    data = [theme.level("no gain", [ks[0] - 0.5, ks[-1] + 0.5], 1, "1×: plain decoding")]
    said = []
    for name, (colour, marker, rows) in drafts_of(result).items():
        timed = [row for row in rows if "decode_speedup" in row.metrics]
        if not timed:
            continue
        own, figures = (
            theme.SeriesStyle(colour, theme.symbol_of(marker)),
            [row.metrics["decode_speedup"] for row in timed],
        )
        hover = [
            f"{name}, K = {row.k}\nmeasured {theme.figure_text(figure, 2, '×')}"
            for row, figure in zip(timed, figures, strict=True)
        ]
        data += theme.banded_line(name, [row.k for row in timed], figures, own, hover)
        data += _predicted_lines(name, rows, own)
        said.append(f"{name}: {theme.range_of([(r.k, r.metrics['decode_speedup'].value) for r in timed], 2)}")
    if not said:
        return []
    x = theme.k_axis(ks)
    return [
        Chart(
            "Speedup after the prefill (× of K = 0)",
            "solid: measured; dashed: predicted by replay; dotted: by Leviathan's formula",
            f"Lines of speedup after the prefill over K. Measured: {'; '.join(said)}.",
            data,
            theme.layout(x, theme.axis("× of K = 0", rangemode="tozero"), 400),
            "y",
            is_wide=True,
        )
    ]


def _predicted_lines(
    name: str, rows: Sequence[SpecDecodeRow], own: theme.SeriesStyle
) -> list[dict[str, Any]]:
    lines = []
    for key, what, dash in (("replay", "replay", "dash"), ("leviathan", "formula", "dot")):
        points = [(row.k, getattr(row.predicted, key)) for row in rows if getattr(row.predicted, key)]
        if points:
            hover = [f"{name}, K = {k}\n{what} {value:.2f}×" for k, value in points]
            xs, ys = [k for k, _ in points], [value for _, value in points]
            lines.append(theme.line(name, xs, ys, own, hover, mode="lines", dash=dash, showlegend=False))
    return lines


def _predictions_table(result: SpecDecodeResult) -> list[Block]:
    rows = [row for row in result.sweep if row.status == "ok" and row.predicted != Predicted()]
    lines = [
        [
            Cell(str(row.draft)),
            count_cell(row.k),
            plain_figure_cell(row.metrics.get("decode_speedup"), 2),
            number_cell(row.predicted.replay, 2),
            number_cell(row.predicted.leviathan, 2),
            *(
                number_cell(None if row.predicted.step is None else row.predicted.step.gap(part), 3)
                for part in _PARTS
            ),
        ]
        for row in rows
    ]
    titles = ["Draft", "K", "Measured (×)", "Replay (×)", "Leviathan (×)"]
    titles += ["Draft gap (ms)", "Verify gap (ms)", "Host gap (ms)"]
    note = "A gap is what a step takes beyond what the costs predict for that part."
    return [table("Predicted and measured", titles, lines, note=note)] if lines else []


def costs(result: SpecDecodeResult) -> list[Section]:
    """What one forward of target and drafts takes."""
    if not result.costs.target_forward_ms:
        return []
    target, drafts = result.costs.target_forward_ms, result.costs.draft_forward_ms
    sizes = sorted(target)
    lines = [
        [
            Cell("target"),
            count_cell(size),
            plain_figure_cell(target[size], 3),
            number_cell(result.costs.verify_cost.get(size - 1), 3),
        ]
        for size in sizes
    ]
    lines += [
        [
            Cell(name),
            count_cell(1),
            plain_figure_cell(figure, 4),
            number_cell(result.costs.draft_cost.get(name), 4),
        ]
        for name, figure in drafts.items()
    ]
    titles = ["Forward of", "Tokens", "ms", "× of the target's over one"]
    note = "Of a draft that is c, its cost; of the target over K + 1 tokens the cost of a verification."
    words = "Medians over prompts, timed in the middle of the output, draft and target in turn."
    blocks: list[Block] = [
        Text(words, is_note=True),
        costs_chart(target, drafts),
        table("Costs", titles, lines, note=note),
    ]
    return [Section("Costs", blocks)]


def costs_chart(target: dict[int, Figure], drafts: dict[str, Figure]) -> Chart:
    sizes = sorted(target)
    figures = [target[size] for size in sizes]
    hover = [f"target over {n} tokens\n{theme.figure_text(target[n], 3, 'ms')}" for n in sizes]
    data = theme.banded_line("target", sizes, figures, theme.style_at(0), hover)
    for index, (name, figure) in enumerate(drafts.items(), 1):
        own = theme.style_at(index)
        text = f"{name}, one token\n{theme.figure_text(figure, 4, 'ms')}"
        data += theme.banded_line(name, [1], [figure], own, [text], mode="markers")
    said = [f"target {theme.range_of([(n, target[n].value) for n in sizes], 2)}".replace("K = ", "")]
    said += [f"{name} {figure.value:.3f}" for name, figure in drafts.items()]
    return Chart(
        "Time of one forward (ms)",
        "the flatter the target's line, the cheaper a verification",
        f"Milliseconds of a forward over its number of tokens: {'; '.join(said)}.",
        data,
        theme.layout(theme.count_axis("tokens in the forward", sizes), theme.axis("ms", rangemode="tozero")),
        "y",
        is_wide=True,
    )
