"""Throughput and speedup over the batch size. Drawn from a result alone."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from bitdraft.present.charts.drawing import INK, legend, new_canvas, plain, png, tidy
from bitdraft.present.charts.sweep import draw_line, footnote, style, title
from bitdraft.present.sweep_table import points_by_size
from bitdraft.schema.records import Figure
from bitdraft.schema.spec_decode import SpecDecodeResult


def batch_chart(result: SpecDecodeResult) -> bytes:
    """Left: throughput over the batch size, K = 0 and each draft at its fastest K; right: speedup over K = 0
    at the same batch size, and the K of each draft's points."""
    canvas = new_canvas(13, 5.4)
    left, right = canvas.subplots(1, 2)
    plain_points, drafts = points_by_size(result)
    figures = [figure for _, figure in plain_points]
    _draw(left, [size for size, _ in plain_points], figures, (INK, "."), "K = 0")
    right.axhline(1, color=INK, ls="--", lw=1.4, label="K = 0")
    # a draft keeps its colour whatever failed
    indices = {name: index for index, name in enumerate(result.labels)}
    for name, points in drafts.items():
        sizes, rows = [size for size, _ in points], [row for _, row in points]
        ks = ", ".join(str(row.k) for row in rows)
        for axis, key, label in ((left, "throughput_tok_s", name), (right, "speedup", f"{name}: K = {ks}")):
            _draw(axis, sizes, [row.metrics[key] for row in rows], style(indices[name]), label)
    left.set_title("Throughput of the batch (tokens/s)\neach draft at its fastest K", fontsize=11)
    right.set_title("Speedup (× of K = 0 at the same batch size)\nhigher is better", fontsize=11)
    for axis in (left, right):
        _size_axis(axis, [size for size, _ in plain_points])
        legend(axis, loc="best", fontsize=9.5)
    left.set_ylim(bottom=0)
    canvas.suptitle(title(result), fontsize=13)
    sizes_text = ", ".join(str(size) for size, _ in plain_points)
    note = footnote(result, f"batch {sizes_text}", "prompts at batch 1, over groups above")
    failed = [f"batch {r.batch_size}, {r.draft} K={r.k}" for r in result.batches if r.status != "ok"]
    if failed:
        more = f" and {len(failed) - 6} more" if len(failed) > 6 else ""
        note += plain(f"\nnot drawn, because they failed: {'; '.join(failed[:6])}{more}")
    canvas.supxlabel(note, fontsize=8.5, color=INK)
    return png(canvas)


def _draw(
    axis: Axes, sizes: Sequence[int], figures: Sequence[Figure], look: tuple[str, str], label: str
) -> None:
    """A line with the intervals as a band. Larger batches have fewer groups and may have no interval, so that
    each interval stands at its point, too."""
    draw_line(axis, sizes, figures, look, label=label)
    for size, figure in zip(sizes, figures, strict=True):
        if figure.low is not None and figure.high is not None:
            axis.plot([size, size], [figure.low, figure.high], color=look[0], lw=1, marker="_", ms=6)


def _size_axis(axis: Axes, sizes: Sequence[int]) -> None:
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_locator(FixedLocator(sizes))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticklabels([str(size) for size in sizes])
    axis.set_xlim(sizes[0] / 2**0.25, sizes[-1] * 2**0.4)
    axis.set_xlabel("batch size, prompts decoded at once")
    tidy(axis)
