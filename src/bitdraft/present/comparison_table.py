"""A comparison in the terminal: verdict first, a table a file, then what else is not the same."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bitdraft.present.comparison_files import (
    ENDS,
    HINT,
    Section,
    difference_cells,
    ids_text,
    marked,
    sections,
    spread,
    status_text,
)
from bitdraft.present.words import joined
from bitdraft.schema.comparison import Comparison, RowComparison

_WIDE = 100
_NARROW = ("throughput_tok_s", "ttft_ms", "speedup", "ppl")
_STYLES = {"better": "bold green", "worse": "bold red"}


def show_comparison(console: Console, comparison: Comparison) -> None:
    console.print(comparison.summary, style="bold", highlight=False, markup=False)
    for reason in comparison.reasons:
        console.print(f"· {reason}", highlight=False, markup=False)
    console.print()
    found = sections(comparison)
    for section in found:
        console.print(_table(section, console.width))
    console.print(f"{HINT}; {ENDS}", style="dim", highlight=False, markup=False)
    hidden = {section.columns[key]: None for section in found for key in _hidden(section, console.width)}
    if hidden:
        text = f"No room for {joined(list(hidden))}: they are in the files, and here from {_WIDE} columns on."
        console.print(text, style="dim", highlight=False, markup=False)
    if comparison.differences:
        table = Table("", "A", "B", title="What else is not the same", title_justify="left")
        for entry in comparison.differences:
            table.add_row(*map(escape, difference_cells(entry, len(found))))
        console.print(table)


def _hidden(section: Section, width: int) -> list[str]:
    """The columns that a narrow terminal has no room for."""
    if width >= _WIDE:
        return []
    kept = set(_NARROW) - ({"ttft_ms"} if "speedup" in section.columns else set())
    return [key for key in section.columns if key not in kept]


def _table(section: Section, width: int) -> Table:
    """A line a row. Only the throughput's interval has room; the others are in the files."""
    table = Table(title=escape(section.title), title_justify="left")
    hidden = _hidden(section, width)
    shown = [key for key in section.columns if key not in hidden]
    table.add_column("Row", no_wrap=True)
    for key in shown:
        table.add_column(section.columns[key], justify="right", no_wrap=True)
        if key == "throughput_tok_s":
            table.add_column("95 %", justify="right", no_wrap=True)
    table.add_column("Same ids", justify="right", no_wrap=True)
    for row in section.rows:
        table.add_row(*_cells(row, shown), ids_text(row))
    return table


def _cells(row: RowComparison, shown: Sequence[str]) -> list[str]:
    status = status_text(row)
    cells = [escape(row.name.short) + (f"\n[red]{escape(status)}[/]" if status else "")]
    for key in shown:
        ratio = row.ratios.get(key)
        style = _STYLES.get(ratio.standing) if ratio is not None else None
        value = marked(key, ratio)
        cells.append(f"[{style}]{value}[/]" if style else value)
        if key == "throughput_tok_s":
            cells.append(f"[dim]{escape(spread(key, ratio))}[/]")
    return cells
