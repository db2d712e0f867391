"""What a matrix would measure, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.table import Table


class Expected(Protocol):
    """A cell that is to be measured, and about how long that takes."""

    @property
    def name(self) -> str:
        """Unique in its run."""
        ...

    @property
    def is_finished(self) -> bool:
        """Whether it has been measured already."""
        ...

    @property
    def seconds(self) -> float | None:
        """None where it is unknown."""
        ...


def show_expected(console: Console, title: str, folder: Path, cells: Sequence[Expected], state: str) -> None:
    """One run's cells."""
    console.print(f"{title} ({state})", style="bold", highlight=False, markup=False, soft_wrap=True)
    table = Table()
    table.add_column("Cell")
    table.add_column("About", justify="right")
    for cell in cells:
        table.add_row(cell.name, "finished" if cell.is_finished else _about(cell.seconds))
    console.print(table)
    console.print(f"{folder}/\n", highlight=False, markup=False, soft_wrap=True)


def _about(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
