"""Traces and layouts that the charts share. A precision or draft has the colour and symbol here that it has
in the pictures (`present.charts`)."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bitdraft import formats
from bitdraft.present.charts.drawing import COLOURS, MARKERS, margins
from bitdraft.present.charts.precision import style_of
from bitdraft.schema.records import Figure

INK, MUTED, BAD = "$ink", "$muted", "$bad"
_SYMBOLS = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "D": "diamond",
    "v": "triangle-down",
    "P": "cross",
    "X": "x",
}


@dataclass(frozen=True)
class SeriesStyle:
    """Colour, symbol of a point and pattern of a bar."""

    colour: str
    symbol: str = "circle"
    pattern: str = ""


def style_of_precision(precision: str) -> SeriesStyle:
    """Of a format: colour and symbol as in the pictures."""
    colour, _, marker = style_of(precision)
    patterns = ("", "/", ".", "x", "\\", "+")
    return SeriesStyle(
        colour, symbol_of(marker), patterns[formats.find(precision).style_index % len(patterns)]
    )


def style_at(index: int) -> SeriesStyle:
    """Of the first, second, … series: colour and symbol as in the pictures."""
    patterns = ("", "/", ".", "\\", "x", "-", "+")
    symbol = _SYMBOLS[MARKERS[index % len(MARKERS)]]
    return SeriesStyle(COLOURS[index % len(COLOURS)], symbol, patterns[index % len(patterns)])


def symbol_of(marker: str) -> str:
    return _SYMBOLS.get(marker, "circle")


def escaped(text: object) -> str:
    """Plotly reads some tags and entities in every text that it draws: none of them is meant."""
    return html.escape(str(text), quote=False)


def figure_text(figure: Figure, digits: int, unit: str = "", scale: float = 1.0) -> str:
    """`12.3 [11.9, 12.8] ms, n = 8`"""
    parts = f"{scale * figure.value:.{digits}f}"
    if figure.low is not None and figure.high is not None:
        parts += f" [{scale * figure.low:.{digits}f}, {scale * figure.high:.{digits}f}]"
    return f"{parts}{f' {unit}' if unit else ''}, n = {figure.n}"


def spread(figures: Sequence[Figure | None], scale: float = 1.0) -> dict[str, Any]:
    """Error bars; where a figure has no interval, none is drawn."""
    sides = [(0.0, 0.0) if figure is None else margins(figure) for figure in figures]
    if not any(figure is not None and figure.low is not None for figure in figures):
        return {"visible": False}
    return {
        "type": "data",
        "symmetric": False,
        "array": [scale * above for _, above in sides],
        "arrayminus": [scale * below for below, _ in sides],
        "color": INK,
        "thickness": 1.2,
        "width": 4,
    }


def axis(title: str, **settings: Any) -> dict[str, Any]:
    return {"title": {"text": escaped(title)}, **settings}


def count_axis(title: str, counts: Sequence[int], **settings: Any) -> dict[str, Any]:
    """A tick at each count, as long as their labels fit."""
    ticks = {"tickvals": list(counts)} if len(counts) <= 16 else {}
    return axis(title, **ticks, **settings)


def k_axis(ks: Sequence[int]) -> dict[str, Any]:
    return count_axis("K, speculative tokens per step", ks, range=[ks[0] - 0.5, ks[-1] + 0.5])


def layout(x: dict[str, Any], y: dict[str, Any], height: int = 340, **settings: Any) -> dict[str, Any]:
    margin = {"l": 8, "r": 14, "t": 14, "b": 8}
    return {"xaxis": x, "yaxis": y, "height": height, "margin": margin, "hovermode": "closest", **settings}


def see_through(colour: str, opacity: float = 0.16) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def line(
    name: str,
    xs: Sequence[float],
    ys: Sequence[float | None],
    style: SeriesStyle,
    hover: Sequence[str],
    **settings: Any,
) -> dict[str, Any]:
    """A line with symbols. `dash` and `mode` are settings of their own."""
    trace: dict[str, Any] = {
        "type": "scatter",
        "name": escaped(name),
        "legendgroup": escaped(name),
        "x": list(xs),
        "y": list(ys),
        "mode": settings.pop("mode", "lines+markers"),
        "line": {"color": style.colour, "width": 2, "dash": settings.pop("dash", "solid")},
        "marker": {
            "color": style.colour,
            "symbol": style.symbol,
            "size": 9,
            "line": {"color": INK, "width": 0.6},
        },
        "hoverinfo": "text",
        "hovertext": hover_texts(hover),
    }
    return trace | settings


def banded_line(
    name: str,
    xs: Sequence[float],
    figures: Sequence[Figure],
    style: SeriesStyle,
    hover: Sequence[str],
    **settings: Any,
) -> list[dict[str, Any]]:
    """A line and its intervals: a band where every point has one and there are several, else bars."""
    own = line(name, xs, [figure.value for figure in figures], style, hover, **settings)
    lows = [figure.low for figure in figures if figure.low is not None]
    highs = [figure.high for figure in figures if figure.high is not None]
    if len(figures) < 2 or not len(lows) == len(highs) == len(figures):
        if lows:
            own["error_y"] = spread(figures) | {"color": style.colour}
        return [own]
    band = {
        "type": "scatter",
        "legendgroup": escaped(name),
        "showlegend": False,
        "x": [*xs, *reversed(xs)],
        "y": [*highs, *reversed(lows)],
        "mode": "lines",
        "fill": "toself",
        "fillcolor": see_through(style.colour) if style.colour.startswith("#") else "$band",
        "line": {"width": 0},
        "hoverinfo": "skip",
    }
    return [band, own]


def bars(
    xs: Sequence[float], ys: Sequence[float | None], style: SeriesStyle, hover: Sequence[str], **settings: Any
) -> dict[str, Any]:
    """Bars of one colour and pattern (Plotly draws no pattern of its own over colours by point)."""
    trace: dict[str, Any] = {
        "type": "bar",
        "x": list(xs),
        "y": list(ys),
        "marker": {
            "color": style.colour,
            "pattern": {
                "shape": style.pattern,
                "bgcolor": style.colour,
                "fgcolor": "#ffffff",
                "size": 8,
                "solidity": 0.2,
            },
        },
        "hoverinfo": "text",
        "hovertext": hover_texts(hover),
    }
    return trace | settings


def hover_texts(texts: Sequence[str]) -> list[str]:
    return [escaped(text).replace("\n", "<br>") for text in texts]


def level(name: str, xs: Sequence[float], value: float, text: str) -> dict[str, Any]:
    """A dashed line across: what the others are compared with."""
    style = SeriesStyle(INK)
    return line(name, xs, [value] * len(xs), style, [text] * len(xs), mode="lines", dash="dash")


def range_of(values: Sequence[tuple[int, float]], digits: int) -> str:
    """`from 12.3 at K = 2 to 15.0 at K = 6`"""
    (first, low), (last, high) = values[0], values[-1]
    if first == last:
        return f"{low:.{digits}f} at K = {first}"
    return f"from {low:.{digits}f} at K = {first} to {high:.{digits}f} at K = {last}"
