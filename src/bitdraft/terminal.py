"""What a person sees in the terminal: live progress, the final table, the verdict."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from bitdraft.precision.output import best_rows, columns
from bitdraft.results import PrecisionResult

# What each stage is called, and the share of a precision's time it begins and ends at (a rough guess).
_STAGES = {
    "prepare": ("preparing model and text", 0.0, 0.0),
    "environment": ("measuring this machine", 0.0, 0.0),
    "load": ("loading", 0.0, 0.1),
    "quality": ("perplexity", 0.1, 0.5),
    "speed": ("speed", 0.5, 0.9),
    "divergence": ("KL divergence", 0.9, 1.0),
}


class LiveProgress:
    """A bar for what runs now and one for all precisions; plain lines where there is no terminal."""

    def __init__(self, console: Console, num_precisions: int) -> None:
        self.console = console
        self._seen: list[str] = []
        self._stage = ("", "")
        self._bar: TaskID | None = None
        self._progress = Progress(
            TextColumn("{task.description:<32}"),
            BarColumn(bar_width=32),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._all = self._progress.add_task("all precisions", total=num_precisions)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, precision: str, stage: str, done: int, total: int) -> None:
        if (precision, stage) != self._stage:
            self._begin(precision, stage)
        _, start, end = _STAGES[stage]
        finished = max(0, len(self._seen) - 1) + start + (end - start) * done / total
        self._progress.update(self._all, completed=finished)
        if self._bar is not None:
            self._progress.update(self._bar, completed=done, total=total)

    def _begin(self, precision: str, stage: str) -> None:
        self._stage = (precision, stage)
        name = f"{precision} {_STAGES[stage][0]}".strip()
        if precision and precision not in self._seen:
            self._seen.append(precision)
        if not self.console.is_terminal:
            self.console.print(f"{name} …", style="dim", highlight=False)
            return
        if self._bar is not None:
            self._progress.remove_task(self._bar)
        self._bar = self._progress.add_task(name, total=1)


def show_precision(console: Console, result: PrecisionResult) -> None:
    """The table with the best value of each column marked ★, then verdict, reasons and warnings."""
    rows = result.rows
    # A column a precision: intervals make the cells too wide for a row of nine.
    table = Table(
        title=escape(f"{result.model['name']} · {result.environment['device']}"), title_justify="left"
    )
    table.add_column("", no_wrap=True)
    for row in rows:
        table.add_column(row.precision.upper(), justify="right")
    if any(row.status != "ok" for row in rows):
        table.add_row("status", *(row.status for row in rows))
    for column in columns(rows):
        best = best_rows(column, rows)
        cells = []
        for row in rows:
            value = escape(column.value_text(row))
            shown = f"[bold green]★ {value}[/]" if row.precision in best else value
            spread = escape(column.interval_text(row))
            cells.append(f"{shown}\n[dim]{spread}[/]" if spread else shown)
        table.add_row(column.title, *cells)
    console.print(table)
    console.print("★ best value; in brackets the 95 % bootstrap interval", style="dim", highlight=False)
    console.print()
    console.print(result.verdict.get("summary", ""), style="bold", highlight=False, markup=False)
    for reason in result.verdict.get("reasons", []):
        console.print(f"· {reason}", highlight=False, markup=False)
    for warning in result.warnings:
        console.print(f"! {warning}", style="yellow", highlight=False, markup=False)
