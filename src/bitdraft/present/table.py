"""A table as plain data, and what is made of it here: Markdown and CSV. The terminal (`terminal`) and the
page (`page/templates`) show the same one."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bitdraft.present.words import fixed
from bitdraft.schema.records import Figure

Value = Figure | float | int | str | None
Mark = Literal["", "best", "good", "tied", "bad", "better", "worse", "drift", "quiet"]
"""`best` is shared by all that are statistically tied with the best; `good`, `tied` and `bad` are what a
verdict says; `better`, `worse` and `drift` (no further than the machine changed) are of a comparison; `quiet`
is set back."""
GLYPHS = {"best": "★ ", "better": "▲ ", "worse": "▼ ", "drift": "~ "}
NEAR = 0.10
"""Single values as close as this are a tie: nothing says how far they vary"""


def percent(share: float) -> float:
    """The `scale` of a share."""
    return 100 * share


@dataclass(frozen=True)
class Column:
    """`key` is the header in CSV, with its unit; `digits` are those of numbers behind the point, without any
    the first `significant`; `scale` makes the shown value of the stored one; `hint` is a sentence about it.
    Where room is short the columns with the largest `rank` go first."""

    title: str
    key: str = ""
    digits: int | None = None
    scale: Callable[[float], float] = float
    signed: bool = False
    hint: str = ""
    rank: int = 0
    significant: int = 6

    def text(self, cell: Cell) -> str:
        """`12.3`, `small`, or nothing."""
        value = cell.value
        if isinstance(value, Figure):
            return self._number(value.value)
        if value is None or isinstance(value, str):
            return value or ""
        return str(value) if isinstance(value, int) else self._number(value)

    def spread(self, cell: Cell) -> str:
        """`[low, high]`, or nothing where a figure has no interval."""
        value = cell.value
        if not isinstance(value, Figure) or value.low is None or value.high is None:
            return ""
        return f"[{self._number(value.low)}, {self._number(value.high)}]"

    def both(self, cell: Cell) -> str:
        """`12.3 [11.9, 12.8]`"""
        return f"{self.text(cell)} {self.spread(cell)}".rstrip()

    def sort_value(self, cell: Cell) -> float | None:
        """What rows are sorted by; None of a text."""
        value = cell.value
        if isinstance(value, Figure):
            return self.scale(value.value)
        return self.scale(value) if isinstance(value, float | int) else None

    def _number(self, value: float) -> str:
        shown = self.scale(value)
        if self.digits is None:
            return f"{shown:{'+' if self.signed else ''}.{self.significant}g}"
        return fixed(shown, self.digits, signed=self.signed)


@dataclass(frozen=True)
class Cell:
    """A value, and what is said of it by its look."""

    value: Value = None
    mark: Mark = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells under columns. `groups` are the rows that begin a new part; a folded one is shown on
    demand."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    is_folded: bool = False
    groups: frozenset[int] = frozenset()

    @property
    def numeric(self) -> frozenset[int]:
        """Columns that hold a number."""
        return frozenset(
            i
            for row in self.rows
            for i, cell in enumerate(row)
            if isinstance(cell.value, Figure | float | int)
        )

    def without(self, titles: Iterable[str]) -> Table:
        """Without these columns."""
        left_out = set(titles)
        kept = [i for i, column in enumerate(self.columns) if column.title not in left_out]
        columns, rows = [self.columns[i] for i in kept], [[row[i] for i in kept] for row in self.rows]
        return Table(self.title, columns, rows, self.note, self.is_folded, self.groups)


def markdown(table: Table) -> list[str]:
    """Lines of GitHub's tables; the best in bold."""
    numeric = table.numeric
    rules = ["---:" if i in numeric else "---" for i in range(len(table.columns))]
    lines = [_line([column.title for column in table.columns]), _line(rules)]
    for row in table.rows:
        lines.append(
            _line([_in_markdown(column, cell) for column, cell in zip(table.columns, row, strict=True)])
        )
    return lines


def _in_markdown(column: Column, cell: Cell) -> str:
    text = column.both(cell)
    return f"**{text}**" if cell.mark == "best" else f"{GLYPHS.get(cell.mark, '')}{text}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def csv_text(records: Sequence[Mapping[str, Value]]) -> str:
    """A header of all names that occur, then a line a record. A figure is four columns: name, name_low,
    name_high, name_n. Memory, which is counted in GiB, says so."""
    flat = [_flat(record) for record in records]
    names = list(dict.fromkeys(name for record in flat for name in record))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return buffer.getvalue()


def _flat(record: Mapping[str, Value]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in record.items():
        name = re.sub(r"_gb(?=_|$)", "_gib", key)
        if isinstance(value, Figure):
            found[name] = value.value
            found |= {f"{name}_{end}": getattr(value, end) for end in ("low", "high", "n")}
        else:
            found[name] = value
    return found


def best_of(figures: Sequence[Figure | None], higher_is_better: bool) -> set[int]:
    """The best value and all that are statistically tied with it (intervals that overlap; single values
    within 10 %); none where that is all of them."""
    values = {i: figure for i, figure in enumerate(figures) if figure is not None}
    if len(values) < 2:
        return set()
    choose = max if higher_is_better else min
    best = values[choose(values, key=lambda i: values[i].value)]
    tied = {i for i, figure in values.items() if _is_tied(figure, best)}
    return set() if len(tied) == len(values) else tied


def _is_tied(one: Figure, best: Figure) -> bool:
    if one.low is None or one.high is None or best.low is None or best.high is None:
        return abs(one.value - best.value) <= NEAR * abs(best.value)
    return one.low <= best.high and best.low <= one.high


def interval_hint(table: Table) -> str:
    """`in brackets the 95 % interval; without one: RAM GiB (a single value)`"""
    missing: dict[str, list[str]] = {}
    for index, column in enumerate(table.columns):
        figures = [row[index].value for row in table.rows]
        whys = [why for f in figures if isinstance(f, Figure) and (why := f.no_interval) is not None]
        for why in dict.fromkeys(whys):
            missing.setdefault(why, []).append(column.title)
    hint = "in brackets the 95 % interval"
    without = "; ".join(f"{', '.join(titles)} ({why})" for why, titles in missing.items())
    return f"{hint}; without one: {without}" if without else hint
