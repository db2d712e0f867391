"""What sentences are made with."""

from __future__ import annotations

from collections.abc import Callable

from bitdraft.schema.findings import Finding

Sentence = Callable[[Finding], str]
"""Of a finding whose parts have their own sentences already"""


def clauses(finding: Finding) -> str:
    """Its parts, with semicolons between them."""
    return "; ".join(part.text for part in finding.parts)


def parts_as_text(finding: Finding) -> str:
    """Its parts, which are whole sentences."""
    return " ".join(part.text for part in finding.parts)
