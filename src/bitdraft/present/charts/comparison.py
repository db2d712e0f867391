"""The forest plot of a comparison: every ratio with its interval on a logarithmic axis around 1.

Colour, shape and its side of the line say the same: what is significantly better, worse, or neither.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from bitdraft.present.charts.plot import Axis, Chart, Panel, Plot, Point
from bitdraft.present.charts.style import BLUE, GREY, ORANGE, RED, SeriesStyle
from bitdraft.present.words import ratio_text
from bitdraft.schema.comparison import Comparison, Ratio, RowComparison

MOST_ROWS = 60
WIDTH, ROW_HEIGHT = 190, 24
_PANELS = {
    "throughput_tok_s": ("Throughput", "higher is better"),
    "tpot_ms": ("TPOT", "lower is better"),
    "ttft_ms": ("TTFT", "lower is better"),
    "speedup": ("Speedup over K = 0", "higher is better"),
    "ppl": ("PPL", "lower is better"),
}
# style, whether it is filled, and what it says
_STANDINGS = {
    "better": (SeriesStyle(BLUE, "circle"), True, "● B significantly better"),
    "worse": (SeriesStyle(RED, "triangle-down"), True, "▼ B significantly worse"),
    "same": (SeriesStyle(None, "square"), False, "□ no significant difference"),
    "drift": (SeriesStyle(ORANGE, "diamond"), True, "◆ no further than the machine changed"),
    "unknown": (SeriesStyle(GREY, "cross"), True, "✚ too few items for an interval"),
}
_STEPS = [digit * 10.0**power for power in range(-7, 0) for digit in (1, 2, 5)]


def chart(comparison: Comparison) -> Chart:
    """A panel a metric, a line a row."""
    rows = [row for row in comparison.rows if row.ratios][:MOST_ROWS]
    keys = [key for key in _PANELS if any(key in row.ratios for row in rows)] or ["throughput_tok_s"]
    panels = [_panel(key, rows, is_first=index == 0) for index, key in enumerate(keys)]
    used = {row.ratios[key].standing for row in rows for key in keys if key in row.ratios}
    legend = "   ".join(text for name, (_, _, text) in _STANDINGS.items() if name in used)
    return Chart(
        comparison.summary or "B over A",
        _about(comparison),
        panels,
        len(panels),
        f"{legend}. {_note(comparison)}",
    )


def _about(comparison: Comparison) -> str:
    subjects = []
    for side in (comparison.a, comparison.b):
        files = side.files.values()
        subjects.append(", ".join(dict.fromkeys(f"{f.model} on {f.hardware}" for f in files)))
    if subjects[0] == subjects[1]:
        return f"B over A: {subjects[0]}"
    return f"B over A · A: {subjects[0]} · B: {subjects[1]}"


def _note(comparison: Comparison) -> str:
    num_drawn = sum(bool(row.ratios) for row in comparison.rows)
    text = "Whiskers: 95 % interval over prompts (PPL: over blocks of text)"
    text += "; A and B were not measured in turn"
    missing = [row for row in comparison.rows if row.status_a != row.status_b]
    if missing:
        names = "; ".join(f"{row.name.full}: {row.status_a} → {row.status_b}" for row in missing[:4])
        text += f". {names}{f' and {len(missing) - 4} more' if len(missing) > 4 else ''}"
    if num_drawn > MOST_ROWS:
        text += f". {num_drawn - MOST_ROWS} more rows are in the CSV"
    return f"{text}."


def _label(row: RowComparison, index: int, rows: Sequence[RowComparison]) -> str:
    """Short within a file; the first of a file's rows with all of its name."""
    first = index == 0 or rows[index - 1].name.source != row.name.source
    return row.name.full if first else row.name.short


def _panel(key: str, rows: Sequence[RowComparison], *, is_first: bool) -> Panel:
    title, better = _PANELS[key]
    found = [(index, row, row.ratios[key]) for index, row in enumerate(rows) if key in row.ratios]
    domain, ticks = _around_one([ratio for _, _, ratio in found])
    y = Axis(domain=(-0.5, len(rows) - 0.5), is_shown=False, from_top=True)
    plot = Plot(Axis(domain=domain, ticks=ticks, log_base=10, format="~g"), y, WIDTH, ROW_HEIGHT * len(rows))
    plot.level(1, "x", dash=False)
    for index in range(1, len(rows)):
        if rows[index].name.source != rows[index - 1].name.source:
            plot.level(index - 0.5, "y")
    for index, row, ratio in found:
        own, is_filled, said = _STANDINGS[ratio.standing]
        hover = {"title": row.name.full, title: ratio_text(key, ratio.ratio), "": said}
        point = Point(ratio.ratio.value, index, ratio.ratio, hover)
        plot.whiskers([point], own, along="x")
        plot.dots([point], own, hollow=not is_filled)
    if is_first:
        places = [(domain[0], index, _label(row, index, rows)) for index, row in enumerate(rows)]
        plot.text(places, align="right", shift=(-10, 0))
    words = "; ".join(f"{row.name.full} {ratio_text(key, ratio.ratio)}" for _, row, ratio in found)
    return Panel(title, better, f"{title}, B over A: {words}.", plot)


def _around_one(ratios: Sequence[Ratio]) -> tuple[tuple[float, float], list[float]]:
    """Limits at equal factors on both sides of 1, and ticks that can be read at any width."""
    ends = [end for r in ratios for end in (r.ratio.low, r.ratio.value, r.ratio.high) if end]
    reach = 1.12 * max([abs(math.log(end)) for end in ends] + [1e-4])
    if reach > math.log(1.9):
        power = max(1, math.floor(reach / math.log(2) / 2))
        ticks = [2.0 ** (power * i) for i in (-2, -1, 0, 1, 2)]
    else:
        step = max((s for s in _STEPS if s <= 0.55 * reach), default=_STEPS[0])
        ticks = [1 + step * i for i in range(-4, 5)]
        ticks = ticks[::2] if sum(abs(math.log(tick)) < reach for tick in ticks) > 5 else ticks
    return (math.exp(-reach), math.exp(reach)), [round(t, 9) for t in ticks if abs(math.log(t)) <= reach]
