"""The section of a precision result: five metrics, quality differences with intervals, the trade-off."""

from __future__ import annotations

from bitdraft.present.charts import formats
from bitdraft.present.charts import precision as charts
from bitdraft.present.formats_table import formats_table, has_formats
from bitdraft.present.page.model import Block, Chart, Grid, Section, Text
from bitdraft.present.precision_table import precision_table
from bitdraft.present.table import Table, interval_hint
from bitdraft.schema.precision import PrecisionResult

_PAIRED = (
    "Paired with the reference on the same tokens. Perplexities' own intervals are the spread of the text "
    "and overlap even where the precisions differ; these differences can tell them apart."
)


def section(result: PrecisionResult, title: str) -> Section:
    found = precision_table(result)
    note = f"★ best of a column, with what is statistically tied with it; {interval_hint(found)}."
    table = Table("All metrics", found.columns, found.rows, note)
    skipped = charts.quality_is_skipped(result.rows)
    panels = charts.bars(result)
    panels += [charts.trade_off(result)] if skipped else [charts.perplexity(result), charts.trade_off(result)]
    blocks: list[Block] = [Text(_how(result), is_note=True), Grid(table), *map(Chart.of, panels)]
    quality = [] if skipped else charts.quality(result)
    parts = []
    if has_formats(result):
        front = [Chart.of(formats.divergence(result))] if formats.has_front(result) else []
        parts.append(Section("Formats", [*front, Grid(formats_table(result))]))
    if quality:
        parts.append(
            Section("Quality against the reference", [Text(_PAIRED, is_note=True), *map(Chart.of, quality)])
        )
    return Section(title, blocks, parts)


def _how(result: PrecisionResult) -> str:
    config = result.config
    if charts.quality_is_skipped(result.rows):
        quality = f"{charts.NOT_MEASURED.capitalize()}."
    else:
        quality = f"Perplexity by the protocol {config.ppl_protocol}."
    return (
        f"{len(result.text.prompt_ids)} prompts × {config.max_new_tokens} new tokens, one at a time, "
        f"greedy, {config.backend} backend, each precision in a process of its own. {quality}"
    )
