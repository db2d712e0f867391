"""Throughput and speedup over the batch size. Drawn from a result alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bitdraft.present.charts.plot import Axis, Chart, Panel, Plot, Point, figure_text, reach
from bitdraft.present.charts.style import INK, styles_of
from bitdraft.present.charts.sweep import HEIGHT, WIDTH, about, title
from bitdraft.present.sweep_table import points_by_size
from bitdraft.schema.records import Figure
from bitdraft.schema.spec_decode import SpecDecodeResult


def batch_chart(result: SpecDecodeResult) -> Chart:
    """The picture `speculation_batches_<text>.png`."""
    sizes = ", ".join(str(size) for size, _ in points_by_size(result)[0])
    failed = [f"batch {r.batch_size}, {r.draft} K={r.k}" for r in result.batches if r.status != "ok"]
    more = f" and {len(failed) - 6} more" if len(failed) > 6 else ""
    note = f"not drawn, because they failed: {'; '.join(failed[:6])}{more}" if failed else ""
    words = about(result, f"batch {sizes}", "prompts at batch 1, over groups above")
    return Chart(title(result), words, batch_panels(result), columns=2, note=note)


def batch_panels(result: SpecDecodeResult) -> list[Panel]:
    """Throughput of the batch, and speedup over plain decoding at the same size; a draft at its fastest K."""
    plain, drafts = points_by_size(result)
    if not plain:
        return []
    rates = {
        name: [(size, row.metrics["throughput_tok_s"], row.k) for size, row in points]
        for name, points in drafts.items()
    }
    gains = {
        name: [(size, row.metrics["speedup"], row.k) for size, row in points if "speedup" in row.metrics]
        for name, points in drafts.items()
    }
    sizes = [size for size, _ in plain]
    figures = [figure for _, figure in plain]
    left = Plot(_size_axis(sizes), Axis("tokens/s", _from_zero(rates, figures)), WIDTH, HEIGHT)
    right = Plot(
        _size_axis(sizes),
        Axis("×", reach([1.0, *(f for own in gains.values() for _, f, _ in own)])),
        WIDTH,
        HEIGHT,
    )
    points = [_point("plain decoding", size, figure, 1, "tok/s") for size, figure in plain]
    left.line(points, INK, dash="dashed")
    left.whiskers(points)
    left.dots(points, INK, size=40)
    right.level(1.0)
    left_ends = [(float(sizes[-1]), float(points[-1].y), "plain decoding")]
    right_ends = [(float(sizes[-1]), 1.0, "plain decoding")]
    styles = styles_of(result.labels)
    said = []
    for name in drafts:
        own = styles[name]
        for plot, found, ends, digits, unit in (
            (left, rates, left_ends, 1, "tok/s"),
            (right, gains, right_ends, 2, "×"),
        ):
            mine = [_point(f"{name}, K = {k}", size, figure, digits, unit) for size, figure, k in found[name]]
            if not mine:
                continue
            plot.line(mine, own)
            plot.whiskers(mine, own)
            plot.dots(mine, own)
            ks = ", ".join(dict.fromkeys(str(k) for _, _, k in found[name]))
            ends.append((float(mine[-1].x), float(mine[-1].y), name if plot is left else f"{name}, K = {ks}"))
        values = ", ".join(f"{figure.value:.2f} at batch {size}" for size, figure, _ in gains[name])
        said.append(f"{name} {values}")
    left.names(left_ends)
    right.names(right_ends)
    spoken = ", ".join(f"{figure.value:.1f} at batch {size}" for size, figure in plain)
    return [
        Panel(
            "Throughput of the batch (tokens/s)",
            "each draft at its fastest K",
            f"Throughput over the batch size, plain decoding: {spoken}.",
            left,
        ),
        Panel(
            "Speedup (× plain decoding at the same batch size)",
            "above 1 speculation pays",
            f"Speedup over the batch size: {'; '.join(said)}.",
            right,
        ),
    ]


def _point(name: str, size: int, figure: Figure, digits: int, unit: str) -> Point:
    hover = {"title": f"batch {size}: {name}", "value": figure_text(figure, digits, unit)}
    return Point(size, figure.value, figure, hover)


def _from_zero(
    rates: Mapping[str, Sequence[tuple[int, Figure, int]]], plain: Sequence[Figure]
) -> tuple[float, float]:
    return reach([*plain, *(figure for own in rates.values() for _, figure, _ in own)], zero=True)


def _size_axis(sizes: Sequence[int]) -> Axis:
    ends = sizes[0] / 2**0.3, sizes[-1] * 2**0.3
    return Axis("batch size, prompts decoded at once", ends, sizes, log_base=2, format="d")
