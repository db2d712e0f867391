"""What a comparison leaves in a folder: JSON, CSV, Markdown and the chart."""

from __future__ import annotations

from pathlib import Path

from bitdraft.present.charts.comparison import chart
from bitdraft.present.comparison_table import ENDS, HINT, comparison_tables, differences_table
from bitdraft.present.files import write_charts, write_texts
from bitdraft.present.sentences import with_sentences
from bitdraft.present.table import Value, csv_text, markdown
from bitdraft.schema.comparison import Comparison, RowComparison
from bitdraft.schema.io import to_json


def csv_of(comparison: Comparison) -> str:
    """A line a row: every metric of A and of B, their ratio with its interval and n, and what it means; rows
    of one side alone last."""
    lines = [_record(row) for row in comparison.rows]
    for names, side in ((comparison.only_a, "status_a"), (comparison.only_b, "status_b")):
        lines += [name.model_dump() | {side: "only here"} for name in names]
    return csv_text(lines)


def _record(row: RowComparison) -> dict[str, Value]:
    record: dict[str, Value] = row.name.model_dump() | {"status_a": row.status_a, "status_b": row.status_b}
    for metric, entry in row.ratios.items():
        name = metric.replace("_gb", "_gib")
        record |= {f"{name}_a": entry.a, f"{name}_b": entry.b, f"{name}_ratio": entry.ratio}
        record[f"{name}_standing"] = entry.standing
    if row.acceptance is not None:
        record |= dict(zip(("acceptance_rate_a", "acceptance_rate_b"), row.acceptance, strict=True))
    if row.same_ids is not None:
        record |= dict(zip(("same_ids", "num_texts"), row.same_ids, strict=True))
    return record


def markdown_text(comparison: Comparison) -> str:
    lines = ["# B against A", "", comparison.summary, "", *(f"- {reason}" for reason in comparison.reasons)]
    for table in comparison_tables(comparison):
        lines += ["", f"## {table.title}", "", *markdown(table)]
    lines += ["", f"{HINT}; {ENDS}.", "", *_sides(comparison)]
    other = differences_table(comparison)
    if other is None:
        lines.append("Settings, machine, versions and models are the same.")
    else:
        lines += [f"## {other.title}", "", *markdown(other)]
    return "\n".join(lines) + "\n"


def _sides(comparison: Comparison) -> list[str]:
    lines = []
    for side, record in (("A", comparison.a), ("B", comparison.b)):
        files = "; ".join(
            f"{name}: {entry.model} on {entry.hardware}, {entry.time_utc}"
            for name, entry in record.files.items()
        )
        lines += [f"{side}: {record.folder} ({files}).", ""]
    return lines


def publish(comparison: Comparison, folder: Path | None) -> Comparison:
    """Give the comparison its sentences; write comparison.json, .csv, .md and, where there is any ratio to
    draw, .png."""
    found = with_sentences(comparison)
    if folder is None:
        return found
    texts = {"json": to_json(found), "csv": csv_of(found), "md": markdown_text(found)}
    write_texts(folder, "comparison", texts)
    if any(row.ratios for row in found.rows):
        write_charts(folder, {"comparison": chart(found)})
    return found
