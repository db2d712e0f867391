"""The comparison (throughput and acceptance over K) and the plan. Drawn from a result alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from bitdraft.config import SpecDecodeConfig
from bitdraft.present.charts.drawing import (
    COLOURS,
    GREY,
    INK,
    MARKERS,
    legend,
    margins,
    new_canvas,
    plain,
    png,
    tidy,
)
from bitdraft.schema.records import Figure
from bitdraft.schema.spec_decode import SpecDecodeResult, SpecDecodeRow


def style(index: int) -> tuple[str, str]:
    """Colour and marker; seven markers beside six colours, so that no two drafts of 42 are alike."""
    return COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]


StyledRows = dict[str, tuple[str, str, list[SpecDecodeRow]]]


def drafts_of(result: SpecDecodeResult) -> StyledRows:
    """By draft: colour, marker and finished rows, those without any left out."""
    styled = {}
    for index, name in enumerate(result.labels):
        rows = [row for row in result.sweep if row.draft == name and row.status == "ok"]
        if rows:
            styled[name] = (*style(index), rows)
    return styled


def comparison(result: SpecDecodeResult) -> bytes:
    """Left: throughput over K with the K = 0 baseline; right: acceptance rate over K with the replay's."""
    canvas = new_canvas(13, 5.4)
    left, right = canvas.subplots(1, 2)
    drafts = drafts_of(result)
    _throughput(left, result, drafts)
    _acceptance(right, result, drafts)
    note = footnote(result)
    failed = [row for row in result.sweep if row.status != "ok"]
    if failed:
        names = ", ".join(f"{row.draft} K={row.k}: {row.status}" for row in failed[:6])
        more = f" and {len(failed) - 6} more" if len(failed) > 6 else ""
        note += plain(f"\nnot drawn: {names}{more}")
    canvas.suptitle(title(result), fontsize=13)
    canvas.supxlabel(note, fontsize=8.5, color=INK)
    return png(canvas)


def _throughput(axis: Axes, result: SpecDecodeResult, drafts: StyledRows) -> None:
    assert result.baseline is not None
    baseline = result.baseline.metrics["throughput_tok_s"]
    axis.axhline(baseline.value, color=INK, ls="--", lw=1.4, label=f"K = 0: {baseline.value:.1f}")
    if baseline.low is not None and baseline.high is not None:
        axis.axhspan(baseline.low, baseline.high, color=INK, alpha=0.08, lw=0)
    best = max(
        (row for _, _, rows in drafts.values() for row in rows),
        key=lambda row: row.metrics["throughput_tok_s"].value,
        default=None,
    )
    for name, (colour, marker, rows) in drafts.items():
        figures = [row.metrics["throughput_tok_s"] for row in rows]
        draw_line(axis, [row.k for row in rows], figures, (colour, marker), label=name)
    if best is not None:
        figure = best.metrics["throughput_tok_s"]
        speedup = best.metrics["speedup"].value
        colour = drafts[str(best.draft)][0]
        _star(axis, best.k, figure.value, colour)
        first, last = (best.k == result.config.k[end] for end in (0, -1))
        side = "right" if last else "left" if first else "center"
        axis.annotate(
            plain(f"★ {best.draft}, K = {best.k}\n{figure.value:.1f} ({speedup:.2f}×)"),
            (best.k, figure.value),
            xytext=({"right": 10, "left": -10, "center": 0}[side], 14),
            textcoords="offset points",
            ha=side,
            fontsize=10,
            fontweight="bold",
        )
    k_axis(axis, result)
    axis.set_ylim(0, axis.get_ylim()[1] * 1.15)
    axis.set_title("Throughput (tokens/s)\nhigher is better", fontsize=11)
    legend(axis, loc="lower left", fontsize=9.5)


def _acceptance(axis: Axes, result: SpecDecodeResult, drafts: StyledRows) -> None:
    replayed = False
    for name, (colour, marker, rows) in drafts.items():
        timed = [row for row in rows if "acceptance_rate" in row.metrics]
        if not timed:
            continue
        ks = [row.k for row in timed]
        figures = [row.metrics["acceptance_rate"] for row in timed]
        draw_line(axis, ks, figures, (colour, marker), label=name, connect=name not in result.replay)
        if name in result.replay:
            across = range(min(ks), max(ks) + 1)
            values = [result.replay[name][k].acceptance_rate for k in across]
            axis.plot(across, values, color=colour, lw=1, zorder=1)
            replayed = True
    if replayed:
        axis.plot([], [], color=INK, lw=1, label="replay (thin line)")
    k_axis(axis, result)
    axis.set_ylim(0, 1)
    axis.set_title(
        "Acceptance rate, (tokens per step − 1) / K\nfalls with K even where a step gains", fontsize=11
    )
    legend(axis, loc="upper right", fontsize=9.5)


def draw_line(
    axis: Axes,
    ks: Sequence[int],
    figures: Sequence[Figure],
    style: tuple[str, str],
    *,
    label: str,
    connect: bool = True,
) -> None:
    """Values with their intervals as a band, which is interrupted where there is none."""
    colour, marker = style
    values = [figure.value for figure in figures]
    spread = [margins(figure) if figure.low is not None else (math.nan, math.nan) for figure in figures]
    axis.plot(ks, values, color=colour, marker=marker, lw=1.8 if connect else 0, ms=7, label=plain(label))
    if any(figure.low is not None for figure in figures):
        low = [value - below for value, (below, _) in zip(values, spread, strict=True)]
        high = [value + above for value, (_, above) in zip(values, spread, strict=True)]
        axis.fill_between(ks, low, high, color=colour, alpha=0.15, lw=0)


def _star(axis: Axes, k: int, value: float, colour: str) -> None:
    axis.plot(k, value, color=colour, marker="*", ms=17, mec=INK, mew=0.8)


def k_axis(axis: Axes, result: SpecDecodeResult) -> None:
    """Whole numbers, from the smallest K to the largest."""
    ks = result.config.k
    axis.set_xlabel("K, speculative tokens per step")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlim(ks[0] - 0.5, ks[-1] + 0.5)
    tidy(axis)


def subject(result: SpecDecodeResult) -> str:
    """The target's name, and that acceptance is synthetic where it is."""
    acceptance = result.config.synthetic_acceptance
    name = str(result.model.name)
    return name if acceptance is None else f"{name} · synthetic acceptance {acceptance:g}"


def title(result: SpecDecodeResult) -> str:
    """Of all charts of a sweep."""
    where = result.environment.hardware
    return plain(f"Speculative decoding of {subject(result)} on {where}, text: {result.text.dataset}")


def new_tokens(config: SpecDecodeConfig) -> str:
    """`200`, or `up to 200`"""
    return f"{'' if config.ignore_eos else 'up to '}{config.max_new_tokens}"


def how_run(result: SpecDecodeResult) -> str:
    """`native backend (static, recorded)`."""
    execution = result.model.execution
    backend = f"{result.config.backend} backend"
    return f"{backend} ({execution})" if execution else backend


def footnote(result: SpecDecodeResult, batch: str = "batch 1", items: str = "prompts") -> str:
    """How it was measured, in one line."""
    config = result.config
    how = "greedy" if config.temperature == 0 else f"temperature {config.temperature:g}"
    draft = config.draft_precision or config.precision
    if result.plan:
        what = "predicted from replay and measured costs, nothing was swept"
    else:
        what = f"bands: 95 % interval over {items}"
    return plain(
        f"{len(result.text.prompt_ids)} prompts × {new_tokens(config)} new tokens, {batch}, {how}, "
        f"target {config.precision}, drafts {draft}, {how_run(result)}; {what}"
    )


def plan(result: SpecDecodeResult) -> bytes:
    """Left: predicted speedup over K; right: acceptance rate by replay."""
    canvas = new_canvas(13, 5.4)
    left, right = canvas.subplots(1, 2)
    left.axhline(1, color=INK, ls="--", lw=1)
    for index, (name, entry) in enumerate(result.plan.items()):
        colour, marker = style(index)
        ks, points = list(entry.by_k), list(entry.by_k.values())
        values = [point.replay_end_to_end for point in points]
        best = entry.best_k.replay
        label = plain(f"{name}: best K = {best}")
        left.plot(ks, values, color=colour, marker=marker, lw=1.8, label=label)
        _star(left, best, values[ks.index(best)], colour)
        formula = [point.leviathan or math.nan for point in points]
        if entry.alpha is not None:
            left.plot(ks, formula, color=colour, lw=1.2, ls=":")
        rates = [result.replay[name][k].acceptance_rate for k in ks]
        right.plot(ks, rates, color=colour, marker=marker, lw=1.8, label=plain(name))
    left.plot([], [], color=GREY, ls=":", label="Leviathan's formula, without prefills")
    left.set_title("Predicted speedup (× of K = 0)", fontsize=11)
    left.set_ylim(bottom=0)
    right.set_ylim(0, 1)
    right.set_title("Acceptance rate by replay", fontsize=11)
    for axis in (left, right):
        k_axis(axis, result)
        legend(axis, fontsize=9.5, loc="best")
    canvas.suptitle(title(result), fontsize=13)
    canvas.supxlabel(footnote(result), fontsize=8.5, color=INK)
    return png(canvas)
