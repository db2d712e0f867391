"""What a precision result leaves in a folder: JSON, CSV, Markdown and the chart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bitdraft.present.charts.formats import chart as formats_chart
from bitdraft.present.charts.formats import has_front
from bitdraft.present.charts.precision import chart
from bitdraft.present.files import conclusions, machine_line, write_charts, write_texts
from bitdraft.present.formats_table import formats_csv, formats_table, has_formats
from bitdraft.present.precision_table import precision_table
from bitdraft.present.sentences import Language, with_sentences
from bitdraft.present.table import Value, csv_text, interval_hint, markdown
from bitdraft.schema.io import to_json
from bitdraft.schema.precision import PrecisionResult, PrecisionRow

CHART_NAME, FORMATS_NAME = "precision_benchmark_2rows", "precision_formats"


def csv_of(rows: Sequence[PrecisionRow]) -> str:
    """A line a precision: every metric and quality figure with its interval and n."""
    return csv_text([_record(row) for row in rows])


def _record(row: PrecisionRow) -> dict[str, Value]:
    names = {"precision": row.precision, "status": row.status, "reason": row.reason}
    return {**names, **row.metrics, **row.quality.figures()}


def markdown_text(result: PrecisionResult) -> str:
    table = precision_table(result)
    lines = [
        *conclusions(result, f"Precision of {result.model.name}"),
        *markdown(table),
        "",
        f"Best value of a column in bold, with what is statistically tied with it; {interval_hint(table)}.",
        "",
        *_formats(result),
        *_footer(result),
    ]
    return "\n".join(lines) + "\n"


def _formats(result: PrecisionResult) -> list[str]:
    """The table of formats, where divergences were measured."""
    if not has_formats(result):
        return []
    table = formats_table(result)
    return [
        "## Formats",
        "",
        *markdown(table),
        "",
        f"{table.note.removesuffix('.')}; {interval_hint(table)}.",
        "",
    ]


def _footer(result: PrecisionResult) -> list[str]:
    text = result.text
    lines = [f"Text: {text.dataset} (sha256 {text.sha256[:12]}), {len(text.prompt_ids)} prompts."]
    protocols = [row.quality.protocol for row in result.rows if row.quality.protocol is not None]
    if protocols:
        card = protocols[0]
        lines.append(
            f"PPL: {card.protocol}, window {card.window}, stride {card.stride}, "
            f"{card.num_scored_tokens} tokens scored, mean over {card.normaliser}."
        )
    return [*lines, machine_line(result.environment)]


def publish(result: PrecisionResult, folder: Path | None) -> tuple[PrecisionResult, list[str]]:
    """Give the result its sentences; write precision.json, .csv, .md and the chart. Returns it with the names
    of its files."""
    found = with_sentences(result)
    if folder is None:
        return found, []
    texts = {"json": to_json(found), "csv": csv_of(found.rows), "md": markdown_text(found)}
    names = write_texts(folder, "precision", texts)
    if has_formats(found):
        names += write_texts(folder, FORMATS_NAME, {"csv": formats_csv(found)})
    return found, [*names, *draw(found, folder)]


def draw(
    result: PrecisionResult, folder: Path, formats: Sequence[str] = ("png",), language: Language = "en"
) -> list[str]:
    """The charts, from the result alone; their files' names in each format."""
    said = with_sentences(result, language)
    charts = {CHART_NAME: chart(said)}
    if has_front(said):
        charts[FORMATS_NAME] = formats_chart(said)
    return write_charts(folder, charts, formats, language)
