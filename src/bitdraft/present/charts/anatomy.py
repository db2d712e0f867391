"""The anatomy of speculation: acceptance by position, where the time of a step goes, and predicted against
measured speedup. Drawn from a result alone."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from bitdraft.present.charts.drawing import BLUE, GREY, INK, ORANGE, SKY, legend, new_canvas, plain, png, tidy
from bitdraft.present.charts.sweep import StyledRows, drafts_of, draw_line, footnote, k_axis, title
from bitdraft.schema.spec_decode import SpecDecodeResult

# colour and hatch of a step's parts
_PARTS = {"draft": (SKY, "//"), "verify": (BLUE, ""), "host": (ORANGE, "xx")}


def anatomy(result: SpecDecodeResult) -> bytes:
    """Acceptance by position; where a step's time goes; predicted against measured speedup."""
    canvas = new_canvas(16, 5.2)
    left, middle, right = canvas.subplots(1, 3)
    drafts = drafts_of(result)
    _positions(left, drafts)
    _step_times(middle, drafts)
    _predictions(right, result, drafts)
    canvas.suptitle(title(result), fontsize=13)
    canvas.supxlabel(footnote(result), fontsize=8.5, color=INK)
    return png(canvas)


def _positions(axis: Axes, drafts: StyledRows) -> None:
    """At the largest K, which has all positions."""
    for name, (colour, marker, rows) in drafts.items():
        table = rows[-1].acceptance_by_position
        for key, style in (("share", "-"), ("conditional", ":")):
            points = [(e.position, getattr(e, key)) for e in table if getattr(e, key) is not None]
            if points:
                label = plain(name) if key == "share" else None
                axis.plot(
                    *zip(*points, strict=True), color=colour, marker=marker, ls=style, ms=5, label=label
                )
    axis.plot([], [], color=GREY, label="of all steps")
    axis.plot([], [], color=GREY, ls=":", label="of those that kept the one before")
    axis.set_ylim(0, 1.3)
    axis.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axis.set_xlabel("position in the draft")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_title("Acceptance by position (at the largest K)", fontsize=11)
    tidy(axis)
    legend(axis, fontsize=8.5, loc="upper left", ncols=2)


def _step_times(axis: Axes, drafts: StyledRows) -> None:
    """A stacked bar a row; beside it the prediction from costs as a tick."""
    width = 0.8 / max(1, len(drafts))
    drawn = False
    for index, (name, (_, _, rows)) in enumerate(drafts.items()):
        offset = (index - (len(drafts) - 1) / 2) * width
        for row in rows:
            step = row.predicted.step
            if step is None:
                continue
            bottom = 0.0
            for part, (colour, hatch) in _PARTS.items():
                height = step.part(part)
                axis.bar(
                    row.k + offset, height, width * 0.9, bottom, color=colour, hatch=hatch, edgecolor="white"
                )
                bottom += height
            predicted = sum(step.predicted(part) or 0.0 for part in _PARTS)
            ends = row.k + offset - width * 0.45, row.k + offset + width * 0.45
            axis.plot(ends, (predicted, predicted), color=INK, lw=2)
            drawn = True
        if rows:
            axis.text(
                rows[0].k + offset,
                0,
                f" {plain(name)}",
                rotation=90,
                va="bottom",
                ha="center",
                fontsize=7.5,
                color="black",
                bbox={"facecolor": "white", "alpha": 0.75, "lw": 0, "pad": 0.8},
            )
    axis.set_title("Time of a step (ms)", fontsize=11)
    axis.set_xlabel("K")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    tidy(axis)
    if not drawn:
        _no_data(axis, "measured by the native backend only")
        return
    for part, (colour, hatch) in _PARTS.items():
        axis.bar(rows[0].k, 0, color=colour, hatch=hatch, edgecolor="white", label=part)
    axis.plot([], [], color=INK, lw=2, label="predicted from costs")
    axis.set_ylim(0, axis.get_ylim()[1] * 1.25)
    legend(axis, fontsize=8.5, ncols=2, loc="upper left")


def _predictions(axis: Axes, result: SpecDecodeResult, drafts: StyledRows) -> None:
    axis.axhline(1, color=INK, ls="--", lw=1)
    predicted = False
    for name, (colour, marker, rows) in drafts.items():
        timed = [row for row in rows if "decode_speedup" in row.metrics]
        draw_line(
            axis,
            [r.k for r in timed],
            [r.metrics["decode_speedup"] for r in timed],
            (colour, marker),
            label=name,
        )
        for key, style in (("replay", "--"), ("leviathan", ":")):
            points = [(row.k, getattr(row.predicted, key)) for row in rows if getattr(row.predicted, key)]
            if points:
                axis.plot(*zip(*points, strict=True), color=colour, ls=style, lw=1.4)
                predicted = True
    if predicted:
        axis.plot([], [], color=GREY, ls="--", label="predicted by replay")
        axis.plot([], [], color=GREY, ls=":", label="predicted by Leviathan's formula")
    k_axis(axis, result)
    axis.set_ylim(bottom=0)
    axis.set_title("Speedup after the prefill (× of K = 0)", fontsize=11)
    legend(axis, fontsize=8.5)


def _no_data(axis: Axes, why: str) -> None:
    axis.text(0.5, 0.5, why, ha="center", va="center", transform=axis.transAxes)
