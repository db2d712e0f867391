"""Plots in Vega-Lite through Altair, drawn once: as pictures (PNG, SVG by vl-convert), and interactive in the
page. A `Plot` is one pair of axes with its layers, a `Panel` a plot with its words, a `Chart` a picture of
panels under a finding."""

from __future__ import annotations

import math
import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import altair as alt

from bitdraft.present.charts.style import INK, LIGHT, STAR, SeriesStyle, vega_config
from bitdraft.present.sentences import Language
from bitdraft.present.translate import spec_translated, translated
from bitdraft.schema.records import Figure

PIXELS_PER_UNIT = 1.5
LABEL_HEIGHT = 14
AXIS_HEIGHT = 40
MOST_UPRIGHT = 5
"""Names below each other are read without turning the head; more don't fit"""
Align = Literal["left", "right", "center"]
Side = Literal["x", "y"]


@dataclass(frozen=True)
class Axis:
    """`names` make it one of categories. Without a domain it ends where the data do."""

    title: str = ""
    domain: tuple[float, float] | None = None
    ticks: Sequence[float] | None = None
    names: Sequence[str] | None = None
    log_base: float | None = None
    format: str | None = None
    is_shown: bool = True
    from_top: bool = False

    def channel(self, side: Side, key: str) -> Any:
        """Altair's channel of a field on this axis."""
        make = alt.X if side == "x" else alt.Y
        axis = alt.Axis(**self._axis(side)) if self.is_shown else None
        if self.names is not None:
            scale = alt.Scale(type="band", domain=list(self.names), paddingInner=0.35, paddingOuter=0.25)
            return make(f"{key}:N", sort=None, title=self.title or None, axis=axis, scale=scale)
        settings: dict[str, Any] = {"zero": False, "nice": True}
        if self.domain is not None:
            settings = {"domain": list(self.domain), "nice": False}
        if self.log_base is not None:
            settings |= {"type": "log", "base": self.log_base}
        if self.from_top:
            settings["reverse"] = True
        return make(f"{key}:Q", title=self.title or None, axis=axis, scale=alt.Scale(**settings))

    def _axis(self, side: Side) -> dict[str, Any]:
        settings: dict[str, Any] = {"labelOverlap": True}
        if self.names is not None:
            settings |= {"labelAngle": 0, "ticks": False, "labelPadding": 6, "grid": False}
            if side == "x" and len(self.names) > MOST_UPRIGHT:
                settings |= {"labelAngle": -40, "labelOverlap": False, "labelPadding": 2}
        if self.ticks is not None:
            settings["values"] = list(self.ticks)
        elif self.names is None:
            settings["tickCount"] = 4 if side == "x" else 5
        if self.format is not None:
            settings["format"] = self.format
        if side == "y" and self.names is None:
            settings |= {"domain": False, "ticks": False}
        return settings


@dataclass(frozen=True)
class Point:
    """A value with the ends of its interval, and what is said where a pointer rests on it."""

    x: float | str
    y: float | str
    figure: Figure | None = None
    hover: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Tile:
    """A field over two names, with its words and its colour."""

    x: str
    y: str
    text: str
    colour: str
    opacity: float
    hover: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Plot:
    """Layers over one pair of axes; sizes in pixels of the screen."""

    x: Axis
    y: Axis
    width: int = 400
    height: int = 250
    layers: list[Any] = field(default_factory=list)

    def _add(self, rows: Iterable[Mapping[str, Any]], mark: Any, **channels: Any) -> None:
        data = alt.Data(values=[dict(row) for row in rows])
        both = {"x": self.x.channel("x", "x"), "y": self.y.channel("y", "y")} | channels
        self.layers.append(
            alt.Chart(data, mark=mark).encode(**{k: v for k, v in both.items() if v is not None})
        )

    def bars(self, points: Sequence[Point], style: SeriesStyle) -> None:
        """From zero, over names."""
        mark = alt.MarkDef(type="bar", cornerRadiusEnd=2, **_coloured(style))
        self._add(_rows(points), mark, tooltip=_tooltip(points))

    def floating_bars(
        self, points: Sequence[Point], starts: Sequence[float], style: SeriesStyle, size: float, shift: float
    ) -> None:
        """Parts of a stack on a numeric axis: each from its start to its end."""
        rows = [row | {"start": start} for row, start in zip(_rows(points), starts, strict=True)]
        mark = alt.MarkDef(type="bar", size=size, xOffset=shift, **_coloured(style))
        self._add(rows, mark, y2=alt.Y2("start"), tooltip=_tooltip(points))

    def tiles(self, tiles: Sequence[Tile]) -> None:
        """A heat map: fields beside each other, with their words in the middle."""
        for tile in tiles:
            mark = alt.MarkDef(type="rect", color=tile.colour, opacity=tile.opacity, cornerRadius=3)
            point = Point(tile.x, tile.y, hover=tile.hover)
            self._add(_rows([point]), mark, tooltip=_tooltip([point]))
        self.text(
            [(tile.x, tile.y, tile.text) for tile in tiles], align="center", shift=(0, -12), fontSize=13
        )

    def line(self, points: Sequence[Point], style: SeriesStyle, *, width: float = 2, dash: str = "") -> None:
        """Straight between the points."""
        dashes = {"": [1, 0], "dashed": [5, 3], "dotted": [2, 3]}[dash]
        mark = alt.MarkDef(type="line", strokeWidth=width, strokeDash=dashes, **_coloured(style, "stroke"))
        self._add(_rows(points), mark, order=alt.Order("x:Q"))

    def dots(
        self, points: Sequence[Point], style: SeriesStyle, *, size: float = 60, hollow: bool = False
    ) -> None:
        look = _coloured(style) if not hollow else {"fill": "transparent", **_coloured(style, "stroke")}
        mark = alt.MarkDef(type="point", shape=style.shape, size=size, opacity=1, filled=not hollow, **look)
        self._add(_rows(points), mark, tooltip=_tooltip(points))

    def stars(self, points: Sequence[Point], style: SeriesStyle) -> None:
        """What was chosen."""
        colour = {"fill": style.colour} if style.colour else {}
        mark = alt.MarkDef(
            type="point", shape=STAR, size=170, style="ink", strokeWidth=1, opacity=1, **colour
        )
        self._add(_rows(points), mark, tooltip=_tooltip(points))

    def ticks(self, points: Sequence[Point], size: float, shift: float) -> None:
        """A short line across at each value."""
        mark = alt.MarkDef(
            type="tick", style="ink", size=size, thickness=2, xOffset=shift, orient="horizontal"
        )
        self._add(_rows(points), mark, tooltip=_tooltip(points))

    def whiskers(self, points: Sequence[Point], style: SeriesStyle = INK, along: Side = "y") -> None:
        """From end to end of each interval that there is."""
        there = [point for point in points if point.figure is not None and point.figure.low is not None]
        if not there:
            return
        rows = [{"x": p.x, "y": p.y, "low": p.figure.low, "high": p.figure.high} for p in there if p.figure]
        mark = alt.MarkDef(type="rule", strokeWidth=1.4, **_coloured(style, "stroke"))
        if along == "y":
            self._add(rows, mark, y=self.y.channel("y", "low"), y2=alt.Y2("high"))
        else:
            self._add(rows, mark, x=self.x.channel("x", "low"), x2=alt.X2("high"))

    def text(
        self,
        places: Sequence[tuple[float | str, float | str, str]],
        *,
        style: str = "label",
        align: Align = "left",
        shift: tuple[float, float] = (0, 0),
        **settings: Any,
    ) -> None:
        """Words at places; `shift` in pixels, right and down."""
        rows = [{"x": x, "y": y, "text": text} for x, y, text in places]
        mark = alt.MarkDef(
            type="text",
            style=style,
            align=align,
            baseline=settings.pop("baseline", "middle"),
            dx=shift[0],
            dy=shift[1],
            lineBreak="\n",
            **settings,
        )
        self._add(rows, mark, text=alt.Text("text:N"))

    def level(self, value: float, side: Side = "y", *, dash: bool = True, style: str = "level") -> None:
        """A line across at a value."""
        mark = alt.MarkDef(type="rule", style=style, strokeDash=[5, 3] if dash else [1, 0], strokeWidth=1.2)
        channels = {"x": None, "y": None} | {side: getattr(self, side).channel(side, side)}
        self._add([{side: value}], mark, **channels)

    def shade(self, low: float, high: float) -> None:
        """A band across between two values of y."""
        mark = alt.MarkDef(type="rect", style="shade")
        self._add([{"low": low, "high": high}], mark, x=None, y=self.y.channel("y", "low"), y2=alt.Y2("high"))

    def names(self, ends: Sequence[tuple[float, float, str]], style: str = "label", shift: float = 9) -> None:
        """Names to the right of points and lines, moved apart where they would lie on each other."""
        if not ends or self.y.domain is None:
            return
        low, high = (self._along_y(end) for end in self.y.domain)
        places = [self._along_y(y) for _, y, _ in ends]
        for (x, y, text), place, moved in zip(
            ends, places, _apart(places, high - low, self.height), strict=True
        ):
            down = -(moved - place) * self.height / (high - low)
            self.text([(x, y, text)], style=style, shift=(shift, down))

    def _along_y(self, value: float) -> float:
        """Where it lies on an axis that may be logarithmic."""
        return value if self.y.log_base is None else math.log(value)

    def layered(self) -> Any:
        """All layers as one chart of Altair's; a word where there is nothing to draw."""
        if self.layers:
            return alt.layer(*self.layers)
        nothing = Plot(Axis(domain=(0, 1), is_shown=False), Axis(domain=(0, 1), is_shown=False))
        nothing.text([(0.5, 0.5, "nothing was measured")], style="quiet", align="center")
        return alt.layer(*nothing.layers)


def _rows(points: Sequence[Point]) -> list[dict[str, Any]]:
    return [
        {"x": point.x, "y": point.y} | {f"t{i}": text for i, text in enumerate(point.hover.values())}
        for point in points
    ]


def _tooltip(points: Sequence[Point]) -> Any:
    """All points of a layer have the same names; the one called `title` heads the box."""
    names = list(points[0].hover) if points else []
    return [alt.Tooltip(f"t{i}:N", title=name) for i, name in enumerate(names)] or alt.Undefined


def _coloured(style: SeriesStyle, what: str = "color") -> dict[str, Any]:
    if style.colour is not None:
        return {what: style.colour}
    return {"style": "drawn" if what == "stroke" else "ink"}


def _apart(values: Sequence[float], extent: float, height: int) -> list[float]:
    """Values at least a line of text apart, in their order, moved as little as a pass up and one down can."""
    gap = extent * LABEL_HEIGHT / height
    order = sorted(range(len(values)), key=lambda i: values[i])
    moved = [values[i] for i in order]
    for _ in range(60):
        for i in range(1, len(moved)):
            lack = gap - (moved[i] - moved[i - 1])
            if lack > 0:
                moved[i - 1], moved[i] = moved[i - 1] - lack / 2, moved[i] + lack / 2
    found = list(values)
    for i, value in zip(order, moved, strict=True):
        found[i] = value
    return found


@dataclass(frozen=True)
class Panel:
    """A plot with its title and caption; `alt` says in words what is drawn."""

    title: str
    caption: str
    alt: str
    plot: Plot
    is_wide: bool = False
    is_small: bool = False

    @property
    def page_height(self) -> int:
        """In the page, where it holds the axis, too."""
        return self.plot.height + (AXIS_HEIGHT if self.plot.x.is_shown else 0)

    def in_page(self) -> dict[str, Any]:
        """The specification without title, colours of the surface and width, which are the page's."""
        chart = self.plot.layered().properties(
            width="container", height=self.page_height, autosize={"type": "fit", "contains": "padding"}
        )
        return _spec(chart)


@dataclass(frozen=True)
class Chart:
    """A picture: the finding as its title, in grey below it machine and protocol, and a note; then panels in
    columns. Fixed words are in its language; the finding is as it was said."""

    title: str
    about: str
    panels: Sequence[Panel]
    columns: int
    note: str = ""
    language: Language = "en"

    def __repr__(self) -> str:
        """What it says, and how many panels it has."""
        return f"Chart({self.title!r}, {len(self.panels)} panels)"

    def spec(self, colours: Mapping[str, str] = LIGHT) -> dict[str, Any]:
        """As Vega-Lite."""
        words = [translated(panel.caption, self.language) for panel in self.panels]
        captions = [_wrapped(text, panel.plot.width) for text, panel in zip(words, self.panels, strict=True)]
        panels = []
        for index, (panel, lines) in enumerate(zip(self.panels, captions, strict=True)):
            first = index - index % self.columns
            most = max(len(other) for other in captions[first : first + self.columns])
            padded = [*lines, *[" "] * (most - len(lines))]  # titles of a row stand on one line
            title = alt.TitleParams(translated(panel.title, self.language), subtitle=padded)
            plot = panel.plot
            panels.append(plot.layered().properties(width=plot.width, height=plot.height, title=title))
        width = sum(panel.plot.width + 60 for panel in self.panels[: self.columns])
        words = [*_wrapped(self.about, width), *(_wrapped(self.note, width) if self.note else [])]
        title = alt.TitleParams(
            _wrapped(self.title, width, 8.2),
            subtitle=words,
            anchor="start",
            frame="bounds",
            fontSize=17,
            subtitleFontSize=12,
            subtitlePadding=6,
            offset=18,
        )
        grid = alt.concat(*panels, columns=self.columns, spacing=30, title=title)
        found: dict[str, Any] = spec_translated(_spec(grid), self.language)
        return found | {"config": vega_config(colours)}

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """Shown by a notebook: drawn by its own Vega-Lite where it has one."""
        return {"application/vnd.vegalite.v6+json": self.spec(), "image/svg+xml": self.svg()}

    def png(self) -> bytes:
        import vl_convert

        return bytes(vl_convert.vegalite_to_png(self.spec(), scale=PIXELS_PER_UNIT))

    def svg(self) -> str:
        import vl_convert

        return str(vl_convert.vegalite_to_svg(self.spec()))


def _spec(chart: Any) -> dict[str, Any]:
    found: dict[str, Any] = chart.to_dict()
    found.pop("config", None)  # Altair's own
    found.pop("$schema", None)
    return found


def _wrapped(text: str, width: float, character: float = 6.1) -> list[str]:
    """Lines of about so many pixels; a Chinese character is as wide as two others."""
    if not text.isascii() and any(unicodedata.east_asian_width(c) == "W" for c in text):
        character *= 1.9
    return textwrap.wrap(text, max(20, int(width / character))) if text else []


def reach(figures: Iterable[Figure | float], *, pad: float = 0.08, zero: bool = False) -> tuple[float, float]:
    """A domain that holds values and intervals, with room around them; from zero for bars."""
    ends: list[float] = []
    for one in figures:
        if isinstance(one, Figure):
            ends += [end for end in (one.low, one.value, one.high) if end is not None]
        else:
            ends.append(one)
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    if zero:
        return 0.0, high * (1 + 2 * pad) or 1.0
    room = pad * (high - low) or pad * abs(high) or 1.0
    return low - room, high + room


def figure_text(figure: Figure, digits: int, unit: str = "", scale: float = 1.0) -> str:
    """`12.3 [11.9, 12.8] ms, n = 8`"""
    parts = f"{scale * figure.value:.{digits}f}"
    if figure.low is not None and figure.high is not None:
        parts += f" [{scale * figure.low:.{digits}f}, {scale * figure.high:.{digits}f}]"
    return f"{parts}{f' {unit}' if unit else ''}, n = {figure.n}"
