"""Tables of the page: cells from numbers and figures, and the rows of a sweep."""

from __future__ import annotations

from collections.abc import Sequence

from bitdraft.present.page.model import Cell, Table
from bitdraft.present.sweep_table import columns, same_ids_title, table_rows
from bitdraft.present.tables import Column, Row, best_rows
from bitdraft.schema.records import Figure
from bitdraft.schema.spec_decode import SpecDecodeRow


def table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    note: str = "",
    is_folded: bool = False,
) -> Table:
    """A column is numeric where a cell of it has a value."""
    numeric = {index for row in rows for index, cell in enumerate(row) if cell.value is not None}
    return Table(title, columns, rows, note, is_folded, frozenset(numeric))


def number_cell(value: float | None, digits: int) -> Cell:
    return Cell("–") if value is None else Cell(f"{value:.{digits}f}", float(value))


def count_cell(value: int) -> Cell:
    return Cell(str(value), float(value))


def figure_cells(columns: Sequence[Column], rows: Sequence[Row]) -> list[list[Cell]]:
    """For each row its cells of the columns, the best of each marked."""
    best = [best_rows(column, rows) for column in columns]
    return [
        [_figure_cell(column, row, index in indices) for column, indices in zip(columns, best, strict=True)]
        for index, row in enumerate(rows)
    ]


def _figure_cell(column: Column, row: Row, is_best: bool) -> Cell:
    figure = column.figure(row)
    value = None if figure is None else column.transform(figure.value)
    return Cell(column.value_text(row), value, column.interval_text(row), is_best)


def plain_figure_cell(figure: Figure | None, digits: int, scale: float = 1.0) -> Cell:
    if figure is None:
        return Cell("–")
    value = scale * figure.value
    spread = ""
    if figure.low is not None and figure.high is not None:
        spread = f"[{scale * figure.low:.{digits}f}, {scale * figure.high:.{digits}f}]"
    return Cell(f"{value:.{digits}f}", value, spread)


def sweep_table(title: str, rows: Sequence[SpecDecodeRow], note: str) -> Table:
    """K = 0 and every (draft, K), with a column of batch sizes where there are larger ones."""
    shown, of_batches = columns(rows), any(row.batch_size > 1 for row in rows)
    lines = []
    for found in table_rows(rows, shown):
        row = found.row
        status = row.status if row.reason is None else f"{row.status}: {row.reason}"
        names = [Cell(found.draft), count_cell(row.k), Cell(status)]
        if of_batches:
            names = [count_cell(row.batch_size), *names]
        cells = [_figure_cell(column, row, column.key in found.best) for column in shown]
        lines.append([*names, *cells, Cell(found.lossless or "–")])
    titles = ["Draft", "K", "Status", *(column.title for column in shown), same_ids_title(of_batches)]
    return table(title, ["Batch", *titles] if of_batches else titles, lines, note=note)
