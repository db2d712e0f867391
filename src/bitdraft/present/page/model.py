"""What the page is made of, as plain data: the templates turn it into HTML, and know nothing of results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from bitdraft.present.charts.plot import Panel
from bitdraft.present.sentences import Language
from bitdraft.present.table import Table
from bitdraft.present.translate import spec_translated

Level = Literal["good", "fair", "poor"]


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
    """A panel, and its specification, which is made when the page is put together."""

    kind: ClassVar[str] = "chart"
    panel: Panel
    spec: str = field(default="")

    @classmethod
    def of(cls, panel: Panel) -> Chart:
        """A number that is none is a ValueError."""
        return cls(panel, script_json({"spec": panel.in_page(), "title": panel.title}))

    def said(self, language: Language) -> str:
        """The specification in a language."""
        return (
            self.spec if language == "en" else script_json(spec_translated(json.loads(self.spec), language))
        )


@dataclass(frozen=True)
class Grid:
    """A table of the page."""

    kind: ClassVar[str] = "table"
    table: Table


Block = Text | Items | Facts | Code | Chart | Grid


@dataclass(frozen=True)
class Section:
    """`is_folded`: shown on demand."""

    title: str
    blocks: Sequence[Block]
    parts: Sequence[Section] = ()
    is_folded: bool = False


@dataclass(frozen=True)
class Trust:
    """How far a result can be trusted, in one line."""

    level: Level
    title: str
    text: str


@dataclass(frozen=True)
class Hero:
    """What is said first: the answer, its speed before and after as a pair of numbers, why, how sure, a chart
    and what to type."""

    title: str
    answer: str
    trust: Trust
    before: str = ""
    before_is: str = "plain"
    after: str = ""
    ratio: str = ""
    more: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = ()
    why: str = ""
    chart: Chart | None = None
    code: Code | None = None


def script_json(value: Any) -> str:
    """ASCII JSON without a character that could end a script element."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
