"""What a comparison looks like: the cells of its table, and JSON, CSV, Markdown and the chart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from bitdraft.present.charts.comparison import render
from bitdraft.present.sentences import with_sentences
from bitdraft.present.tables import csv_of
from bitdraft.present.words import ratio_interval, ratio_value
from bitdraft.schema.comparison import Comparison, Difference, Ratio, RowComparison, RowName
from bitdraft.schema.io import to_json, write_atomically

COLUMNS = {
    "throughput_tok_s": "Tok/s",
    "tpot_ms": "TPOT",
    "ttft_ms": "TTFT",
    "speedup": "Speedup",
    "tokens_per_step": "Tok/st",
    "peak_vram_gb": "VRAM",
    "peak_ram_gb": "RAM",
    "ppl": "PPL",
    "bits_per_byte": "Bits/byte",
}
MARKS = {"better": "▲", "worse": "▼", "drift": "~"}
HINT = "B over A; ▲ significantly better, ▼ worse, ~ by no more than the machine itself changed"
ENDS = "in brackets the 95 % interval over prompts (PPL: over blocks of text)"


class Section(NamedTuple):
    """The rows of one file, and the metrics that any of them has."""

    title: str
    rows: list[RowComparison]
    columns: dict[str, str]


def sections(comparison: Comparison) -> list[Section]:
    found = []
    for source, group in groupby(comparison.rows, key=lambda row: row.name.source):
        rows = list(group)
        used = {key: title for key, title in COLUMNS.items() if any(key in row.ratios for row in rows)}
        found.append(Section(_title(rows[0].name, source), rows, used))
    return found


def _title(name: RowName, source: str) -> str:
    return f"{source} · {name.text}" if name.k is None else f"{source} · {name.text} · {name.precision}"


def marked(name: str, ratio: Ratio | None) -> str:
    """`▼ 0.931×`"""
    return (
        "–" if ratio is None else f"{MARKS.get(ratio.standing, '')} {ratio_value(name, ratio.ratio)}".strip()
    )


def spread(name: str, ratio: Ratio | None) -> str:
    return "" if ratio is None else ratio_interval(name, ratio.ratio)


def status_text(row: RowComparison) -> str:
    """Nothing where both are ok."""
    if row.status_a == row.status_b:
        return "" if row.status_a == "ok" else row.status_a
    return f"{row.status_a} → {row.status_b}"


def ids_text(row: RowComparison) -> str:
    return "–" if row.same_ids is None else f"{row.same_ids[0]}/{row.same_ids[1]}"


def difference_cells(entry: Difference, num_files: int) -> tuple[str, str, str]:
    """Name, A, B; with the files that it is true of, where those are not all."""
    is_general = len(entry.sources) in (0, num_files)
    name = entry.key if is_general else f"{entry.key} ({', '.join(entry.sources)})"
    a, b = ("–" if value is None else str(value) for value in (entry.a, entry.b))
    return name, a, b


def csv_text(comparison: Comparison) -> str:
    """A line a row: every metric of A and of B, their ratio with its interval and n, and what it means; rows
    of one side alone last."""
    lines = [_flat(row) for row in comparison.rows]
    for names, where in ((comparison.only_a, ("only here", "–")), (comparison.only_b, ("–", "only here"))):
        lines += [name.model_dump() | {"status_a": where[0], "status_b": where[1]} for name in names]
    return csv_of(lines)


def _flat(row: RowComparison) -> dict[str, Any]:
    record: dict[str, Any] = row.name.model_dump() | {"status_a": row.status_a, "status_b": row.status_b}
    for name, entry in row.ratios.items():
        found = entry.ratio
        record |= {f"{name}_a": entry.a, f"{name}_b": entry.b, f"{name}_ratio": found.value}
        record |= {f"{name}_ratio_{end}": getattr(found, end) for end in ("low", "high", "n")}
        record[f"{name}_standing"] = entry.standing
    if row.acceptance is not None:
        record |= dict(zip(("acceptance_rate_a", "acceptance_rate_b"), row.acceptance, strict=True))
    if row.same_ids is not None:
        record |= dict(zip(("same_ids", "num_texts"), row.same_ids, strict=True))
    return record


def markdown_text(comparison: Comparison) -> str:
    lines = ["# B against A", "", comparison.summary, "", *(f"- {reason}" for reason in comparison.reasons)]
    for section in sections(comparison):
        titles = ["Row", "Status", *section.columns.values(), "Same ids"]
        lines += ["", f"## {section.title}", "", *_heading(titles, 2)]
        for row in section.rows:
            cells = [
                f"{marked(key, row.ratios.get(key))} {spread(key, row.ratios.get(key))}".strip()
                for key in section.columns
            ]
            lines.append(_line([row.name.short, status_text(row) or "ok", *cells, ids_text(row)]))
    lines += ["", f"{HINT}; {ENDS}.", ""]
    lines += [*_sides(comparison), *_difference_lines(comparison.differences, len(sections(comparison)))]
    return "\n".join(lines) + "\n"


def _heading(titles: Sequence[str], num_left: int) -> list[str]:
    left = len(titles) if num_left < 0 else num_left
    return [_line(titles), "|" + " --- |" * left + " ---: |" * (len(titles) - left)]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _sides(comparison: Comparison) -> list[str]:
    lines = []
    for side, record in (("A", comparison.a), ("B", comparison.b)):
        files = "; ".join(
            f"{name}: {entry.model} on {entry.hardware}, {entry.time_utc}"
            for name, entry in record.files.items()
        )
        lines += [f"{side}: {record.folder} ({files}).", ""]
    return lines


def _difference_lines(found: Sequence[Difference], num_files: int) -> list[str]:
    if not found:
        return ["Settings, machine, versions and models are the same."]
    cells = [_line(difference_cells(entry, num_files)) for entry in found]
    return ["## What else is not the same", "", *_heading(["", "A", "B"], -1), *cells]


def publish(comparison: Comparison, folder: Path | None) -> Comparison:
    """Give the comparison its sentences; write comparison.json, .csv, .md and, where there is any ratio to
    draw, .png."""
    found = with_sentences(comparison)
    if folder is None:
        return found
    write_atomically(folder / "comparison.json", to_json(found))
    write_atomically(folder / "comparison.csv", csv_text(found))
    write_atomically(folder / "comparison.md", markdown_text(found))
    if any(row.ratios for row in found.rows):
        write_atomically(folder / "comparison.png", render(found))
    return found
