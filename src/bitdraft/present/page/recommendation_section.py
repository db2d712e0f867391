"""What to deploy: the choice, its limits, all ways to run the model, and snippets that are ready to run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bitdraft.present.charts.precision import title_of
from bitdraft.present.page import theme
from bitdraft.present.page.model import Block, Cell, Chart, Code, Facts, Items, Section, Text
from bitdraft.present.page.tables import count_cell, number_cell, plain_figure_cell, table
from bitdraft.present.recommendation_files import SNIPPET_TITLES, SPEEDS, STANDINGS
from bitdraft.present.tables import NO_DRAFT
from bitdraft.schema.naming import draft_name
from bitdraft.schema.recommendation import Contender, Recommendation
from bitdraft.schema.records import Figure


def section(result: Recommendation, title: str) -> Section:
    blocks: list[Block] = [Facts("The choice", choice_facts(result))]
    if result.limits.given():
        blocks.append(
            Facts("Limits that were set", [_limit(*item) for item in result.limits.given().items()])
        )
    chart = front_chart(result)
    blocks += [chart] if chart is not None else []
    blocks += _ties(result)
    blocks += [_alternatives(result)] if result.contenders else []
    parts = []
    if result.snippets:
        codes = [Code(SNIPPET_TITLES.get(name, name), text) for name, text in result.snippets.items()]
        parts.append(Section("Ready to run", codes))
    if result.stages or result.skipped:
        parts.append(Section("What was done", _stages(result)))
    return Section(title, blocks, parts)


def _limit(key: str, value: float) -> tuple[str, str]:
    text = f"{100 * value:g} %" if key == "max_ppl_increase" else f"{value:g}"
    return key.replace("_", " "), text


def choice_facts(result: Recommendation) -> list[tuple[str, str]]:
    choice = result.choice
    speculate = choice.speculate
    answer = "unknown" if speculate is None else "yes" if speculate else "no"
    facts = [("Precision", choice.precision or "none"), ("Speculate", answer)]
    if choice.draft:
        facts += [("Draft", choice.draft), ("K", str(choice.k))]
    if choice.draft_precision:
        facts.append(("Draft's precision", choice.draft_precision))
    return facts


def way(contender: Contender) -> str:
    """`bf16, ngram, K = 5` or `bf16, plain`"""
    if not contender.k:
        return f"{contender.precision}, plain"
    return f"{contender.precision}, {draft_name(contender.draft, contender.k, contender.draft_precision)}"


def front_chart(result: Recommendation) -> Chart | None:
    """Speed over memory, a colour a precision, which carries the quality. Filled points are on the Pareto
    front. What was predicted alone has no measured speed and is in the table only."""
    drawn = [c for c in result.contenders if c.throughput_tok_s is not None and c.peak_memory_gb is not None]
    if not drawn:
        return None
    data = []
    for precision in dict.fromkeys(c.precision for c in drawn):
        own = [c for c in drawn if c.precision == precision]
        data.append(_points(f"{title_of(precision)}{_quality(own)}", own))
    chosen = [c for c in drawn if c.standing == "chosen"]
    data += [_chosen(c) for c in chosen]
    memory = "Peak VRAM" if result.memory_name == "peak_vram_gb" else "Peak RAM"
    front = [f"{way(c)}: {c.throughput_tok_s.value:.1f}" for c in drawn if c.is_pareto and c.throughput_tok_s]
    return Chart(
        "Speed, memory and quality of every way that was measured",
        "up is faster, left is smaller; filled: on the Pareto front; star: chosen",
        f"Scatter of tokens per second over {memory} in GiB. On the front: {'; '.join(front)}.",
        data,
        theme.layout(theme.axis(f"{memory} (GiB)"), theme.axis("tokens/s", rangemode="tozero"), 420),
        "y",
        is_wide=True,
    )


def _quality(contenders: Sequence[Contender]) -> str:
    change = next((c.ppl_change for c in contenders if c.ppl_change is not None), None)
    return "" if change is None else f", PPL {100 * change.value:+.3f} %"


def _points(name: str, contenders: Sequence[Contender]) -> dict[str, Any]:
    figures = [c.throughput_tok_s for c in contenders]
    own = theme.style_of_precision(contenders[0].precision)
    trace = theme.line(
        name,
        [c.peak_memory_gb or 0.0 for c in contenders],
        [None if figure is None else figure.value for figure in figures],
        own,
        [_hover(c) for c in contenders],
        mode="markers",
        error_y=theme.spread(figures) | {"color": own.colour},
    )
    symbols = [own.symbol if c.is_pareto else f"{own.symbol}-open" for c in contenders]
    widths = [0.8 if c.is_pareto else 2.0 for c in contenders]
    colours = [theme.INK if c.is_pareto else own.colour for c in contenders]
    trace["marker"] |= {"symbol": symbols, "size": 11, "line": {"width": widths, "color": colours}}
    return trace


def _chosen(contender: Contender) -> dict[str, Any]:
    speed = contender.throughput_tok_s
    star = theme.line(
        "chosen",
        [contender.peak_memory_gb or 0.0],
        [None if speed is None else speed.value],
        theme.SeriesStyle("#F0E442", "star"),
        [f"chosen\n{_hover(contender)}"],
        mode="markers",
    )
    star["marker"] |= {"size": 17, "line": {"color": theme.INK, "width": 1}}
    return star


def _hover(contender: Contender) -> str:
    lines = [way(contender), STANDINGS[contender.standing]]
    named: list[tuple[str, Figure | None, int, float]] = [
        ("tok/s", contender.throughput_tok_s, 1, 1.0),
        ("× of plain decoding", contender.speedup, 2, 1.0),
        ("% PPL", contender.ppl_change, 3, 100.0),
    ]
    lines += [theme.figure_text(f, digits, unit, scale) for unit, f, digits, scale in named if f is not None]
    if contender.peak_memory_gb is not None:
        lines.append(f"{contender.peak_memory_gb:.3f} GiB")
    return "\n".join(lines)


def _ties(result: Recommendation) -> list[Block]:
    tied = [way(c) for c in result.contenders if c.standing == "indistinguishable"]
    if not tied:
        return []
    return [Text(f"In speed the first cannot be told from {'; '.join(tied)}.")]


def _alternatives(result: Recommendation) -> Block:
    lines = [
        [
            Cell(c.precision),
            Cell(f"{c.draft or NO_DRAFT}{f' ({c.draft_precision})' if c.draft_precision else ''}"),
            count_cell(c.k),
            Cell(
                STANDINGS[c.standing] if c.reason is None else f"{STANDINGS[c.standing]}: {c.reason}",
                is_best=c.standing == "chosen",
            ),
            plain_figure_cell(c.throughput_tok_s, 1),
            plain_figure_cell(c.speedup, 2),
            number_cell(c.predicted_speedup, 2),
            plain_figure_cell(c.ttft_ms, 1),
            number_cell(c.peak_memory_gb, 3),
            plain_figure_cell(c.ppl_change, 3, 100),
            Cell("yes" if c.is_pareto else "no"),
        ]
        for c in result.contenders
    ]
    memory = "VRAM (GiB)" if result.memory_name == "peak_vram_gb" else "RAM (GiB)"
    titles = ["Precision", "Draft", "K", "Standing", "Tok/s", "Speedup", "Predicted", "TTFT (ms)", memory]
    note = f"{SPEEDS} ★ the choice; Pareto: by value."
    return table("All ways to run it", [*titles, "PPL change (%)", "Pareto"], lines, note=note)


def _stages(result: Recommendation) -> list[Block]:
    blocks: list[Block] = []
    if result.stages:
        lines = [
            [
                Cell(stage.stage),
                Cell(stage.what),
                number_cell(stage.seconds, 1),
            ]
            for stage in result.stages
        ]
        total = sum(stage.seconds for stage in result.stages)
        blocks.append(table("Stages", ["Stage", "What", "Seconds"], lines, note=f"Together {total:.0f} s."))
    if result.skipped:
        blocks += [Text("Skipped:"), Items(result.skipped)]
    return blocks
