"""The section of a speculative sweep or plan: throughput and acceptance over K, the lossless check, the
anatomy of a step, larger batches, costs."""

from __future__ import annotations

from bitdraft.present.charts import anatomy, batches, schedule
from bitdraft.present.charts import sweep as charts
from bitdraft.present.page.model import Block, Chart, Grid, Section, Text
from bitdraft.present.pairs_table import pairs_table
from bitdraft.present.schedule_table import schedule_table
from bitdraft.present.sweep_table import VERSUS_1, plan_table, sweep_table
from bitdraft.present.table import Cell, Column, Table, interval_hint
from bitdraft.schema.spec_decode import Predicted, SpecDecodeResult

_GROUPS = (
    "Each draft at its fastest K of that size. Intervals are over groups of prompts decoded at once; "
    "below five groups there is none."
)
_COSTS = (
    "Medians over prompts, timed in the middle of the output, draft and target in turn. Of a draft the ratio "
    "is c, its cost; of the target over K + 1 tokens the cost of a verification."
)


def section(result: SpecDecodeResult, title: str, *, is_step: bool = False) -> Section:
    """Of a step on the way to a recommendation tokens/s and memory stand with that: one setting has one
    number of each."""
    blocks: list[Block] = [Text(_how(result), is_note=True)]
    if result.config.plan and result.plan:
        blocks += [*map(Chart.of, charts.plan_panels(result)), Grid(plan_table(result))]
    if result.sweep:
        if result.baseline is not None:
            first = charts.speedup(result) if is_step else charts.throughput(result)
            blocks += [Chart.of(first), Chart.of(charts.acceptance(result))]
        blocks.append(Grid(_table(result, is_step)))
    return Section(title, blocks, _parts(result))


def _parts(result: SpecDecodeResult) -> list[Section]:
    parts = []
    if result.baseline is not None and result.sweep:
        panels = [anatomy.positions(result), anatomy.step_times(result), anatomy.predictions(result)]
        there = [Chart.of(panel) for panel in panels if panel is not None]
        table = _predictions(result)
        if there:
            parts.append(Section("Anatomy of a step", [*there, *([Grid(table)] if table else [])]))
        parts += _lossless(result)
    if result.batches:
        own = [Chart.of(panel) for panel in batches.batch_panels(result)]
        table = sweep_table(result, result.batches, "Larger batches")
        grid = Grid(Table(table.title, table.columns, table.rows, f"{VERSUS_1} ★ best speedup of a size."))
        parts.append(Section("Several prompts at once", [Text(_GROUPS, is_note=True), *own, grid]))
    if result.schedule:
        table = schedule_table(result)
        parts.append(Section(table.title, [Chart.of(schedule.panel(result)), Grid(table)]))
    if result.pairs:
        table = pairs_table(result)
        parts.append(Section(table.title, [Grid(table)]))
    costs = anatomy.costs(result)
    if costs is not None:
        blocks: list[Block] = [Text(_COSTS, is_note=True), Chart.of(costs), Grid(_costs_table(result))]
        parts.append(Section("Costs", blocks))
    return parts


def _how(result: SpecDecodeResult) -> str:
    marks = [f"{charts.protocol(result)}."]
    if result.config.random_weights:
        marks.append("Random weights: acceptance, and so speedup, says nothing of trained ones.")
    acceptance = result.config.synthetic_acceptance
    if acceptance is not None:
        marks.append(f"Synthetic acceptance of {acceptance:g}: speeds are measured, agreement is stated.")
    return " ".join(marks)


def _table(result: SpecDecodeResult, is_step: bool) -> Table:
    table = sweep_table(result, [row for row in result.rows if row.batch_size == 1], "Every draft and K")
    if is_step:
        table = table.without([c.title for c in table.columns if c.key in _OF_A_RECOMMENDATION])
    note = f"★ recommended, with what is statistically tied with it; {interval_hint(table)}."
    return Table(table.title, table.columns, table.rows, note, groups=table.groups)


_OF_A_RECOMMENDATION = ("throughput_tok_s", "peak_ram_gb", "peak_vram_gb")


def _predictions(result: SpecDecodeResult) -> Table | None:
    rows = [row for row in result.sweep if row.status == "ok" and row.predicted != Predicted()]
    lines = []
    for row in rows:
        step = row.predicted.step
        gaps = [None if step is None else step.gap(part) for part in anatomy.PARTS]
        values = (row.metrics.get("decode_speedup"), row.predicted.replay, row.predicted.leviathan, *gaps)
        lines.append([Cell(row.draft), Cell(row.k), *map(Cell, values)])
    columns = [
        Column("Draft"),
        Column("K"),
        Column("Measured ×", digits=2),
        Column("Replay ×", digits=2),
        Column("Leviathan ×", digits=2),
        *(Column(f"{part.capitalize()} gap ms", digits=3) for part in anatomy.PARTS),
    ]
    note = (
        "Speedups after the prefill. A gap is what a step takes beyond what the costs predict for that part."
    )
    return Table("Predicted and measured", columns, lines, note, is_folded=True) if lines else None


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
    words = f"{identical} of {total} runs gave the token ids of plain decoding."
    if replays:
        words += f" In {agreeing} of {compared} rows the measured steps are those of the replay."
    lines = [
        [
            Cell(row.draft),
            Cell(row.k),
            Cell(found.prompt),
            Cell(found.position),
            Cell(found.kind),
            Cell(found.logit_gap),
            Cell(found.control_precision),
        ]
        for row, entry in checked
        for found in entry.divergences
    ]
    blocks: list[Block] = [Text(words)]
    if lines:
        titles = ("Draft", "K", "Prompt", "Token", "Kind", "Logit lead", "Recheck in")
        note = (
            "A rounding tie is explained by the recheck, or by the engine's own probabilities; a bug is not, "
            "and is a warning."
        )
        columns = [Column(title, digits=5) for title in titles]
        blocks.append(Grid(Table("Where texts part", columns, lines, note, is_folded=len(lines) > 12)))
    return [Section("Lossless", blocks)]


def _costs_table(result: SpecDecodeResult) -> Table:
    target, drafts = result.costs.target_forward_ms, result.costs.draft_forward_ms
    lines = [
        [Cell("target"), Cell(size), Cell(target[size]), Cell(result.costs.verify_cost.get(size - 1))]
        for size in sorted(target)
    ]
    lines += [
        [Cell(name), Cell(1), Cell(figure), Cell(result.costs.draft_cost.get(name))]
        for name, figure in drafts.items()
    ]
    columns = [
        Column("Forward of"),
        Column("Tokens"),
        Column("ms", digits=3),
        Column("× the target's over one", digits=3),
    ]
    return Table("Costs", columns, lines, is_folded=True)
