"""The 2 × 3 chart: throughput, TPOT, TTFT / PPL, peak memory, and the trade-off between them; and the paired
differences of quality. Drawn from a result alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bitdraft.metrics.memory import memory_name
from bitdraft.metrics.quality import ppl_increase
from bitdraft.present.charts.plot import Align, Axis, Chart, Panel, Plot, Point, figure_text, reach
from bitdraft.present.charts.style import style_of, title_of
from bitdraft.present.words import fixed, machine_text
from bitdraft.schema.precision import PrecisionResult, PrecisionRow
from bitdraft.schema.records import Figure

NOT_MEASURED = "random weights: quality not measured"
WIDTH, HEIGHT = 265, 190
MOST_ROWS = 5


@dataclass(frozen=True)
class Metric:
    """A metric or a difference as a panel shows it."""

    key: str
    title: str
    unit: str
    caption: str
    digits: int

    @property
    def heading(self) -> str:
        """`TTFT (ms)`"""
        return f"{self.title}{f' ({self.unit})' if self.unit else ''}"


def height_of(rows: Sequence[PrecisionRow]) -> int:
    """Of a panel with a line for each of them."""
    return HEIGHT + 26 * max(0, len(rows) - MOST_ROWS)


def quality_is_skipped(rows: Sequence[PrecisionRow]) -> bool:
    """Random weights have speed and memory alone."""
    return any(row.quality.not_measured is not None for row in rows)


def chart(result: PrecisionResult) -> Chart:
    """The picture `precision_benchmark_2rows.png`."""
    throughput, tpot, ttft, memory = bars(result)
    panels = [throughput, tpot, ttft, perplexity(result), memory, trade_off(result)]
    return Chart(result.summary or "Not judged.", about(result), panels, columns=3)


def about(result: PrecisionResult) -> str:
    """Machine and protocol, in one line."""
    config = result.config
    quality = NOT_MEASURED if quality_is_skipped(result.rows) else f"PPL protocol {config.ppl_protocol}"
    over = "over prompts" if quality_is_skipped(result.rows) else "over prompts (PPL: over blocks of text)"
    return " · ".join(
        [
            str(result.model.name),
            machine_text(result.environment),
            f"{result.text.dataset}, {len(result.text.prompt_ids)} prompts × {config.max_new_tokens} tokens",
            f"batch 1, greedy, {config.backend} backend",
            quality,
            f"whiskers: 95 % interval {over}",
        ]
    )


def bars(result: PrecisionResult) -> list[Panel]:
    """Throughput, TPOT, TTFT and peak memory: a bar a precision; one without the metric says why."""
    memory = memory_name(row.metrics for row in result.rows)
    metrics = [
        Metric("throughput_tok_s", "Throughput", "tokens/s", "higher is better", 1),
        Metric("tpot_ms", "TPOT, time per output token", "ms", "lower is better", 2),
        Metric("ttft_ms", "TTFT, time to first token", "ms", "lower is better", 1),
        Metric(memory, "Peak VRAM" if memory == "peak_vram_gb" else "Peak RAM", "GiB", "lower is better", 2),
    ]
    return [_bars(result.rows, metric) for metric in metrics]


def _bars(rows: Sequence[PrecisionRow], metric: Metric) -> Panel:
    found = {row.precision: row.metrics[metric.key] for row in rows if metric.key in row.metrics}
    top = reach(found.values(), zero=True)[1]
    names = [title_of(row.precision) for row in rows]
    plot = Plot(Axis(names=names), Axis(domain=(0, top)), WIDTH, height_of(rows))
    said = []
    for row, name in zip(rows, names, strict=True):
        figure = found.get(row.precision)
        if figure is None:
            why = "not measured" if row.status == "ok" else row.status
            plot.text([(name, 0.02 * top, why)], style="quiet", angle=270)
            said.append(f"{name} {why}")
            continue
        text = figure_text(figure, metric.digits, metric.unit)
        point = Point(name, figure.value, figure, {"title": name, metric.title: text})
        plot.bars([point], style_of(row.precision))
        plot.whiskers([point])
        at = figure.high if figure.high is not None else figure.value
        plot.text(
            [(name, at, f"{figure.value:.{metric.digits}f}")], style="strong", align="center", shift=(0, -9)
        )
        said.append(f"{name} {text}")
    words = f"Bars of {metric.title}: {'; '.join(said)}."
    return Panel(metric.heading, metric.caption, words, plot, is_small=True)


def shown_figure(key: str, figure: Figure) -> Figure:
    """In the unit that is shown: percent, but for nats."""

    def shown(value: float | None) -> float | None:
        if value is None:
            return None
        if key == "delta_ln_ppl":
            return 100 * ppl_increase(value)
        return value if key == "kl_divergence" else 100 * value

    ends = {name: shown(getattr(figure, name)) for name in ("value", "low", "high")}
    return Figure.model_validate(ends | {"n": figure.n})


def perplexity(result: PrecisionResult) -> Panel:
    """The paired change of perplexity as dots with intervals around zero; the perplexities as text."""
    limit = 100 * (result.verdict.max_ppl_increase or 0.0)
    reference = reference_of(result)
    against = f"paired with {reference} on the same tokens; " if reference else ""
    metric = Metric("delta_ln_ppl", "PPL, perplexity: change", "%", f"{against}left is better", 3)
    if quality_is_skipped(result.rows):
        return _empty("PPL, perplexity", NOT_MEASURED)
    rows = [row for row in result.rows if "ppl" in row.metrics]
    if not rows:
        return _empty("PPL, perplexity", "not measured")
    return _differences(result, rows, metric, limit)


def reference_of(result: PrecisionResult) -> str:
    """What quality is compared with; "" where nothing is."""
    return next((entry.reference for entry in result.verdict.comparisons), "")


def quality(result: PrecisionResult) -> list[Panel]:
    """A panel a difference, a dot a precision; those that nothing was paired for are left out."""
    metrics = [
        Metric("kl_divergence", "KL divergence from the reference", "nats", "lower is closer", 6),
        Metric("top1_agreement", "Same most probable token", "%", "higher is closer", 2),
        Metric("delta_p_rms", "Change of the true token's probability, RMS", "%", "lower is closer", 4),
    ]
    panels = []
    for metric in metrics:
        rows = [row for row in result.rows if metric.key in row.quality.figures()]
        if rows:
            panels.append(_differences(result, rows, metric, 0.0))
    return panels


def _differences(
    result: PrecisionResult, rows: Sequence[PrecisionRow], metric: Metric, limit: float
) -> Panel:
    found = {
        row.precision: shown_figure(metric.key, figures[metric.key])
        for row in rows
        if metric.key in (figures := row.quality.figures())
    }
    is_change = metric.key == "delta_ln_ppl"
    ends: list[Figure | float] = [*found.values(), *([0.0] if is_change else [])]
    near = max([abs(end) for end in reach(found.values(), pad=0)], default=0.0) if found else 0.0
    shows_limit = is_change and 0 < limit <= 4 * near
    domain = reach([*ends, *([limit] if shows_limit else [])], pad=0.12)
    names = [title_of(row.precision) for row in rows]
    plot = Plot(
        Axis(metric.unit, domain),
        Axis(names=names),
        WIDTH,
        height_of(rows) if is_change else 46 * len(rows) + 14,
    )
    if is_change:
        plot.level(0.0, "x", dash=False)
    if shows_limit:
        plot.level(limit, "x")
        down = min(24.0, 0.4 * plot.height / len(names))
        words = f"limit +{limit:g} %"
        plot.text([(limit, names[-1], words)], style="quiet", align="right", shift=(-4, down))
    said = []
    middle = sum(domain) / 2
    for row, name in zip(rows, names, strict=True):
        figure, ppl = found.get(row.precision), row.metrics.get("ppl")
        words = f"PPL {fixed(ppl.value, 2)}" if ppl is not None and is_change else ""
        if figure is None:
            plot.text([(0.0, name, f"{words}, the reference")], style="quiet", shift=(7, 0))
            said.append(f"{name} {words}, the reference")
            continue
        text = figure_text(figure, metric.digits, metric.unit)
        point = Point(figure.value, name, figure, {"title": name, metric.title: text})
        plot.whiskers([point], style_of(row.precision), along="x")
        plot.dots([point], style_of(row.precision), size=75)
        label = f"{figure.value:{'+' if is_change else ''}.{_digits(figure, metric.digits)}f}"
        label += f" · {words}" if words else ""
        align: Align = "left" if figure.value <= middle else "right"
        plot.text([(figure.value, name, label)], align=align, shift=(-4 if align == "left" else 4, -13))
        said.append(f"{name} {text}")
    caption = metric.caption + (
        f"; the limit, +{limit:g} %, is further right" if is_change and limit and not shows_limit else ""
    )
    return Panel(metric.heading, caption, f"Dots of {metric.title}: {'; '.join(said)}.", plot, is_small=True)


def _digits(figure: Figure, most: int) -> int:
    """As many as show something."""
    if figure.value == 0:
        return 1
    return min(most, max(1, 1 - math.floor(math.log10(abs(figure.value)))))


def trade_off(result: PrecisionResult) -> Panel:
    """Speed over memory, the change of quality as label: up and left is better."""
    memory = memory_name(row.metrics for row in result.rows)
    rows = [row for row in result.rows if {"throughput_tok_s", memory} <= row.metrics.keys()]
    name = "peak VRAM" if memory == "peak_vram_gb" else "peak RAM"
    title, caption = "Trade-off: speed over memory", "up and left is better; label: change of PPL"
    if len(rows) < 2:
        return _empty(title, "needs two finished precisions")
    speeds, sizes = ([row.metrics[key] for row in rows] for key in ("throughput_tok_s", memory))
    across = reach([size.value for size in sizes], pad=0.3)
    plot = Plot(
        Axis(f"{name} (GiB)", across), Axis("tokens/s", reach(speeds, pad=0.2)), WIDTH, height_of(rows)
    )
    said, named = [], []
    for row, speed, size in zip(rows, speeds, sizes, strict=True):
        label = title_of(row.precision)
        change = row.quality.figures().get("delta_ln_ppl")
        if change is not None:
            shown = shown_figure("delta_ln_ppl", change)
            label += f" {shown.value:+.{_digits(shown, 3)}f} %"
        hover = {
            "title": label,
            "throughput": figure_text(speed, 1, "tokens/s"),
            name: figure_text(size, 2, "GiB"),
        }
        point = Point(size.value, speed.value, speed, hover)
        plot.whiskers([point], style_of(row.precision))
        plot.dots([point], style_of(row.precision), size=110)
        named.append((size.value, speed.value, label))
        said.append(f"{label}: {hover['throughput']}, {hover[name]}")
    plot.names(named)
    return Panel(title, caption, f"Scatter of speed over memory: {'; '.join(said)}.", plot)


def _empty(title: str, why: str) -> Panel:
    """Why there is nothing to see."""
    plot = Plot(Axis(domain=(0, 1), is_shown=False), Axis(domain=(0, 1), is_shown=False), WIDTH, HEIGHT)
    plot.text([(0.5, 0.5, why)], style="quiet", align="center")
    return Panel(title, "", f"{title}: {why}.", plot, is_small=True)
