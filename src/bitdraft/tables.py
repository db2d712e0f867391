"""How figures are shown in tables, CSV and sentences."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitdraft.schema.records import Figure
from bitdraft.schema.results import BatchRow, PrecisionRow, SpecDecodeRow

Row = PrecisionRow | SpecDecodeRow | BatchRow


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
        if self.in_quality:
            found = row.quality.get(self.key) if isinstance(row, PrecisionRow) else None
            return Figure.model_validate(found) if found is not None else None
        return row.metrics.get(self.key)

    def value_text(self, row: Row) -> str:
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
        return f"{self.value_text(row)} {self.interval_text(row)}".rstrip()


def best_rows(column: Column, rows: Sequence[Row]) -> set[int]:
    """The places of the rows that hold a column's best value; none where there is nothing to compare."""
    values = {i: f.value for i, row in enumerate(rows) if (f := column.figure(row)) and row.status == "ok"}
    if column.higher_is_better is None or len(values) < 2:
        return set()
    best = max(values.values()) if column.higher_is_better else min(values.values())
    return {place for place, value in values.items() if value == best}


def flat_figures(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """name, name_low, name_high, name_n for every figure."""
    record: dict[str, Any] = {}
    for name, figure in figures.items():
        record[name] = figure["value"]
        record |= {f"{name}_{end}": figure[end] for end in ("low", "high", "n")}
    return record


def csv_of(records: Sequence[Mapping[str, Any]]) -> str:
    """A header of all names that occur, then a line a record."""
    names = list(dict.fromkeys(name for record in records for name in record))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return buffer.getvalue()


def times_text(ratio: Figure) -> str:
    """`1.50× [1.40, 1.60]`, without brackets where there is no interval."""
    if ratio.low is None or ratio.high is None:
        return f"{ratio.value:.2f}×"
    return f"{ratio.value:.2f}× [{ratio.low:.2f}, {ratio.high:.2f}]"


def draft_name(draft: str, k: int, draft_precision: str | None) -> str:
    """`small in bf16, K = 3`, without a precision where it is the target's."""
    return f"{draft}{f' in {draft_precision}' if draft_precision else ''}, K = {k}"


def pair_name(pair: tuple[str, str | None]) -> str:
    """Of the target's precision and the drafts', where that is another: `fp32 with drafts in bf16`."""
    precision, other = pair
    return precision if other is None else f"{precision} with drafts in {other}"


def joined(parts: Sequence[object]) -> str:
    """`1, 2 and 3`"""
    *others, last = map(str, parts)
    return f"{', '.join(others)} and {last}" if others else last
