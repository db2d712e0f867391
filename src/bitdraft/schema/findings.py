"""A conclusion: a code, what it is about, and its figures. The sentence beside it is made of these
(`present.sentences`) when a result is finished, and is for people: no program reads it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from bitdraft.schema.records import Figure, Record

Severity = Literal["answer", "reason", "warning", "skipped"]
"""`answer`: part of what a run says first; `reason`: why; `warning`: what takes trust from it; `skipped`:
what was not done."""

Value = bool | int | float | Figure | str | tuple[str, ...] | tuple[int, ...] | tuple[float, ...] | None


class Finding(Record):
    """`code` is `module.what`, `subject` a variant, a (draft, K), a file; "" for the whole result. `figures`
    are numbers, names and figures by the names that the sentence uses them under, `parts` findings that it is
    made of: why something is out."""

    code: str
    subject: str = ""
    severity: Severity = "reason"
    figures: dict[str, Value] = Field(default_factory=dict)
    parts: tuple[Finding, ...] = ()
    text: str = ""

    def number(self, name: str) -> float:
        """A figure that is a plain number."""
        value = self.figures[name]
        assert isinstance(value, int | float), (self.code, name, value)
        return float(value)

    def figure(self, name: str) -> Figure:
        """One with its interval."""
        value = self.figures[name]
        assert isinstance(value, Figure), (self.code, name, value)
        return value

    def word(self, name: str) -> str:
        """One that is a name."""
        value = self.figures.get(name)
        return "" if value is None else str(value)

    def words(self, name: str) -> list[str]:
        """One that is a list of names."""
        value = self.figures.get(name) or ()
        assert isinstance(value, tuple), (self.code, name, value)
        return [str(part) for part in value]


def answer(code: str, subject: str = "", parts: Sequence[Finding] = (), /, **figures: Value) -> Finding:
    """Part of what is said first."""
    return Finding(code=code, subject=subject, severity="answer", parts=tuple(parts), figures=figures)


def reason(code: str, subject: str = "", parts: Sequence[Finding] = (), /, **figures: Value) -> Finding:
    """Why."""
    return Finding(code=code, subject=subject, severity="reason", parts=tuple(parts), figures=figures)


def warning(code: str, subject: str = "", parts: Sequence[Finding] = (), /, **figures: Value) -> Finding:
    """What takes trust from a result."""
    return Finding(code=code, subject=subject, severity="warning", parts=tuple(parts), figures=figures)


def skipped(code: str, subject: str = "", parts: Sequence[Finding] = (), /, **figures: Value) -> Finding:
    """What was not done, and why."""
    return Finding(code=code, subject=subject, severity="skipped", parts=tuple(parts), figures=figures)


class Conclusions:
    """What all that has findings says, by severity."""

    if TYPE_CHECKING:  # the model's own field keeps its place in the file
        findings: tuple[Finding, ...]

    @property
    def summary(self) -> str:
        """What is said first."""
        return " ".join(texts(self.findings, "answer"))

    @property
    def reasons(self) -> list[str]:
        """Why, a sentence each."""
        return texts(self.findings, "reason")


def texts(findings: Iterable[Finding], severity: Severity) -> list[str]:
    """The sentences of one severity, in order."""
    return [finding.text for finding in findings if finding.severity == severity and finding.text]


def codes(findings: Iterable[Finding], *wanted: Severity) -> list[str]:
    """For programs: which conclusions there are (of these severities, or of all)."""
    return [finding.code for finding in findings if not wanted or finding.severity in wanted]


def of_code(findings: Sequence[Finding], code: str) -> list[Finding]:
    """Those with this code."""
    return [finding for finding in findings if finding.code == code]
