"""The pictures of the benchmarks: grouped bars, stacked bars and lines, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bitdraft.present.charts.plot import Axis, Chart, Plot, Point, reach
from bitdraft.present.charts.plot import Panel as Drawn
from bitdraft.present.charts.style import style_at
from bitdraft.schema.records import Figure

Bars = dict[str, dict[int, Figure]]
"""By series: figures by the place of their group"""
WIDTH, HEIGHT = 420, 260


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


def bar_panels(title: str, labels: Sequence[str], panels: Mapping[str, Bars]) -> bytes:
    """Panels below one another over the same groups; a colour a series, named above its first bar."""
    drawn = []
    for name, bars in panels.items():
        figures = [figure for found in bars.values() for figure in found.values()]
        width = 110.0 * len(labels)
        size = 0.84 * 110 / max(1, len(bars))
        x = Axis(domain=(-0.5, len(labels) - 0.5), ticks=(), is_shown=False)
        plot = Plot(x, Axis(domain=(0, reach(figures, zero=True)[1])), int(width), HEIGHT)
        for place, found in enumerate(bars.values()):
            offset = (place - (len(bars) - 1) / 2) * size / 110
            points = [Point(group + offset, figure.value, figure) for group, figure in found.items()]
            plot.floating_bars(points, [0.0] * len(points), style_at(place), 0.94 * size, 0)
            plot.whiskers(points)
        plot.level(1.0)
        plot.text([(group, 0.0, label) for group, label in enumerate(labels)], align="center", shift=(0, 14))
        drawn.append(Drawn(name, _legend(list(bars)), name, plot))
    return Chart(title, "", drawn, columns=1).png()


def _legend(names: Sequence[str]) -> str:
    """Series from left to right."""
    return f"from left to right: {', '.join(names)}"


def line_panels(title: str, panels: Sequence[Panel], columns: int = 2) -> bytes:
    """Lines over x; series beside one another, so that their intervals do not hide each other."""
    return Chart(title, "", [_lines(panel) for panel in panels], columns).png()


def _lines(panel: Panel) -> Drawn:
    figures = [figure for line in panel.lines.values() for figure in line.points.values()]
    ends: list[Figure | float] = [*figures]
    ends += [panel.level] if panel.level is not None else []
    first, last = min(panel.ticks), max(panel.ticks)
    room = 0.05 * (last - first)
    axis = Axis(panel.x, (first - room, last + room), panel.ticks)
    plot = Plot(axis, Axis(panel.y, reach(ends)), WIDTH, HEIGHT)
    styles = [line.style for line in panel.lines.values()]
    middle = (min(styles) + max(styles)) / 2
    if panel.level is not None:
        plot.level(panel.level)
    names = []
    for name, line in panel.lines.items():
        own = style_at(line.style)
        beside = 0.0 if line.dashed else 0.012 * (last - first) * (line.style - middle)
        points = [Point(x + beside, line.points[x].value, line.points[x]) for x in sorted(line.points)]
        plot.line(points, own, width=1.2 if line.dashed else 1.6, dash="dashed" if line.dashed else "")
        if not line.dashed:
            plot.whiskers(points, own)
            plot.dots(points, own, size=40)
        names.append((float(points[-1].x), float(points[-1].y), name))
    plot.names(names)
    return Drawn(panel.title, "", panel.title, plot)


def stacked_bars(title: str, y: str, bars: Mapping[str, Mapping[str, float]]) -> bytes:
    """A bar a name, its parts on one another, each with its value where there is room for it."""
    parts = list(dict.fromkeys(part for found in bars.values() for part in found))
    highest = max(sum(found.values()) for found in bars.values())
    x = Axis(domain=(-0.6, len(bars) - 0.4), is_shown=False)
    plot = Plot(x, Axis(y, (0, 1.12 * highest)), 120 * len(bars), 320)
    starts = [0.0] * len(bars)
    for style, part in enumerate(parts):
        heights = [found.get(part, 0.0) for found in bars.values()]
        ends = [start + height for start, height in zip(starts, heights, strict=True)]
        points = [Point(place, end) for place, end in enumerate(ends)]
        plot.floating_bars(points, starts, style_at(style), 70, 0)
        middles = [
            (place, start + height / 2, f"{height:.2f}")
            for place, (start, height) in enumerate(zip(starts, heights, strict=True))
            if height > 0.045 * highest
        ]
        plot.text(middles, align="center")
        starts = ends
    plot.text([(i, end, f"{end:.2f}") for i, end in enumerate(starts)], align="center", shift=(0, -9))
    plot.text([(i, 0.0, name) for i, name in enumerate(bars)], align="center", shift=(0, 14))
    caption = f"from below: {', '.join(parts)}"
    return Chart(title, "", [Drawn("", caption, title, plot)], 1).png()
