"""The forest plot of a comparison: every ratio with its interval on a logarithmic axis around 1.

Colour, marker and its side of the line say the same: what is significantly better, worse, or neither.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from bitdraft.present.charts.drawing import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    RED,
    margins,
    new_canvas,
    plain,
    png,
    tidy,
)
from bitdraft.schema.comparison import Comparison, Ratio, RowComparison

MOST_ROWS = 60
_PANELS = {
    "throughput_tok_s": ("Throughput", "higher is better"),
    "tpot_ms": ("TPOT", "lower is better"),
    "ttft_ms": ("TTFT", "lower is better"),
    "speedup": ("Speedup over K = 0", "higher is better"),
    "ppl": ("PPL", "lower is better"),
}
# colour, marker, whether it is filled, and what it says
_STYLES = {
    "better": (BLUE, "o", True, "B significantly better"),
    "worse": (RED, "v", True, "B significantly worse"),
    "same": (INK, "s", False, "cannot be told apart"),
    "drift": (ORANGE, "D", False, "no further than the machine changed"),
    "unknown": (GREY, "X", False, "too few items for an interval"),
}
_STEPS = [digit * 10.0**power for power in range(-7, 0) for digit in (1, 2, 5)]


def render(comparison: Comparison) -> bytes:
    """The chart as PNG bytes: a panel a metric, a line a row."""
    rows = [row for row in comparison.rows if row.ratios][:MOST_ROWS]
    keys = [key for key in _PANELS if any(key in row.ratios for row in rows)] or ["throughput_tok_s"]
    canvas = new_canvas(3.4 + 2.9 * len(keys), 2.4 + 0.3 * len(rows))
    axes = canvas.subplots(1, len(keys), sharey=True, squeeze=False)[0]
    for axis, key in zip(axes, keys, strict=True):
        _panel(axis, key, rows)
    labels = [_label(row, index, rows) for index, row in enumerate(rows)]
    axes[0].set_yticks(range(len(rows)), labels, fontsize=9)
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    canvas.suptitle(plain(_title(comparison)), fontsize=12)
    # the footnote is the legend's title: both stand below the panels, and neither on the other
    canvas.legend(
        handles=_handles(rows, keys),
        title=plain(_footnote(comparison)),
        title_fontsize=8.5,
        loc="outside lower center",
        ncols=5,
        fontsize=9,
        frameon=False,
    )
    return png(canvas)


def _title(comparison: Comparison) -> str:
    subjects = []
    for side in (comparison.a, comparison.b):
        files = side.files.values()
        subjects.append(", ".join(dict.fromkeys(f"{f.model} on {f.hardware}" for f in files)))
    if subjects[0] == subjects[1]:
        return f"B over A: {subjects[0]}"
    return f"B over A\nA: {subjects[0]}\nB: {subjects[1]}"


def _footnote(comparison: Comparison) -> str:
    num_drawn = sum(bool(row.ratios) for row in comparison.rows)
    text = "bars: 95 % interval over prompts (PPL: over blocks of text)"
    text += "; A and B were not measured in turn"
    missing = [row for row in comparison.rows if row.status_a != row.status_b]
    if missing:
        names = "; ".join(f"{row.name.full}: {row.status_a} → {row.status_b}" for row in missing[:4])
        text += f"\n{names}{f' and {len(missing) - 4} more' if len(missing) > 4 else ''}"
    if num_drawn > MOST_ROWS:
        text += f"\n{num_drawn - MOST_ROWS} more rows are in the CSV"
    return text


def _label(row: RowComparison, index: int, rows: Sequence[RowComparison]) -> str:
    """Short within a file; the first of a file's rows with all of its name."""
    first = index == 0 or rows[index - 1].name.source != row.name.source
    return plain(row.name.full if first else row.name.short)


def _panel(axis: Axes, key: str, rows: Sequence[RowComparison]) -> None:
    title, better = _PANELS[key]
    axis.set_title(f"{title}\n{better}", fontsize=10.5)
    ratios = [(index, row.ratios[key]) for index, row in enumerate(rows) if key in row.ratios]
    for index, ratio in ratios:
        colour, marker, is_filled, _ = _STYLES[ratio.standing]
        sides = [[side] for side in margins(ratio.ratio)]
        axis.errorbar(
            ratio.ratio.value,
            index,
            xerr=sides if ratio.ratio.low is not None else None,
            color=colour,
            marker=marker,
            mfc=colour if is_filled else "white",
            ms=6.5,
            lw=1.5,
            capsize=3,
        )
    axis.set_xscale("log")
    _around_one(axis, [ratio for _, ratio in ratios])
    axis.axvline(1, color=INK, lw=1, zorder=0)
    for index in range(1, len(rows)):
        if rows[index].name.source != rows[index - 1].name.source:
            axis.axhline(index - 0.5, color=GREY, lw=0.8, ls=":")
    tidy(axis, "x")


def _around_one(axis: Axes, ratios: Sequence[Ratio]) -> None:
    """Limits at equal factors on both sides of 1, and ticks that can be read at any width."""
    ends = [end for r in ratios for end in (r.ratio.low, r.ratio.value, r.ratio.high) if end]
    reach = 1.12 * max([abs(math.log(end)) for end in ends] + [1e-4])
    axis.set_xlim(math.exp(-reach), math.exp(reach))
    if reach > math.log(1.9):
        power = max(1, math.floor(reach / math.log(2) / 2))
        ticks = [2.0 ** (power * i) for i in (-2, -1, 0, 1, 2)]
    else:
        step = max((s for s in _STEPS if s <= 0.55 * reach), default=_STEPS[0])
        ticks = [1 + step * i for i in range(-4, 5)]
        ticks = ticks[::2] if sum(abs(math.log(tick)) < reach for tick in ticks) > 5 else ticks
    axis.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if abs(math.log(tick)) <= reach]))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:.7g}×" if value == 1 else f"{value:.7g}")
    )
    axis.tick_params(axis="x", labelsize=9)


def _handles(rows: Sequence[RowComparison], keys: Sequence[str]) -> list[Any]:
    used = {row.ratios[key].standing for row in rows for key in keys if key in row.ratios}
    return [
        Line2D([], [], color=colour, marker=marker, mfc=colour if filled else "white", lw=1.5, label=text)
        for name, (colour, marker, filled, text) in _STYLES.items()
        if name in used
    ]
