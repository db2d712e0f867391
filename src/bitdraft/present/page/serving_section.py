"""The section of running servers: throughput and speedup over the load, the table, acceptance by position."""

from __future__ import annotations

from bitdraft.present.charts import serving as charts
from bitdraft.present.page.model import Block, Chart, Grid, Section, Text
from bitdraft.present.serving_table import positions_table, serving_table
from bitdraft.present.table import Table, interval_hint
from bitdraft.schema.serving import ServingResult


def section(result: ServingResult, title: str) -> Section:
    """With what the servers are as a note on top."""
    engines = "; ".join(
        f"{one.name}: {one.engine} {one.version or '(version unknown)'}, read as {one.adapter}"
        for one in result.servers
    )
    config = result.config
    api = "chats" if config.api == "chat" else "completions"
    load = f"concurrency {', '.join(map(str, config.concurrency))}"
    if config.rate is not None:
        load = f"{config.rate:g} requests a second"
    tokens = config.max_new_tokens
    words = f"{engines}. {config.num_prompts} {api} a load, {load}, up to {tokens} tokens each."
    table = serving_table(result)
    note = f"Green: shown to pay, or the baseline where that is shown not to; {interval_hint(table)}."
    grid = Grid(Table("Every server and load", table.columns, table.rows, note, groups=table.groups))
    panels: list[Block] = [Chart.of(panel) for panel in charts.panels(result)]
    blocks: list[Block] = [Text(words, is_note=True), *panels, grid]
    positions = positions_table(result)
    return Section(title, blocks, [Section(positions.title, [Grid(positions)])] if positions.rows else [])
