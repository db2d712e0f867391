"""How figures are shown in tables, CSV and sentences."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitdraft.schema.environment import Environment
from bitdraft.schema.precision import PrecisionRow
from bitdraft.schema.records import Figure
from bitdraft.schema.spec_decode import SpecDecodeRow

Row = PrecisionRow | SpecDecodeRow
NO_DRAFT = "–"
"""The baseline's draft, in tables"""


@dataclass(frozen=True)
class Column:
    """A table column: where its figure is, how it is shown, and whether more or less is better."""

    key: str
    title: str
    digits: int
    higher_is_better: bool | None
    in_quality: bool = False
    transform: Callable[[float], float] = float

    def figure(self, row: Row) -> Figure | None:
        """A row's; None where it has none."""
        if self.in_quality:
            return row.quality.figures().get(self.key) if isinstance(row, PrecisionRow) else None
        return row.metrics.get(self.key)

    def value_text(self, row: Row) -> str:
        """`12.3`, or a dash."""
        figure = self.figure(row)
        return "–" if figure is None else f"{self.transform(figure.value):.{self.digits}f}"

    def interval_text(self, row: Row) -> str:
        """`[low, high]`, or nothing where a figure has no interval."""
        figure = self.figure(row)
        if figure is None or figure.low is None or figure.high is None:
            return ""
        low, high = self.transform(figure.low), self.transform(figure.high)
        return f"[{low:.{self.digits}f}, {high:.{self.digits}f}]"

    def text(self, row: Row) -> str:
        """Both."""
        return f"{self.value_text(row)} {self.interval_text(row)}".rstrip()


def interval_hint(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """`in brackets the 95 % interval; without one: RAM GiB (a single value)`"""
    missing: dict[str, list[str]] = {}
    for column in columns:
        figures = [figure for row in rows if (figure := column.figure(row)) is not None]
        for why in dict.fromkeys(why for figure in figures if (why := figure.no_interval) is not None):
            missing.setdefault(why, []).append(column.title)
    hint = "in brackets the 95 % interval"
    without = "; ".join(f"{', '.join(titles)} ({why})" for why, titles in missing.items())
    return f"{hint}; without one: {without}" if without else hint


def best_rows(column: Column, rows: Sequence[Row]) -> set[int]:
    """The places of the rows that hold a column's best value; none where there is nothing to compare."""
    values = {i: f.value for i, row in enumerate(rows) if (f := column.figure(row)) and row.status == "ok"}
    if column.higher_is_better is None or len(values) < 2:
        return set()
    best = max(values.values()) if column.higher_is_better else min(values.values())
    return {index for index, value in values.items() if value == best}


def flat_figures(figures: Mapping[str, Figure]) -> dict[str, Any]:
    """name, name_low, name_high, name_n for every figure."""
    record: dict[str, Any] = {}
    for name, figure in figures.items():
        record[name] = figure.value
        record |= {f"{name}_{end}": getattr(figure, end) for end in ("low", "high", "n")}
    return record


def csv_of(records: Sequence[Mapping[str, Any]]) -> str:
    """A header of all names that occur, then a line a record."""
    names = list(dict.fromkeys(name for record in records for name in record))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return buffer.getvalue()


def machine_line(environment: Environment) -> str:
    """Where and when, for the foot of a file."""
    return (
        f"Machine: {environment.hardware}, torch {environment.torch}, transformers "
        f"{environment.transformers}, "
        f"{environment.time_utc}."
    )
