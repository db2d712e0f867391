"""The section of a speculative sweep or plan: throughput and acceptance over K, the lossless check, and
what `anatomy_section` and `batch_section` add."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bitdraft.present.charts.sweep import drafts_of, footnote
from bitdraft.present.page import anatomy_section, batch_section, theme
from bitdraft.present.page.model import Block, Cell, Chart, Section, Text
from bitdraft.present.page.tables import count_cell, number_cell, sweep_table, table
from bitdraft.present.words import times_text
from bitdraft.schema.records import Figure
from bitdraft.schema.spec_decode import ReplaySummary, SpecDecodeResult, SpecDecodeRow


def section(result: SpecDecodeResult, title: str) -> Section:
    blocks: list[Block] = [Text(_how(result), is_note=True)]
    parts: list[Section] = []
    if result.plan:
        blocks += plan_charts(result)
        blocks.append(_plan_table(result))
    if result.baseline is not None and result.sweep:
        blocks += [throughput_chart(result), acceptance_chart(result), _table(result)]
        parts += anatomy_section.sections(result)
        parts += _lossless(result)
    elif result.sweep:
        blocks.append(_table(result))
    if result.batches:
        parts.append(batch_section.section(result))
    parts += anatomy_section.costs(result)
    return Section(title, blocks, parts)


def _how(result: SpecDecodeResult) -> str:
    # what the pictures say; `$` is escaped in it for matplotlib
    text = footnote(result).replace(r"\$", "$")
    marks = []
    if result.config.random_weights:
        marks.append("Random weights: acceptance, and so speedup, says nothing of trained ones.")
    acceptance = result.config.synthetic_acceptance
    if acceptance is not None:
        marks.append(f"Synthetic acceptance of {acceptance:g}: speeds are measured, agreement is stated.")
    return " ".join([f"{text}.", *marks])


def _hover(row: SpecDecodeRow) -> str:
    rate, speedup = row.metrics["throughput_tok_s"], row.metrics.get("speedup")
    lines = [f"{row.draft}, K = {row.k}", theme.figure_text(rate, 1, "tok/s")]
    if speedup is not None:
        lines.append(f"{times_text(speedup)} of K = 0")
    return "\n".join(lines)


def throughput_chart(result: SpecDecodeResult) -> Chart:
    """A line a draft with its intervals, K = 0 across, a star at the fastest."""
    ks = result.config.k
    assert result.baseline is not None
    baseline = result.baseline.metrics["throughput_tok_s"]
    said, data = [f"K = 0: {baseline.value:.1f}"], _baseline_level(ks, baseline)
    fastest: SpecDecodeRow | None = None
    for name, (colour, marker, rows) in drafts_of(result).items():
        figures = [row.metrics["throughput_tok_s"] for row in rows]
        own = theme.SeriesStyle(colour, theme.symbol_of(marker))
        data += theme.banded_line(name, [row.k for row in rows], figures, own, [_hover(row) for row in rows])
        said.append(
            f"{name}: {theme.range_of([(r.k, f.value) for r, f in zip(rows, figures, strict=True)], 1)}"
        )
        candidates = [*rows, *([fastest] if fastest else [])]
        fastest = max(candidates, key=lambda row: row.metrics["throughput_tok_s"].value)
    if fastest is not None:
        data.append(_star(fastest))
        said.append(f"fastest: {fastest.draft}, K = {fastest.k}")
    return Chart(
        "Throughput over K (tokens/s)",
        f"higher is better; bands are 95 % intervals over prompts{_not_drawn(result)}",
        f"Lines of throughput in tokens per second over K. {'; '.join(said)}.",
        data,
        theme.layout(theme.k_axis(ks), theme.axis("tokens/s", rangemode="tozero"), 380),
        "y",
    )


def _baseline_level(ks: Sequence[int], baseline: Figure) -> list[dict[str, Any]]:
    ends = [ks[0] - 0.5, ks[-1] + 0.5]
    text = f"K = 0, plain decoding\n{theme.figure_text(baseline, 1, 'tok/s')}"
    return theme.banded_line(
        "K = 0",
        ends,
        [baseline, baseline],
        theme.SeriesStyle(theme.INK),
        [text, text],
        mode="lines",
        dash="dash",
    )


def _star(row: SpecDecodeRow) -> dict[str, Any]:
    value = row.metrics["throughput_tok_s"].value
    star = theme.line(
        "fastest",
        [row.k],
        [value],
        theme.SeriesStyle("#F0E442", "star"),
        [f"fastest: {_hover(row)}"],
        mode="markers",
    )
    star["marker"] |= {"size": 15, "line": {"color": theme.INK, "width": 1}}
    return star


def _not_drawn(result: SpecDecodeResult) -> str:
    failed = [f"{row.draft} K = {row.k}: {row.status}" for row in result.sweep if row.status != "ok"]
    return f"; not drawn: {', '.join(failed)}" if failed else ""


def acceptance_chart(result: SpecDecodeResult) -> Chart:
    """Measured acceptance rates as points with bands, the replay's as a thin line through every K."""
    data, said = [], []
    for name, (colour, marker, rows) in drafts_of(result).items():
        timed = [row for row in rows if "acceptance_rate" in row.metrics]
        if not timed:
            continue
        own, ks = theme.SeriesStyle(colour, theme.symbol_of(marker)), [row.k for row in timed]
        figures = [row.metrics["acceptance_rate"] for row in timed]
        hover = [_acceptance_hover(row) for row in timed]
        replayed = result.replay.get(name)
        mode = "markers" if replayed else "lines+markers"
        data += theme.banded_line(name, ks, figures, own, hover, mode=mode)
        if replayed:
            across = list(range(ks[0], ks[-1] + 1))
            data.append(_replay_line(name, own, across, replayed))
        said.append(f"{name}: {theme.range_of([(k, f.value) for k, f in zip(ks, figures, strict=True)], 3)}")
    y = theme.axis("acceptance rate", range=[0, 1.02])
    return Chart(
        "Acceptance rate over K",
        "(tokens per step − 1) / K: it falls even where every step gains; thin line: replay",
        f"Lines of acceptance rate over K. {'; '.join(said)}.",
        data,
        theme.layout(theme.k_axis(result.config.k), y, 380),
    )


def _replay_line(
    name: str, own: theme.SeriesStyle, ks: Sequence[int], replayed: Mapping[int, ReplaySummary]
) -> dict[str, Any]:
    values = [replayed[k].acceptance_rate for k in ks]
    hover = [f"{name}, K = {k}\nreplay {value:.3f}" for k, value in zip(ks, values, strict=True)]
    thin = theme.line(name, ks, values, own, hover, mode="lines", showlegend=False)
    thin["line"] |= {"width": 1.2}
    return thin


def _acceptance_hover(row: SpecDecodeRow) -> str:
    lines = [
        f"{row.draft}, K = {row.k}",
        f"acceptance {theme.figure_text(row.metrics['acceptance_rate'], 3)}",
    ]
    if "tokens_per_step" in row.metrics:
        lines.append(f"{theme.figure_text(row.metrics['tokens_per_step'], 2, 'tokens per step')}")
    return "\n".join(lines)


def _table(result: SpecDecodeResult) -> Block:
    note = "★ best speedup; in brackets the 95 % interval. Draft “–” is plain decoding."
    return sweep_table("Every draft and K", [row for row in result.rows if row.batch_size == 1], note)


def _lossless(result: SpecDecodeResult) -> list[Section]:
    """Greedy runs: what was compared, and each place where texts part."""
    checked = [(row, row.lossless) for row in result.sweep if row.lossless is not None]
    if not checked:
        return []
    total = sum(entry.num_prompts for _, entry in checked)
    identical = sum(entry.identical for _, entry in checked)
    replays = [row.replay_check for row in result.sweep if row.replay_check is not None]
    agreeing = sum(bool(check.agrees) for check in replays)
    compared = sum(check.agrees is not None for check in replays)
    words = f"{identical} of {total} runs gave the token ids of K = 0."
    if replays:
        words += f" In {agreeing} of {compared} rows the measured steps are those of the replay."
    lines = [
        [
            Cell(str(row.draft)),
            count_cell(row.k),
            count_cell(found.prompt),
            count_cell(found.position),
            Cell(found.kind),
            number_cell(found.logit_gap, 5),
            Cell(found.control_precision or "–"),
        ]
        for row, entry in checked
        for found in entry.divergences
    ]
    blocks: list[Block] = [Text(words)]
    if lines:
        titles = ["Draft", "K", "Prompt", "Token", "Kind", "Logit lead", "Control in"]
        note = "A rounding tie is explained by the control run; a bug is not, and is a warning."
        blocks.append(table("Where texts part", titles, lines, note=note))
    return [Section("Lossless", blocks)]


def plan_charts(result: SpecDecodeResult) -> list[Chart]:
    """Predicted speedup over K, by replay and by formula; and acceptance by replay."""
    ks = result.config.k
    data, rates, said = [theme.level("no gain", [ks[0] - 0.5, ks[-1] + 0.5], 1, "1×: plain decoding")], [], []
    shown = {"showlegend": True, "mode": "lines+markers"}
    for index, (name, entry) in enumerate(result.plan.items()):
        own, own_ks = theme.style_at(index), list(entry.by_k)
        points = list(entry.by_k.values())
        best = entry.best_k.replay
        values = [point.replay_end_to_end for point in points]
        hover = [f"{name}, K = {k}\npredicted {v:.2f}×" for k, v in zip(own_ks, values, strict=True)]
        data.append(theme.line(name, own_ks, values, own, hover))
        formula = [(k, point.leviathan) for k, point in entry.by_k.items() if point.leviathan is not None]
        if formula:
            text = [f"{name}, K = {k}\nformula {v:.2f}×" for k, v in formula]
            xs, ys = [k for k, _ in formula], [v for _, v in formula]
            data.append(theme.line(name, xs, ys, own, text, mode="lines", dash="dot", showlegend=False))
        rates.append(_replay_line(name, own, own_ks, result.replay[name]) | shown)
        said.append(f"{name}: best K = {best} with {values[own_ks.index(best)]:.2f}")
    alt = f"Lines of predicted speedup over K. {'; '.join(said)}."
    caption = (
        "prefills included; dotted: Leviathan's formula, without prefills; no interval, nothing was swept"
    )
    y = theme.axis("× of K = 0", rangemode="tozero")
    accepted = theme.layout(theme.k_axis(ks), theme.axis("acceptance rate", range=[0, 1.02]))
    return [
        Chart("Predicted speedup over K", caption, alt, data, theme.layout(theme.k_axis(ks), y), "y"),
        Chart(
            "Acceptance rate by replay", "", "Lines of acceptance rate over K, by replay.", rates, accepted
        ),
    ]


def _plan_table(result: SpecDecodeResult) -> Block:
    lines = []
    for draft, entry in result.plan.items():
        for k, point in entry.by_k.items():
            predicted = number_cell(point.replay_end_to_end, 2)
            if k == entry.best_k.replay:
                predicted = Cell(predicted.text, predicted.value, is_best=True)
            formula = number_cell(point.leviathan, 2)
            tokens = number_cell(point.tokens_per_step, 2)
            lines.append([Cell(draft), count_cell(k), predicted, formula, tokens])
    titles = ["Draft", "K", "Predicted speedup", "Leviathan, without prefills", "Tokens/step"]
    return table("The plan", titles, lines, note="★ the best K of a draft.")
