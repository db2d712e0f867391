"""What a person sees in the terminal: the final table, the verdict."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bitdraft.present import recommendation_files as recommend_output
from bitdraft.present import sweep_files as spec_decode_output
from bitdraft.present.charts.sweep import subject
from bitdraft.present.precision_files import columns
from bitdraft.present.sweep_table import TableRow, fastest, table_rows
from bitdraft.present.sweep_table import columns as columns_of_rows
from bitdraft.present.tables import Column, best_rows, interval_hint
from bitdraft.schema.precision import PrecisionResult
from bitdraft.schema.recommendation import Recommendation
from bitdraft.schema.spec_decode import SpecDecodeResult, SpecDecodeRow

# what a narrow terminal shows of a sweep: of several prompts at once, or of one
_NARROW = {
    False: ("throughput_tok_s", "speedup", "acceptance_rate", "tokens_per_step"),
    True: ("throughput_tok_s", "speedup", "over_batch_1"),
}


def show_precision(console: Console, result: PrecisionResult) -> None:
    """The table with the best value of each column marked ★, then verdict, reasons and warnings."""
    rows = result.rows
    # A column a precision: intervals make the cells too wide for a row of nine.
    table = Table(title=escape(f"{result.model.name} · {result.environment.device}"), title_justify="left")
    table.add_column("", no_wrap=True)
    for row in rows:
        table.add_column(row.precision.upper(), justify="right")
    if any(row.status != "ok" for row in rows):
        table.add_row("status", *(row.status for row in rows))
    for column in columns(rows):
        best = best_rows(column, rows)
        cells = []
        for index, row in enumerate(rows):
            value = escape(column.value_text(row))
            shown = f"[bold green]★ {value}[/]" if index in best else value
            spread = escape(column.interval_text(row))
            cells.append(f"{shown}\n[dim]{spread}[/]" if spread else shown)
        table.add_row(column.title, *cells)
    console.print(table)
    hint = f"★ best value; {interval_hint(columns(rows), rows)}"
    console.print(hint, style="dim", highlight=False, markup=False)
    _show_verdict(console, result)


def show_spec_decode(console: Console, result: SpecDecodeResult) -> None:
    """A row for K = 0 and one for every (draft, K), or the plan; then verdict, reasons and warnings."""
    title = escape(f"{subject(result)} · {result.text.dataset} · {result.config.precision}")
    table = Table(title=title, title_justify="left")
    if result.config.plan:
        _plan_table(table, result)
    else:
        rows = [row for row in result.rows if row.batch_size == 1]
        _rows_table(table, rows, all_columns=console.width >= 100)
    console.print(table)
    if result.rows:
        why = interval_hint(columns_of_rows(rows), rows)
        hint = f"★ best value; {why}; Same: runs with the token ids of K = 0"
        console.print(hint, style="dim", highlight=False, markup=False)
    if result.batches:
        table = Table(title="Several prompts at once", title_justify="left")
        _rows_table(table, fastest(result.batches), all_columns=console.width >= 100)
        console.print(table)
        hint = "each draft's fastest K at that size (others: CSV); vs. 1: over batch 1 on the same prompts"
        console.print(hint, style="dim", highlight=False)
    _show_verdict(console, result)


def _rows_table(table: Table, rows: Sequence[SpecDecodeRow], all_columns: bool) -> None:
    """A section a draft at one prompt, or a batch size."""
    of_batches = any(row.batch_size > 1 for row in rows)
    shown = [column for column in columns_of_rows(rows) if all_columns or column.key in _NARROW[of_batches]]
    if of_batches:
        table.add_column("Batch", justify="right", no_wrap=True)
    table.add_column("Draft", no_wrap=True)
    _add_columns(table, shown)
    section = ""
    for found in table_rows(rows, shown):
        row = found.row
        begins = str(row.batch_size) if of_batches else found.draft
        if section and begins != section:
            table.add_section()
        first = escape(begins) if begins != section else ""
        section = begins
        names = [first, escape(found.draft)] if of_batches else [first]
        if row.status != "ok":
            table.add_row(*names, str(row.k), f"[red]{row.status}[/]")
            continue
        table.add_row(*names, str(row.k), *_cells(found, shown), found.lossless)


def _add_columns(table: Table, shown: Sequence[Column]) -> None:
    """K, the figures and, behind the speedup, its interval."""
    table.add_column("K", justify="right")
    for column in shown:
        table.add_column(column.title, justify="right", no_wrap=True)
        if column.key == "speedup":
            table.add_column("95 %", justify="right", no_wrap=True)
    table.add_column("Same", justify="right")


def _cells(found: TableRow, shown: Sequence[Column]) -> list[str]:
    cells = []
    for column in shown:
        value = escape(column.value_text(found.row))
        cells.append(f"[bold green]★ {value}[/]" if column.key in found.best else value)
        if column.key == "speedup":
            cells.append(f"[dim]{escape(column.interval_text(found.row))}[/]")
    return cells


def _plan_table(table: Table, result: SpecDecodeResult) -> None:
    table.add_column("Draft")
    for title in ("K", "Predicted speedup (×)", "Leviathan, without prefills", "Tokens/step"):
        table.add_column(title, justify="right")
    for draft, entry in result.plan.items():
        for k, point in entry.by_k.items():
            value = f"{point.replay_end_to_end:.2f}"
            best = k == entry.best_k.replay
            shown = f"[bold green]★ {value}[/]" if best else value
            table.add_row(
                escape(draft),
                str(k),
                shown,
                spec_decode_output.leviathan_text(point),
                f"{point.tokens_per_step:.2f}",
            )
        table.add_section()


def show_recommendation(console: Console, result: Recommendation) -> None:
    """What was considered, the verdict with its reasons, and the choice as code."""
    table = Table(title=escape(f"What to deploy · {result.config.model}"), title_justify="left")
    titles = recommend_output.TITLES
    is_wide = console.width >= 190
    # without the time to the first token and the quality, which the precisions' own table has
    indices = [index for index in range(len(titles)) if is_wide or index not in (5, 7, 8)]
    for index in indices:
        table.add_column(titles[index], justify="left" if index < 3 else "right", no_wrap=True)
    for row in recommend_output.shown(result):
        style = {"chosen": "bold green", "out": "dim", "predicted": "dim"}.get(row.standing, "")
        cells = recommend_output.cells(row, with_intervals=is_wide)
        table.add_row(*(escape(cells[index]) for index in indices), style=style)
    console.print(table)
    console.print(recommend_output.SPEEDS, style="dim", highlight=False)
    _show_verdict(console, result)
    for text in result.skipped:
        console.print(f"! Skipped {text}.", style="yellow", highlight=False, markup=False)
    for name, text in result.snippets.items():
        console.print(f"\n{recommend_output.SNIPPET_TITLES[name]}:", style="bold")
        # lines of code stay whole, so that they can be copied
        console.print(text.rstrip(), soft_wrap=True, highlight=False, markup=False)


def _show_verdict(console: Console, result: PrecisionResult | SpecDecodeResult | Recommendation) -> None:
    console.print()
    console.print(result.summary, style="bold", highlight=False, markup=False)
    for reason in result.reasons:
        console.print(f"· {reason}", highlight=False, markup=False)
    for warning in result.warnings:
        console.print(f"! {warning}", style="yellow", highlight=False, markup=False)
