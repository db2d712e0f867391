"""What the page is made of, as plain data: the templates turn it into HTML, and know nothing of results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True)
class Text:
    """A paragraph; a `note` is set back."""

    kind: ClassVar[str] = "text"
    text: str
    is_note: bool = False


@dataclass(frozen=True)
class Items:
    kind: ClassVar[str] = "items"
    entries: Sequence[str]
    tone: str = ""


@dataclass(frozen=True)
class Facts:
    """Names and values: a card."""

    kind: ClassVar[str] = "facts"
    title: str
    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Code:
    """Text to be copied."""

    kind: ClassVar[str] = "code"
    title: str
    text: str


@dataclass(frozen=True)
class Chart:
    """A Plotly figure. A colour that begins with `$` is the page's own, light or dark. `alt` says in words
    what is drawn; `log_axis`, `x` or `y`, is what the switch between linear and log acts on."""

    kind: ClassVar[str] = "chart"
    title: str
    caption: str
    alt: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    log_axis: str = ""
    is_wide: bool = False
    is_small: bool = False

    @property
    def json(self) -> str:
        """JSON that can stand inside a script element; a number that is none is a ValueError."""
        spec = {"data": self.data, "layout": self.layout, "log": self.log_axis, "title": self.title}
        return script_json(spec)


@dataclass(frozen=True)
class Cell:
    """`value` is what the column is sorted by, where it is a number; `spread` the interval."""

    text: str
    value: float | None = None
    spread: str = ""
    is_best: bool = False


@dataclass(frozen=True)
class Table:
    """Titles of numeric columns are in `numeric`. A folded one is shown on demand."""

    kind: ClassVar[str] = "table"
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    is_folded: bool = False
    numeric: frozenset[int] = field(default=frozenset())


Block = Text | Items | Facts | Code | Chart | Table


@dataclass(frozen=True)
class Section:
    title: str
    blocks: Sequence[Block]
    parts: Sequence[Section] = ()


def script_json(value: Any) -> str:
    """ASCII JSON without a character that could end a script element."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
