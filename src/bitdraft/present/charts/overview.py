"""Runs side by side. Nothing is paired between them: intervals stand beside one another."""

from __future__ import annotations

from collections.abc import Sequence

from bitdraft.present.charts.plot import Axis, Panel, Plot, Point, figure_text, reach
from bitdraft.present.charts.style import style_at, title_of
from bitdraft.present.words import times_text
from bitdraft.schema.precision import PrecisionResult
from bitdraft.schema.records import Figure
from bitdraft.schema.spec_decode import SpecDecodeRow

ROW_HEIGHT = 46


def precisions(results: Sequence[tuple[str, PrecisionResult]]) -> Panel | None:
    """Throughput of plain decoding: a dot a precision and run."""
    drawn = [
        (index, label, row.precision, row.metrics["throughput_tok_s"])
        for index, (label, result) in enumerate(results)
        for row in result.rows
        if "throughput_tok_s" in row.metrics
    ]
    if len({label for _, label, _, _ in drawn}) < 2:
        return None
    names = [f"{label}: {title_of(precision)}" for _, label, precision, _ in drawn]
    plot = Plot(
        Axis("tokens/s", (0, reach([f for *_, f in drawn], zero=True)[1])),
        Axis(domain=(-0.6, len(drawn) - 0.5), is_shown=False, from_top=True),
        520,
        ROW_HEIGHT * len(drawn),
    )
    for place, ((index, _, _, figure), name) in enumerate(zip(drawn, names, strict=True)):
        _row(plot, place, name, figure, index, text=figure_text(figure, 1, "tok/s"))
    said = "; ".join(f"{name} {figure.value:.1f}" for name, (*_, figure) in zip(names, drawn, strict=True))
    caption = "plain decoding, one prompt at a time"
    return Panel("Throughput by precision (tokens/s)", caption, f"Throughput. {said}.", plot, is_wide=True)


def speculation(sweeps: Sequence[tuple[int, str, SpecDecodeRow]]) -> Panel | None:
    """The speedup of each sweep's fastest draft and K, with its interval, below its name."""
    if len(sweeps) < 2:
        return None
    figures = [row.metrics["speedup"] for *_, row in sweeps]
    plot = Plot(
        Axis("× plain decoding in the same sweep", reach([*figures, 1.0])),
        Axis(domain=(-0.6, len(sweeps) - 0.5), is_shown=False, from_top=True),
        520,
        ROW_HEIGHT * len(sweeps),
    )
    plot.level(1.0, "x")
    said = []
    for place, ((index, label, row), figure) in enumerate(zip(sweeps, figures, strict=True)):
        name = f"{label}: {row.draft}, K = {row.k}"
        _row(plot, place, name, figure, index, text=times_text(figure))
        said.append(f"{name} {times_text(figure)}")
    return Panel(
        "Best speculation (× plain decoding)",
        "the fastest draft and K by value; right of the dashed line it pays",
        f"Best speedup. {'; '.join(said)}.",
        plot,
        is_wide=True,
    )


def _row(plot: Plot, place: int, name: str, figure: Figure, index: int, *, text: str) -> None:
    point = Point(figure.value, place, figure, {"title": name, "value": text})
    plot.whiskers([point], style_at(index), along="x")
    plot.dots([point], style_at(index), size=80)
    assert plot.x.domain is not None
    plot.text([(plot.x.domain[0], place, name)], shift=(2, -15))
