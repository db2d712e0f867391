"""What a verdict says, for tests that hold its words: the verdict's fields, and the sentences of its
findings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bitdraft.present.sentences import sentence
from bitdraft.schema.findings import Finding


class Said:
    """`summary` and `reasons` as people read them; all else is the verdict's own."""

    def __init__(self, verdict: Any, findings: Iterable[Finding]) -> None:
        self._verdict, self.findings = verdict, tuple(findings)
        self.summary = " ".join(self._texts("answer"))
        self.reasons = self._texts("reason")
        self.warnings = self._texts("warning")

    def _texts(self, severity: str) -> list[str]:
        return [sentence(one) for one in self.findings if one.severity == severity]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._verdict, name)


def sentences(findings: Iterable[Finding]) -> list[str]:
    """Of findings that have none yet."""
    return [sentence(finding) for finding in findings]
