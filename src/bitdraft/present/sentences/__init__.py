"""Findings in plain English: the one place where conclusions become sentences, from code and figures alone.

Each code has a function of its finding. What a finding is made of (`parts`) is said by the same table; a part
is a clause, without a full stop.
"""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel

from bitdraft.present.sentences import batches, comparisons, precision, recommendations, runs, sweeps
from bitdraft.present.sentences.base import Sentence
from bitdraft.schema.comparison import Comparison
from bitdraft.schema.findings import Finding
from bitdraft.schema.precision import PrecisionResult
from bitdraft.schema.recommendation import Recommendation
from bitdraft.schema.spec_decode import SpecDecodeResult

_Said = TypeVar("_Said", PrecisionResult, SpecDecodeResult, Recommendation, Comparison)
SENTENCES: dict[str, Sentence] = {
    code: make
    for module in (runs, precision, sweeps, batches, recommendations, comparisons)
    for code, make in module.SENTENCES.items()
}


def said(finding: Finding) -> Finding:
    """With its sentence, and its parts with theirs. One of a code that this version does not know keeps the
    words that it has."""
    found = finding.model_copy(update={"parts": tuple(map(said, finding.parts))})
    make = SENTENCES.get(finding.code)
    return found if make is None else found.model_copy(update={"text": make(found)})


def sentence(finding: Finding) -> str:
    """A finding in words."""
    return said(finding).text


def with_sentences(result: _Said) -> _Said:
    """A result whose findings have their sentences, those of its contenders and rows too."""
    update: dict[str, object] = {"findings": tuple(map(said, result.findings))}
    if isinstance(result, Recommendation):
        contenders = [
            row.model_copy(update={"problems": tuple(map(said, row.problems))}) for row in result.contenders
        ]
        update["contenders"] = tuple(contenders)
    if isinstance(result, Comparison):
        rows = [row.model_copy(update={"notes": tuple(map(said, row.notes))}) for row in result.rows]
        update["rows"] = tuple(rows)
    found: BaseModel = result.model_copy(update=update)
    return found  # type: ignore[return-value]
