"""What to deploy: its limits, all ways to run the model, and snippets that are ready to run."""

from __future__ import annotations

from bitdraft.present.charts.recommendation import front
from bitdraft.present.page.model import Block, Chart, Code, Facts, Grid, Items, Section, Text
from bitdraft.present.recommendation_files import SNIPPET_TITLES, SPEEDS, recommendation_table
from bitdraft.present.table import Cell, Column, Table
from bitdraft.schema.recommendation import Contender, Recommendation


def section(result: Recommendation, title: str) -> Section:
    """All ways to run the model; below it code, reasons for what is out, and what was done."""
    blocks: list[Block] = []
    if result.limits.given():
        limits = [_limit(*item) for item in result.limits.given().items()]
        blocks.append(Facts("Limits that were set", limits))
    panel = front(result)
    if panel is not None:
        blocks.append(Chart.of(panel))
    if result.contenders:
        found = recommendation_table(result, list(result.contenders))
        note = f"{SPEEDS} ★ the choice; Pareto: by value; in brackets 95 % intervals."
        blocks.append(Grid(Table("All ways to run it", found.columns, found.rows, note)))
    parts = []
    why = [f"{_way(one)}: {one.reason}" for one in result.contenders if one.reason]
    if why:
        parts.append(Section("Why the others are out", [Items(why)], is_folded=True))
    if result.snippets:
        codes = [Code(SNIPPET_TITLES.get(name, name), text) for name, text in result.snippets.items()]
        parts.append(Section("Ready to run", codes))
    if result.stages or result.skipped:
        parts.append(Section("What was done", _stages(result), is_folded=True))
    return Section(title, blocks, parts)


def _way(one: Contender) -> str:
    return f"{one.precision}, {one.draft or 'plain'}{f', K = {one.k}' if one.k else ''}"


def _limit(key: str, value: float) -> tuple[str, str]:
    text = f"{100 * value:g} %" if key == "max_ppl_increase" else f"{value:g}"
    return key.replace("_", " "), text


def _stages(result: Recommendation) -> list[Block]:
    blocks: list[Block] = []
    if result.stages:
        lines = [[Cell(stage.stage), Cell(stage.what), Cell(float(stage.seconds))] for stage in result.stages]
        total = sum(stage.seconds for stage in result.stages)
        columns = [Column("Stage"), Column("What"), Column("Seconds", digits=1)]
        blocks.append(Grid(Table("Stages", columns, lines, f"Together {total:.0f} s.")))
    if result.skipped:
        blocks += [Text("Skipped:"), Items(result.skipped)]
    return blocks
