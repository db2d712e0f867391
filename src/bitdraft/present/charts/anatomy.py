"""The anatomy of speculation: acceptance by position, where the time of a step goes, predicted against
measured speedup, and what one forward costs. Drawn from a result alone."""

from __future__ import annotations

from bitdraft.present.charts.plot import Axis, Chart, Panel, Plot, Point, figure_text, reach
from bitdraft.present.charts.style import BLUE, INK, ORANGE, SKY, SeriesStyle, styles_of
from bitdraft.present.charts.sweep import about, aside, drafts_of, k_axis, span, title
from bitdraft.present.words import times_text
from bitdraft.schema.spec_decode import SpecDecodeResult, SpecDecodeRow

WIDTH, HEIGHT = 300, 240
PARTS = {"draft": SeriesStyle(SKY), "verify": SeriesStyle(BLUE), "host": SeriesStyle(ORANGE)}


def anatomy(result: SpecDecodeResult) -> Chart:
    """The picture `speculation_anatomy_<text>.png`, of what there are data for."""
    panels = [panel for panel in (positions(result), step_times(result), predictions(result)) if panel]
    return Chart(title(result), about(result), panels, columns=3)


def positions(result: SpecDecodeResult) -> Panel | None:
    """At each draft's largest K, which has all positions."""
    found: dict[str, tuple[SeriesStyle, list[Point], list[Point]]] = {}
    for name, (own, rows) in drafts_of(result).items():
        entries = rows[-1].acceptance_by_position
        shares = [
            Point(
                e.position,
                e.share,
                hover={
                    "title": f"{name}, position {e.position}",
                    "kept, of all steps": f"{e.share:.3f}, n = {e.n:.0f}",
                    "of those that kept the one before": ""
                    if e.conditional is None
                    else f"{e.conditional:.3f}",
                },
            )
            for e in entries
            if e.share is not None and e.n is not None
        ]
        given = [Point(e.position, e.conditional) for e in entries if e.conditional is not None]
        if shares:
            found[name] = (own, shares, given)
    if not found:
        return None
    last = max(int(shares[-1].x) for _, shares, _ in found.values())
    axis = Axis("position in the draft", (0.6, last + 0.4), range(1, last + 1), format="d")
    plot = Plot(axis, Axis("share kept", (0, 1)), WIDTH, HEIGHT)
    said = []
    for name, (own, shares, given) in found.items():
        plot.line(given, own, width=1.2, dash="dotted")
        plot.line(shares, own)
        plot.dots(shares, own)
        said.append(
            f"{name}: {float(shares[0].y):.2f} at position 1, {float(shares[-1].y):.2f} at {shares[-1].x}"
        )
    plot.names([(float(s[-1].x), float(s[-1].y), name) for name, (_, s, _) in found.items()])
    caption = "at the largest K; dotted: among steps that kept the token before"
    return Panel("Acceptance by position", caption, f"Share kept over position. {'; '.join(said)}.", plot)


def step_times(result: SpecDecodeResult) -> Panel | None:
    """A stacked bar a row, drafts side by side; a tick at what the costs predict."""
    drafts = {
        name: [row for row in rows if row.predicted.step is not None]
        for name, (_, rows) in drafts_of(result).items()
    }
    drafts = {name: rows for name, rows in drafts.items() if rows}
    if not drafts:
        return None
    totals = [_total(row) for rows in drafts.values() for row in rows]
    plot = Plot(k_axis(result), Axis("ms", (0, 1.22 * max(totals))), WIDTH, HEIGHT)
    pitch = WIDTH / (result.config.k[-1] - result.config.k[0] + 0.8)
    width = min(22.0, 0.8 * pitch / len(drafts))
    said = []
    for index, (name, rows) in enumerate(drafts.items()):
        shift = (index - (len(drafts) - 1) / 2) * width
        _stack(plot, name, rows, width, shift)
        plot.text(
            [(rows[0].k, _total(rows[0]), name)],
            style="quiet",
            angle=270,
            shift=(6, shift),
            baseline="middle",
        )
        said.append(f"{name} {span([(row.k, _total(row)) for row in rows], 2)}")
    for place, part in enumerate(PARTS):
        x = result.config.k[0] - 0.4
        plot.text(
            [(x, 1.22 * max(totals), f"■ {part}")],
            style="quiet",
            shift=(4 + 70 * place, 6),
            color=PARTS[part].colour,
        )
    caption = "draft, verification and host; the tick is what the measured costs predict"
    return Panel("Time of a step (ms)", caption, f"Milliseconds a step: {'; '.join(said)}.", plot)


def _total(row: SpecDecodeRow) -> float:
    assert row.predicted.step is not None
    return sum(row.predicted.step.part(part) for part in PARTS)


def _stack(plot: Plot, name: str, rows: list[SpecDecodeRow], width: float, shift: float) -> None:
    starts = [0.0] * len(rows)
    for part, own in PARTS.items():
        points = []
        for row, start in zip(rows, starts, strict=True):
            step = row.predicted.step
            assert step is not None
            predicted = step.predicted(part)
            hover = {
                "title": f"{name}, K = {row.k}",
                part: f"{step.part(part):.3f} ms",
                "predicted": "" if predicted is None else f"{predicted:.3f} ms",
            }
            points.append(Point(row.k, start + step.part(part), hover=hover))
        plot.floating_bars(points, starts, own, 0.9 * width, shift)
        starts = [float(point.y) for point in points]
    marks = []
    for row in rows:
        step = row.predicted.step
        assert step is not None
        predicted = sum(step.predicted(part) or 0.0 for part in PARTS)
        marks.append(
            Point(
                row.k, predicted, hover={"title": f"{name}, K = {row.k}", "predicted": f"{predicted:.3f} ms"}
            )
        )
    plot.ticks(marks, 0.9 * width, shift)


def predictions(result: SpecDecodeResult) -> Panel | None:
    """Speedup after the prefill: measured with intervals, by replay, by Leviathan's formula."""
    drafts = {
        name: (own, timed)
        for name, (own, rows) in drafts_of(result).items()
        if (timed := [row for row in rows if "decode_speedup" in row.metrics])
    }
    if not drafts:
        return None
    lines = {
        (name, key): [Point(row.k, value) for row in rows if (value := getattr(row.predicted, key))]
        for name, (_, rows) in drafts.items()
        for key in ("replay", "leviathan")
    }
    figures = [row.metrics["decode_speedup"] for _, rows in drafts.values() for row in rows]
    curves = [float(point.y) for line in lines.values() for point in line]
    plot = Plot(k_axis(result), Axis("× plain decoding", reach([*figures, *curves, 1.0])), WIDTH, HEIGHT)
    plot.level(1.0)
    ends, said = [], []
    for index, (name, (own, rows)) in enumerate(drafts.items()):
        measured = [
            Point(
                row.k,
                row.metrics["decode_speedup"].value,
                row.metrics["decode_speedup"],
                {
                    "title": f"{name}, K = {row.k}",
                    "measured": times_text(row.metrics["decode_speedup"]),
                    "by replay": "" if row.predicted.replay is None else f"{row.predicted.replay:.2f}×",
                    "by formula": ""
                    if row.predicted.leviathan is None
                    else f"{row.predicted.leviathan:.2f}×",
                },
            )
            for row in rows
        ]
        for key, dash in (("replay", "dashed"), ("leviathan", "dotted")):
            if lines[name, key]:
                plot.line(lines[name, key], own, width=1.2, dash=dash)
        points = aside(measured, index, len(drafts))
        plot.whiskers(points, own)
        plot.dots(points, own)
        ends.append((result.config.k[-1] + 0.4, float(points[-1].y), name))
        said.append(f"{name} {span([(row.k, row.metrics['decode_speedup'].value) for row in rows], 2)}")
    plot.names(ends)
    # an engine in a process of its own has no predictions
    caption = (
        "measured; dashed: predicted by replay; dotted: by Leviathan's formula" if curves else "measured"
    )
    words = f"Speedup after the prefill over K, measured: {'; '.join(said)}."
    return Panel("Speedup after the prefill", caption, words, plot)


def costs(result: SpecDecodeResult) -> Panel | None:
    """The target's forward over its number of tokens, and one of each draft."""
    target, drafts = result.costs.target_forward_ms, result.costs.draft_forward_ms
    if not target:
        return None
    sizes = sorted(target)
    figures = [*target.values(), *drafts.values()]
    axis = Axis("tokens in the forward", (0.6, sizes[-1] + 0.4), sizes, format="d")
    plot = Plot(axis, Axis("ms", (0, reach(figures, zero=True)[1])), WIDTH, HEIGHT)
    points = [
        Point(
            n,
            target[n].value,
            target[n],
            {"title": f"target over {n} tokens", "time": figure_text(target[n], 3, "ms")},
        )
        for n in sizes
    ]
    plot.line(points, INK)
    plot.whiskers(points)
    plot.dots(points, INK)
    ends = [(float(sizes[-1]), float(points[-1].y), "target")]
    first, last = (f"{target[size].value:.2f} over {size}" for size in (sizes[0], sizes[-1]))
    said = [f"target {first} to {last} tokens"]
    for (name, figure), own in zip(drafts.items(), styles_of(list(drafts)).values(), strict=True):
        hover = {"title": f"{name}, one token", "time": figure_text(figure, 4, "ms")}
        point = Point(1, figure.value, figure, hover)
        plot.dots([point], own)
        ends.append((1.0, figure.value, name))
        said.append(f"{name} {figure.value:.3f}")
    plot.names(ends)
    caption = "the flatter the target's line, the cheaper a verification"
    return Panel("Time of one forward (ms)", caption, f"Milliseconds of a forward: {'; '.join(said)}.", plot)
