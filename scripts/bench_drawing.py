"""The pictures of the benchmarks: grouped bars, stacked bars and lines, with intervals."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.axes import Axes

from bitdraft.present.charts import drawing
from bitdraft.present.charts.drawing import GREY, INK, MARKERS, legend, margins, new_canvas, plain, png, tidy
from bitdraft.schema.records import Figure

COLOURS = (*drawing.COLOURS, GREY)
HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo")
Bars = dict[str, dict[int, Figure]]
"""By series: figures by the place of their group"""


@dataclass
class Line:
    """A series over x, with intervals where its figures have them; `dashed` is for predictions."""

    points: dict[float, Figure]
    dashed: bool = False
    style: int = 0


@dataclass
class Panel:
    title: str
    x: str
    y: str
    lines: dict[str, Line] = field(default_factory=dict)
    level: float | None = None
    ticks: Sequence[float] = ()


def _errors(figures: Sequence[Figure]) -> list[list[float]]:
    sides = [margins(figure) for figure in figures]
    return [[below for below, _ in sides], [above for _, above in sides]]


def bar_panels(title: str, labels: Sequence[str], panels: Mapping[str, Bars]) -> bytes:
    """Panels below one another over the same groups; a colour and hatch a series."""
    canvas = new_canvas(max(8.0, 2.1 + 1.9 * len(labels)), 4.1 * len(panels))
    axes: Any = canvas.subplots(len(panels), 1, squeeze=False)
    for axis, (name, bars) in zip(axes[:, 0], panels.items(), strict=True):
        width = 0.84 / max(1, len(bars))
        for place, (series, figures) in enumerate(bars.items()):
            offset = (place - (len(bars) - 1) / 2) * width
            at = [group + offset for group in figures]
            _bar(axis, at, list(figures.values()), width, (series, place))
        axis.axhline(1, color=INK, ls="--", lw=1)
        axis.set_xticks(range(len(labels)), [plain(label) for label in labels])
        axis.set_title(name, fontsize=11)
        axis.margins(y=0.12)
        tidy(axis)
    handles, names = axes[0, 0].get_legend_handles_labels()
    canvas.legend(handles, names, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    canvas.suptitle(plain(title), fontsize=12)
    return png(canvas)


def _bar(
    axis: Axes, at: Sequence[float], figures: Sequence[Figure], width: float, named: tuple[str, int]
) -> None:
    """`named`: a series' name and place."""
    series, place = named
    values = [figure.value for figure in figures]
    axis.bar(
        at,
        values,
        width * 0.94,
        color=COLOURS[place % len(COLOURS)],
        hatch=HATCHES[place % len(HATCHES)],
        edgecolor="white",
        label=plain(series),
    )
    axis.errorbar(at, values, yerr=_errors(figures), fmt="none", color=INK, lw=1.1, capsize=2.5)


def line_panels(title: str, panels: Sequence[Panel], columns: int = 2) -> bytes:
    rows = -(-len(panels) // columns)
    canvas = new_canvas(max(4.6, 6.4 - 0.5 * columns) * columns, 4.4 * rows)
    axes: Any = canvas.subplots(rows, columns, squeeze=False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        beside = 0.012 * (max(panel.ticks) - min(panel.ticks))  # so that intervals do not hide one another
        styles = [line.style for line in panel.lines.values()]
        middle = (min(styles) + max(styles)) / 2
        for name, line in panel.lines.items():
            _line(axis, name, line, 0.0 if line.dashed else beside * (line.style - middle))
        if panel.level is not None:
            axis.axhline(panel.level, color=INK, ls="--", lw=1)
        axis.set_title(plain(panel.title), fontsize=11)
        axis.set_xlabel(panel.x)
        axis.set_ylabel(panel.y)
        axis.set_xticks(list(panel.ticks))
        low, high = axis.get_ylim()
        axis.set_ylim(min(0.0, low), high + 0.3 * (high - min(0.0, low)))  # room for the legend
        tidy(axis)
        legend(axis, fontsize=8, ncols=2, loc="upper left")
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    width = int(12 * canvas.get_figwidth())  # characters
    canvas.suptitle(plain(textwrap.fill(title, width)), fontsize=12)
    return png(canvas)


def _line(axis: Axes, name: str, line: Line, beside: float) -> None:
    colour, marker = COLOURS[line.style % len(COLOURS)], MARKERS[line.style % len(MARKERS)]
    at = sorted(line.points)
    figures = [line.points[x] for x in at]
    values = [figure.value for figure in figures]
    if line.dashed:
        axis.plot(at, values, color=colour, ls="--", lw=1.2, label=plain(name))
        return
    settings: Any = {"color": colour, "marker": marker, "ms": 5, "lw": 1.5, "capsize": 3}
    moved = [x + beside for x in at]
    axis.errorbar(moved, values, yerr=_errors(figures), label=plain(name), **settings)


def stacked_bars(title: str, y: str, bars: Mapping[str, Mapping[str, float]]) -> bytes:
    """A bar a name, its parts on one another, each with its value where there is room for it."""
    canvas = new_canvas(max(8.0, 1.5 * len(bars) + 2), 5.2)
    axis = canvas.subplots(1, 1)
    parts = list(dict.fromkeys(part for found in bars.values() for part in found))
    highest = max(sum(found.values()) for found in bars.values())
    for place, found in enumerate(bars.values()):
        bottom = 0.0
        for style, part in enumerate(parts):
            height = found.get(part, 0.0)
            label = plain(part) if place == 0 else None
            colour, hatch = COLOURS[style % len(COLOURS)], HATCHES[style % len(HATCHES)]
            axis.bar(place, height, 0.62, bottom, color=colour, hatch=hatch, edgecolor="white", label=label)
            if height > 0.045 * highest:
                box = {"facecolor": "white", "alpha": 0.8, "lw": 0, "pad": 1}
                axis.text(
                    place,
                    bottom + height / 2,
                    f"{height:.2f}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    bbox=box,
                )
            bottom += height
        axis.text(place, bottom + 0.01 * highest, f"{bottom:.2f}", ha="center", va="bottom", fontsize=9)
    axis.set_xticks(range(len(bars)), [plain(name) for name in bars], fontsize=8.5)
    axis.set_ylabel(y)
    axis.margins(y=0.22)
    axis.set_title(plain(title), fontsize=11)
    tidy(axis)
    legend(axis, fontsize=9, ncols=2, loc="upper left")
    return png(canvas)
