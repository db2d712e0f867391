"""A comparison in the terminal: verdict first, a table a file, then what else is not the same."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
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

# the last to go where a terminal is narrow
_FIRST = ("throughput_tok_s", "speedup", "ppl", "ttft_ms")
_ENDLESS = 1000
_STYLES = {"better": "bold green", "worse": "bold red"}


def show_comparison(console: Console, comparison: Comparison) -> None:
    console.print(comparison.summary, style="bold", highlight=False, markup=False)
    for reason in comparison.reasons:
        console.print(f"· {reason}", highlight=False, markup=False)
    console.print()
    found = sections(comparison)
    hidden: dict[str, None] = {}
    for section in found:
        left_out = _hidden(section, console)
        console.print(_table(section, left_out))
        hidden |= {section.columns[key]: None for key in left_out}
    console.print(f"{HINT}; {ENDS}", style="dim", highlight=False, markup=False)
    if hidden:
        text = f"No room here for {joined(list(hidden))}: a wider terminal has it, and the files do."
        console.print(text, style="dim", highlight=False, markup=False)
    if comparison.differences:
        table = Table("", "A", "B", title="What else is not the same", title_justify="left")
        for entry in comparison.differences:
            table.add_row(*map(escape, difference_cells(entry, len(found))))
        console.print(table)


def _hidden(section: Section, console: Console) -> list[str]:
    """The columns that this terminal has no room for; one is always shown."""
    order = [key for key in _FIRST if key in section.columns]
    order += [key for key in section.columns if key not in order]
    for num_shown in range(len(order), 1, -1):
        table = _table(section, order[num_shown:])
        # as wide as it wants to be
        if Measurement.get(console, console.options.update_width(_ENDLESS), table).maximum <= console.width:
            return order[num_shown:]
    return order[1:]


def _table(section: Section, hidden: Sequence[str]) -> Table:
    """A line a row. Only the throughput's interval is shown; the others are in the files."""
    table = Table(title=escape(section.title), title_justify="left")
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
