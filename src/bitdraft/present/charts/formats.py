"""What formats lose over what they weigh: divergence from the reference over size, speed as area, and the
front of those that no other beats in both."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bitdraft.present.charts.plot import Axis, Chart, Panel, Plot, Point, figure_text
from bitdraft.present.charts.precision import about
from bitdraft.present.charts.style import INK, style_of, title_of
from bitdraft.schema.precision import PrecisionResult, PrecisionRow

LEAST = 3
"""Formats beside the reference that make a picture of their own"""
WIDTH, HEIGHT = 620, 330
_SMALLEST, _LARGEST = 40.0, 500.0
_NO_KLD = 1e-9


def has_front(result: PrecisionResult) -> bool:
    """Whether there are enough formats for a front."""
    return len(_rows(result)) >= LEAST


def chart(result: PrecisionResult) -> Chart:
    """The picture `precision_formats.png`."""
    return Chart(result.summary or "Not judged.", about(result), [divergence(result)], columns=1)


def divergence(result: PrecisionResult) -> Panel:
    """Left and down is better; a larger dot is faster."""
    rows = _rows(result)
    unit, scale = ("MiB", 2**20) if max(row.raw.weight_bytes or 0 for row in rows) < 2**30 else ("GiB", 2**30)
    sizes = [(row.raw.weight_bytes or 0) / scale for row in rows]
    losses = [_kld(row) for row in rows]
    low, high = min(losses) / 2.5, max(losses) * 2.5
    floor = None if result.floor is None else result.floor.kl_divergence
    if floor is not None and floor.value > _NO_KLD:
        low = min(low, floor.value / 2)
    room = 0.16 * (max(sizes) - min(sizes)) or 0.2 * max(sizes)
    x = Axis(f"size of the weights ({unit})", (max(0.0, min(sizes) - room / 2), max(sizes) + 2.2 * room))
    y = Axis("mean KL divergence (nats)", (low, high), log_base=10, format=".0e")
    plot = Plot(x, y, WIDTH, HEIGHT)
    if floor is not None and floor.value > _NO_KLD:
        plot.level(floor.value)
        at = x.domain[1] if x.domain else max(sizes)
        plot.text([(at, floor.value, "rounding alone")], style="quiet", align="right", shift=(-4, -8))
    front = front_of(list(zip(sizes, losses, strict=True)))
    plot.line([Point(sizes[i], losses[i]) for i in front], INK, width=1.2, dash="dashed")
    fastest = max(row.metrics["throughput_tok_s"].value for row in rows)
    said, named = [], []
    for row, size, loss in zip(rows, sizes, losses, strict=True):
        speed, figure = row.metrics["throughput_tok_s"], row.quality.kl_divergence
        label = title_of(row.precision)
        words = figure_text(figure, 6, "nats") if figure is not None else ""
        hover = {"title": label, "size": f"{size:.3g} {unit}", "KLD": words}
        hover["speed"] = figure_text(speed, 1, "tokens/s")
        area = _SMALLEST + (_LARGEST - _SMALLEST) * speed.value / fastest
        point = Point(size, loss, figure, hover)
        plot.whiskers([point], style_of(row.precision))
        plot.dots([point], style_of(row.precision), size=area)
        named.append((size, loss, f"{label}, {speed.value:.0f} tokens/s"))
        said.append(f"{label}: {hover['size']}, {words}, {hover['speed']}")
    plot.names(named, shift=math.sqrt(_LARGEST / math.pi) + 2)
    names = ", ".join(title_of(rows[i].precision) for i in front)
    caption = "left and down is better; a larger dot is faster; dashed: no other is smaller and closer"
    words = f"Scatter of divergence over size: {'; '.join(said)}. None beats {names} in both."
    return Panel("Formats: divergence over size", caption, words, plot, is_wide=True)


def front_of(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of those that no other is at most as large and as far as, the smallest first."""
    found: list[int] = []
    for place in sorted(range(len(points)), key=lambda i: points[i]):
        if not found or points[place][1] < points[found[-1]][1]:
            found.append(place)
    return found


def _rows(result: PrecisionResult) -> list[PrecisionRow]:
    return [
        row
        for row in result.rows
        if row.quality.kl_divergence is not None
        and row.raw.weight_bytes is not None
        and "throughput_tok_s" in row.metrics
    ]


def _kld(row: PrecisionRow) -> float:
    """A logarithm takes no zero."""
    figure = row.quality.kl_divergence
    return max(figure.value if figure is not None else 0.0, _NO_KLD)
