"""Throughput and acceptance over K, with what was predicted as thin lines; and the plan. Drawn from a result
alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bitdraft.config import SpecDecodeConfig
from bitdraft.present.charts.plot import Axis, Chart, Panel, Plot, Point, figure_text, reach
from bitdraft.present.charts.style import SeriesStyle, styles_of
from bitdraft.present.words import machine_text, times_text
from bitdraft.schema.records import Figure
from bitdraft.schema.spec_decode import SpecDecodeResult, SpecDecodeRow

WIDTH, HEIGHT = 400, 270
StyledRows = dict[str, tuple[SeriesStyle, list[SpecDecodeRow]]]


def drafts_of(result: SpecDecodeResult) -> StyledRows:
    """By draft: its style and finished rows, those without any left out."""
    styled = {}
    for name, own in styles_of(result.labels).items():
        rows = [row for row in result.sweep if row.draft == name and row.status == "ok"]
        if rows:
            styled[name] = (own, rows)
    return styled


def aside(points: Sequence[Point], index: int, num: int) -> list[Point]:
    """Points of several drafts at one K stand side by side, so that their whiskers are told apart."""
    return [replace(point, x=float(point.x) + 0.09 * (index - (num - 1) / 2)) for point in points]


def k_axis(result: SpecDecodeResult) -> Axis:
    """A tick at each K that was asked for."""
    ks = result.config.k
    return Axis("K, speculative tokens per step", (ks[0] - 0.4, ks[-1] + 0.4), ks, format="d")


def comparison(result: SpecDecodeResult) -> Chart:
    """The picture `speculative_comparison_<text>.png`."""
    note = _not_drawn([f"{row.draft} K={row.k}: {row.status}" for row in result.sweep if row.status != "ok"])
    return Chart(title(result), about(result), [throughput(result), acceptance(result)], columns=2, note=note)


def _not_drawn(names: Sequence[str]) -> str:
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return f"not drawn: {', '.join(names[:6])}{more}" if names else ""


def chosen(result: SpecDecodeResult) -> set[tuple[str | None, int]]:
    """The recommended (draft, K) and those that are statistically tied with it."""
    verdict = result.verdict
    return {*verdict.indistinguishable, (verdict.draft, verdict.k or 0)} if verdict.speculate else set()


def throughput(result: SpecDecodeResult) -> Panel:
    """A dot with whiskers for each measured (draft, K), plain decoding across, predictions as thin lines."""
    assert result.baseline is not None
    baseline = result.baseline.metrics["throughput_tok_s"]
    return _over_k(result, "throughput_tok_s", baseline, ("Throughput (tokens/s)", "tok/s", 1))


def speedup(result: SpecDecodeResult) -> Panel:
    """The same as a multiple of plain decoding, which was measured in turn with it."""
    return _over_k(result, "speedup", Figure(value=1.0), ("Speedup (× plain decoding)", "×", 2))


def _over_k(result: SpecDecodeResult, key: str, plain: Figure, words: tuple[str, str, int]) -> Panel:
    heading, unit, digits = words
    drafts, ks, best = drafts_of(result), result.config.k, chosen(result)
    lines = {name: _predicted(result, name, plain.value) for name in drafts}
    figures = [row.metrics[key] for _, rows in drafts.values() for row in rows if key in row.metrics]
    curves = [float(point.y) for line in lines.values() for point in line]
    plot = Plot(k_axis(result), Axis(unit, reach([*figures, *curves, plain], pad=0.1)), WIDTH, HEIGHT)
    if plain.low is not None and plain.high is not None:
        plot.shade(plain.low, plain.high)
    plot.level(plain.value)
    ends = [(ks[-1] + 0.4, plain.value, f"plain decoding{f' {plain.value:.1f}' if unit == 'tok/s' else ''}")]
    said = [f"plain decoding {plain.value:.{digits}f}"]
    stars = []
    for index, (name, (own, rows)) in enumerate(drafts.items()):
        if lines[name]:
            plot.line(lines[name], own, width=1.2)
        points = aside([_measured(row, key) for row in rows if key in row.metrics], index, len(drafts))
        plot.whiskers(points, own)
        stars += [(p, own) for p, row in zip(points, rows, strict=False) if (row.draft, row.k) in best]
        plot.dots([p for p, row in zip(points, rows, strict=False) if (row.draft, row.k) not in best], own)
        if points:
            is_last = rows[-1].k == ks[-1] or not lines[name]
            last = points[-1] if is_last else lines[name][-1]
            ends.append((ks[-1] + 0.4, float(last.y), name))
            values = [(row.k, row.metrics[key].value) for row in rows if key in row.metrics]
            said.append(f"{name} {span(values, digits)}")
    for point, own in stars:
        plot.stars([point], own)
    plot.names(ends)
    thin = "thin line: predicted by replay and costs" if any(lines.values()) else ""
    star = "★ recommended" + (" and tied" if len(best) > 1 else "") if stars else ""
    caption = "; ".join(["higher is better", *filter(None, (thin, star))])
    return Panel(heading, caption, f"{heading} over K: {'; '.join(said)}.", plot)


def _measured(row: SpecDecodeRow, key: str) -> Point:
    figure, gain = row.metrics[key], row.metrics.get("speedup")
    hover = {
        "title": f"{row.draft}, K = {row.k}",
        "tokens/s": figure_text(row.metrics["throughput_tok_s"], 1),
    }
    hover["speedup"] = "" if gain is None else times_text(gain)
    return Point(row.k, figure.value, figure, hover)


def _predicted(result: SpecDecodeResult, draft: str, plain: float) -> list[Point]:
    """What replay and costs predict over all K, prefills included."""
    entry = result.plan.get(draft)
    if entry is None:
        return []
    ks = result.config.k
    return [Point(k, plain * p.replay_end_to_end) for k, p in entry.by_k.items() if ks[0] <= k <= ks[-1]]


def acceptance(result: SpecDecodeResult) -> Panel:
    """Measured acceptance rates as dots with whiskers, the replay's as thin lines."""
    drafts, ks = drafts_of(result), result.config.k
    key = "acceptance_rate"
    figures = [row.metrics[key] for _, rows in drafts.values() for row in rows if key in row.metrics]
    replayed = {
        name: [Point(k, result.replay[name][k].acceptance_rate) for k in range(ks[0], ks[-1] + 1)]
        for name in drafts
        if name in result.replay
    }
    curves = [float(point.y) for line in replayed.values() for point in line]
    low, high = reach([*figures, *curves])
    plot = Plot(k_axis(result), Axis("acceptance rate", (max(0.0, low), min(1.0, high))), WIDTH, HEIGHT)
    ends, said = [], []
    for index, (name, (own, rows)) in enumerate(drafts.items()):
        measured = [
            Point(
                row.k,
                row.metrics[key].value,
                row.metrics[key],
                {"title": f"{name}, K = {row.k}", "acceptance": figure_text(row.metrics[key], 3)},
            )
            for row in rows
            if key in row.metrics
        ]
        if not measured:
            continue
        points = aside(measured, index, len(drafts))
        line = replayed.get(name, [])
        plot.line(line or measured, own, width=1.2)
        plot.whiskers(points, own)
        plot.dots(points, own)
        ends.append((ks[-1] + 0.4, float((line or measured)[-1].y), name))
        said.append(f"{name} {span([(int(p.x), float(p.y)) for p in measured], 3)}")
    plot.names(ends)
    caption = "(tokens per step − 1) / K: it falls with K even where a step gains"
    caption += "; thin line: replay" if replayed else ""
    return Panel("Acceptance rate", caption, f"Acceptance rate over K: {'; '.join(said)}.", plot)


def subject(result: SpecDecodeResult) -> str:
    """The target's name, and that acceptance is synthetic where it is."""
    acceptance_rate = result.config.synthetic_acceptance
    name = str(result.model.name)
    return name if acceptance_rate is None else f"{name} · synthetic acceptance {acceptance_rate:g}"


def title(result: SpecDecodeResult) -> str:
    """The finding; of all charts of a sweep."""
    return result.summary or "Nothing could be concluded."


def new_tokens(config: SpecDecodeConfig) -> str:
    """`200`, or `up to 200`"""
    return f"{'' if config.ignore_eos else 'up to '}{config.max_new_tokens}"


def how_run(result: SpecDecodeResult) -> str:
    """`native backend (static, recorded)`."""
    execution = result.model.execution
    backend = f"{result.config.backend} backend"
    return f"{backend} ({execution})" if execution else backend


def protocol(result: SpecDecodeResult, batch: str = "batch 1", items: str = "prompts") -> str:
    """How it was measured, in one line."""
    config = result.config
    how = "greedy" if config.temperature == 0 else f"temperature {config.temperature:g}"
    draft = config.draft_precision or config.precision
    if config.plan:
        what = "predicted from replay and measured costs, nothing was swept"
    else:
        what = f"whiskers: 95 % interval over {items}"
    return " · ".join(
        [
            f"{result.text.dataset}, {len(result.text.prompt_ids)} prompts × {new_tokens(config)} new tokens",
            f"{batch}, {how}",
            f"target {config.precision}, drafts {draft}",
            how_run(result),
            what,
        ]
    )


def about(result: SpecDecodeResult, batch: str = "batch 1", items: str = "prompts") -> str:
    """Model, machine and protocol."""
    return f"{subject(result)} · {machine_text(result.environment)} · {protocol(result, batch, items)}"


def plan(result: SpecDecodeResult) -> Chart:
    """The picture `speculation_plan_<text>.png`."""
    return Chart(title(result), about(result), plan_panels(result), columns=2)


def plan_panels(result: SpecDecodeResult) -> list[Panel]:
    """Predicted speedup over K by replay and by formula; acceptance by replay."""
    styles = styles_of(list(result.plan))
    curves = {name: _by_replay(result, name) for name in result.plan}
    values = [float(point.y) for line in curves.values() for point in line]
    formulas = {
        name: [Point(k, p.leviathan) for k, p in entry.by_k.items() if p.leviathan is not None]
        for name, entry in result.plan.items()
    }
    values += [float(point.y) for line in formulas.values() for point in line]
    left = Plot(k_axis(result), Axis("× plain decoding", reach([*values, 1.0], pad=0.1)), WIDTH, HEIGHT)
    rates = {
        name: [Point(k, result.replay[name][k].acceptance_rate) for k in entry.by_k]
        for name, entry in result.plan.items()
    }
    low, high = reach([float(point.y) for line in rates.values() for point in line])
    right = Plot(k_axis(result), Axis("acceptance rate", (max(0.0, low), min(1.0, high))), WIDTH, HEIGHT)
    left.level(1.0)
    ends, right_ends, said = [(result.config.k[-1] + 0.4, 1.0, "plain decoding")], [], []
    for name, own in styles.items():
        entry, line = result.plan[name], curves[name]
        best = next(point for point in line if point.x == entry.best_k.replay)
        if formulas[name]:
            left.line(formulas[name], own, width=1.2, dash="dotted")
        for plot, points in ((left, line), (right, rates[name])):
            plot.line(points, own)
            plot.dots(points, own, size=40)
        left.stars([best], own)
        end = result.config.k[-1] + 0.4
        ends.append((end, float(line[-1].y), f"{name}: best K = {best.x}"))
        right_ends.append((end, float(rates[name][-1].y), name))
        said.append(f"{name}: best K = {best.x} with {float(best.y):.2f}")
    left.names(ends)
    right.names(right_ends)
    dotted = "; dotted: Leviathan's formula, without prefills" if any(formulas.values()) else ""
    caption = f"prefills included{dotted}; no interval, nothing was swept"
    words = f"Predicted speedup over K: {'; '.join(said)}."
    return [
        Panel("Predicted speedup", caption, words, left),
        Panel("Acceptance rate by replay", "", "Acceptance rate over K, by replay.", right),
    ]


def _by_replay(result: SpecDecodeResult, name: str) -> list[Point]:
    return [
        Point(
            k,
            point.replay_end_to_end,
            hover={"title": f"{name}, K = {k}", "predicted": f"{point.replay_end_to_end:.2f}×"},
        )
        for k, point in result.plan[name].by_k.items()
    ]


def span(values: Sequence[tuple[int, float]], digits: int) -> str:
    """`from 12.3 at K = 2 to 15.0 at K = 6`"""
    (first, low), (last, high) = values[0], values[-1]
    if first == last:
        return f"{low:.{digits}f} at K = {first}"
    return f"from {low:.{digits}f} at K = {first} to {high:.{digits}f} at K = {last}"
