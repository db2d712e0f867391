"""The 2×3 chart: throughput, TPOT, TTFT / PPL, peak memory, and the trade-off between them.

Drawn from a result alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from bitdraft import formats
from bitdraft.metrics.memory import memory_name
from bitdraft.present.charts.drawing import COLOURS, GREY, INK, margins, new_canvas, plain, png, tidy
from bitdraft.schema.precision import PrecisionResult, PrecisionRow
from bitdraft.schema.records import Figure

NOT_MEASURED = "random weights: quality not measured"
# by a format's style index: hatch of a bar, marker of a point
_HATCHES, _MARKERS = ("", "//", "..", "xx", "\\\\", "++"), ("o", "s", "^", "D", "v", "P")


def style_of(precision: str) -> tuple[str, str, str]:
    """Colour, hatch and marker of a format, the same ones everywhere."""
    known = formats.find(precision)
    if not known.name:
        return GREY, "xx", "D"
    index = known.style_index
    return COLOURS[index % len(COLOURS)], _HATCHES[index % len(_HATCHES)], _MARKERS[index % len(_MARKERS)]


def title_of(precision: str) -> str:
    """`BF16`"""
    return formats.find(precision).title or precision.upper()


def quality_is_skipped(rows: Sequence[PrecisionRow]) -> bool:
    """Random weights have speed and memory alone."""
    return any(row.quality.not_measured is not None for row in rows)


def render(result: PrecisionResult) -> bytes:
    """The chart as PNG bytes."""
    canvas = new_canvas(14, 8.4)
    axes = canvas.subplots(2, 3)
    rows = list(result.rows)
    memory = memory_name(row.metrics for row in rows)
    panels = [
        ("throughput_tok_s", "Throughput", "tokens/s", "higher is better", 1),
        ("tpot_ms", "TPOT, time per output token", "ms", "lower is better", 2),
        ("ttft_ms", "TTFT, time to first token", "ms", "lower is better", 1),
        ("ppl", "PPL, perplexity", "", "lower is better", 3),
        (memory, "Peak VRAM" if memory == "peak_vram_gb" else "Peak RAM", "GiB", "lower is better", 2),
    ]
    for axis, (key, title, unit, better, digits) in zip(axes.flat, panels, strict=False):
        if key == "ppl" and quality_is_skipped(rows):
            _say(axis, title, NOT_MEASURED)
            continue
        _bars(axis, rows, key, digits)
        axis.set_title(f"{title}{f' ({unit})' if unit else ''}\n{better}", fontsize=11)
    _trade_off(axes[1, 2], result, memory)
    canvas.suptitle(_title(result), fontsize=13)
    canvas.supxlabel(_footnote(result), fontsize=8.5, color=INK)
    return png(canvas)


def _title(result: PrecisionResult) -> str:
    where = result.environment.hardware
    return plain(f"{result.model.name} on {where}, text: {result.text.dataset}")


def _footnote(result: PrecisionResult) -> str:
    config = result.config
    if quality_is_skipped(result.rows):
        ppl, bars = NOT_MEASURED, "over prompts"
    else:
        ppl, bars = f"PPL protocol {config.ppl_protocol}", "over prompts (PPL: over blocks of text)"
    return plain(
        f"{len(result.text.prompt_ids)} prompts × {config.max_new_tokens} new tokens, batch 1, greedy, "
        f"backend {config.backend}; {ppl}; bars: 95 % interval {bars}"
    )


def _bars(axis: Axes, rows: Sequence[PrecisionRow], key: str, digits: int) -> None:
    tops = [f.high or f.value for row in rows if (f := row.metrics.get(key))]
    ceiling = max(tops, default=1.0)
    for index, row in enumerate(rows):
        figure = row.metrics.get(key)
        if figure is None:
            why, ink = ("not measured", INK) if row.status == "ok" else (row.status, "#B00020")
            axis.text(index, ceiling * 0.04, why, ha="center", rotation=90, color=ink, fontsize=11)
            continue
        colour, hatch, _ = style_of(row.precision)
        below, above = margins(figure)
        axis.bar(index, figure.value, color=colour, hatch=hatch, edgecolor="white", width=0.62)
        if below or above:
            axis.errorbar(index, figure.value, yerr=[[below], [above]], color=INK, capsize=5, lw=1.3)
        label = f"{figure.value:.{digits}f}"
        axis.text(index, figure.value + above + ceiling * 0.02, label, ha="center", va="bottom", fontsize=11)
    axis.set_xticks(range(len(rows)), [title_of(row.precision) for row in rows])
    axis.set_xlim(-0.6, len(rows) - 0.4)
    axis.set_ylim(0, ceiling * 1.14)
    tidy(axis)


def _say(axis: Axes, title: str, text: str) -> None:
    """Why a panel is empty."""
    axis.set_title(title, fontsize=11)
    axis.text(0.5, 0.5, text, ha="center", va="center", transform=axis.transAxes)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_xticks([])
    axis.set_yticks([])


def _trade_off(axis: Axes, result: PrecisionResult, memory: str) -> None:
    """Speed against quality loss relative to the reference; the area of a point is its memory."""
    comparisons = result.verdict.comparisons
    rows = [row for row in result.rows if row.status == "ok"]
    if quality_is_skipped(rows) or not comparisons or len(rows) < 2:
        why = NOT_MEASURED if quality_is_skipped(rows) else "needs two finished precisions"
        _say(axis, "Trade-off of speed, quality and memory", why)
        return
    axis.set_title("Trade-off: area = peak memory\nup and left is better", fontsize=11)
    axis.spines[["top", "right"]].set_visible(False)
    compared = {entry.precision: entry for entry in comparisons}
    largest = max(row.metrics[memory].value for row in rows)
    for row in rows:
        entry = compared.get(row.precision)
        speed = entry.speedup if entry is not None else Figure(value=1.0)
        across = in_percent(entry.ppl_change if entry is not None else None)
        colour, _, marker = style_of(row.precision)
        area = 500 * row.metrics[memory].value / largest
        sides = [[side] for side in margins(across)], [[side] for side in margins(speed)]
        axis.errorbar(across.value, speed.value, xerr=sides[0], yerr=sides[1], color=INK, lw=1, capsize=3)
        label = f"{title_of(row.precision)}, {row.metrics[memory].value:.2f} GiB"
        axis.scatter(
            across.value,
            speed.value,
            s=area,
            color=colour,
            marker=marker,
            alpha=0.75,
            edgecolor=INK,
            zorder=3,
            label=label,
        )
    axis.axhline(1, color=INK, lw=0.7, ls=":")
    axis.axvline(0, color=INK, lw=0.7, ls=":")
    axis.margins(0.25, 0.35)
    axis.set_ylim(bottom=max(0.0, axis.get_ylim()[0]))
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.legend(loc="best", fontsize=9.5, markerscale=0.45, framealpha=0.85)
    axis.grid(alpha=0.25)
    axis.set_xlabel(f"PPL change against {comparisons[0].reference} (%)")
    axis.set_ylabel("speed relative to it (×)")


def in_percent(change: Figure | None) -> Figure:
    """A share as percent; nothing changed where there is none."""
    if change is None:
        return Figure(value=0.0)
    ends = (change.value, change.low, change.high)
    value, low, high = (None if end is None else 100 * end for end in ends)
    return Figure(value=value or 0.0, low=low, high=high, n=change.n)
