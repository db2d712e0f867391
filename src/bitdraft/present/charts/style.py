"""How charts look. Colours of series are Okabe and Ito's (2008), which colour-blind readers tell apart;
shapes and labels say the same in grey. Ink, lines and paper are the surface's: a picture's, the page's."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitdraft import formats

BLUE, ORANGE, GREEN, PINK, SKY, RED = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"
GREY = "#8A929B"
COLOURS = (BLUE, ORANGE, GREEN, PINK, SKY, RED)
# seven shapes beside six colours, so that no two of 42 series are alike
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right")
NUM_STYLES = len(COLOURS) * len(SHAPES)
STAR = "M0,-1L0.23,-0.32L0.95,-0.31L0.37,0.12L0.59,0.81L0,0.4L-0.59,0.81L-0.37,0.12L-0.95,-0.31L-0.23,-0.32Z"
FONT = (
    "Inter, 'Source Sans 3', 'Helvetica Neue', Arial, 'Liberation Sans', 'Noto Sans CJK SC', "
    "'WenQuanYi Zen Hei', sans-serif"
)

LIGHT = {"ink": "#1b1f24", "muted": "#5d6670", "line": "#c3cad1", "grid": "#eaedf0", "paper": "#ffffff"}
DARK = {"ink": "#e6e9ed", "muted": "#a5aeb9", "line": "#4a535e", "grid": "#2a3038", "paper": "#14171b"}


@dataclass(frozen=True)
class SeriesStyle:
    """Colour and shape; no colour is the surface's ink."""

    colour: str | None
    shape: str = "circle"


INK = SeriesStyle(None)


def style_at(index: int) -> SeriesStyle:
    """Of the first, second, … series: a draft has one everywhere."""
    return SeriesStyle(COLOURS[index % len(COLOURS)], SHAPES[index % len(SHAPES)])


def styles_of(names: Sequence[str]) -> dict[str, SeriesStyle]:
    """Of drafts, by their names: one has the same style in every chart, whatever stands beside it; only
    where two would have one colour the later of them takes the next that is free."""
    found: dict[str, SeriesStyle] = {}
    for name in dict.fromkeys(names):
        index = int(hashlib.md5(name.encode(), usedforsecurity=False).hexdigest(), 16) % NUM_STYLES
        taken = {style.colour for style in found.values()}
        while len(taken) < len(COLOURS) and _of_draft(index).colour in taken:
            index += 1
        found[name] = _of_draft(index)
    return found


def _of_draft(index: int) -> SeriesStyle:
    """In an order of its own: the two blues last of all."""
    order = (BLUE, GREEN, ORANGE, PINK, RED, SKY)
    return SeriesStyle(order[index % len(order)], SHAPES[index % len(SHAPES)])


def style_of(precision: str) -> SeriesStyle:
    """Of a format, the same everywhere."""
    known = formats.find(precision)
    return style_at(known.style_index) if known.name else SeriesStyle(GREY, "diamond")


def title_of(precision: str) -> str:
    """`BF16`"""
    return formats.find(precision).title or precision.upper()


def vega_config(colours: Mapping[str, str]) -> dict[str, Any]:
    """Vega-Lite's, for a surface of these colours."""
    ink, muted, line, grid = (colours[name] for name in ("ink", "muted", "line", "grid"))
    return {
        "font": FONT,
        "background": colours["paper"],
        "padding": 6,
        "view": {"stroke": None},
        "axis": {
            "labelColor": muted,
            "titleColor": muted,
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
            "titlePadding": 8,
            "domainColor": line,
            "tickColor": line,
            "gridColor": grid,
            "tickSize": 4,
        },
        "axisX": {"grid": False},
        # a mark's own default colour would hide its style's
        "text": {"color": ink},
        "rule": {"color": ink},
        "title": {
            "anchor": "start",
            "frame": "group",
            "color": ink,
            "subtitleColor": muted,
            "fontSize": 13.5,
            "fontWeight": 600,
            "subtitleFontSize": 12,
            "subtitlePadding": 3,
            "offset": 10,
        },
        "style": {
            "ink": {"color": ink, "stroke": ink},
            "drawn": {"color": ink},
            "label": {"color": ink, "fontSize": 12},
            "strong": {"color": ink, "fontSize": 12, "fontWeight": 600},
            "quiet": {"color": muted, "fontSize": 11.5},
            "level": {"color": muted},
            "shade": {"color": muted, "opacity": 0.14},
        },
    }
