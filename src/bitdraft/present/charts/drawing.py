"""What all charts share. Colours are Okabe and Ito's (2008), which colour-blind readers tell apart;
markers, hatches and labels carry the same meaning in grey."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from bitdraft.schema.records import Figure

BLUE, ORANGE, GREEN, PINK, SKY, RED = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"
GREY, INK = "#999999", "#333333"
# of the first, second, … series; seven markers beside six colours, so that no two of 42 are alike
COLOURS, MARKERS = (BLUE, ORANGE, GREEN, PINK, SKY, RED), "os^DvPX"


def new_canvas(width: float, height: float) -> Canvas:
    """Inches at 120 dots each."""
    return Canvas(figsize=(width, height), dpi=120, layout="constrained")


def png(canvas: Canvas) -> bytes:
    """As a file's bytes."""
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png")
    return buffer.getvalue()


def plain(text: object) -> str:
    """Text that matplotlib shows as it is: no mathematics between dollar signs."""
    return str(text).replace("$", r"\$")


def margins(figure: Figure) -> tuple[float, float]:
    """How far the interval reaches below and above the value."""
    if figure.low is None or figure.high is None:
        return 0.0, 0.0
    return max(0.0, figure.value - figure.low), max(0.0, figure.high - figure.value)


def tidy(axis: Axes, grid: str = "y") -> None:
    """No box, a faint grid behind what is drawn."""
    axis.spines[["top", "right"]].set_visible(False)
    grid_axis: Any = grid
    axis.grid(axis=grid_axis, alpha=0.25)
    axis.set_axisbelow(True)


def legend(axis: Axes, **settings: Any) -> None:
    """A legend where there is something to explain."""
    if axis.get_legend_handles_labels()[0]:
        axis.legend(framealpha=0.85, **settings)
