"""Findings in plain words: the one place where conclusions become sentences, from code and figures alone.

Each code has a function of its finding. What a finding is made of (`parts`) is said by the same table; a part
is a clause, without a full stop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

from pydantic import BaseModel

from bitdraft.present.sentences import (
    batches,
    chinese,
    chinese_schedules,
    chinese_serving,
    comparisons,
    precision,
    recommendations,
    runs,
    schedules,
    serving,
    sweeps,
)
from bitdraft.present.sentences.base import Sentence
from bitdraft.schema.comparison import Comparison
from bitdraft.schema.findings import Finding
from bitdraft.schema.precision import PrecisionResult
from bitdraft.schema.recommendation import Recommendation
from bitdraft.schema.serving import Certificate, ServingResult
from bitdraft.schema.spec_decode import SpecDecodeResult

_Said = TypeVar(
    "_Said",
    bound=PrecisionResult | SpecDecodeResult | Recommendation | Comparison | ServingResult | Certificate,
)
Language = Literal["en", "zh"]
SENTENCES: dict[str, Sentence] = {
    code: make
    for module in (runs, precision, sweeps, batches, schedules, recommendations, comparisons, serving)
    for code, make in module.SENTENCES.items()
}
LANGUAGES: dict[Language, dict[str, Sentence]] = {
    "en": SENTENCES,
    "zh": {**chinese.SENTENCES, **chinese_schedules.SENTENCES, **chinese_serving.SENTENCES},
}


def said(finding: Finding, language: Language = "en") -> Finding:
    """With its sentence, and its parts with theirs. One of a code that this version does not know keeps the
    words that it has."""
    parts = tuple(said(part, language) for part in finding.parts)
    found = finding.model_copy(update={"parts": parts})
    make = LANGUAGES[language].get(finding.code)
    return found if make is None else found.model_copy(update={"text": make(found)})


def sentence(finding: Finding) -> str:
    """A finding in words."""
    return said(finding).text


def with_sentences(result: _Said, language: Language = "en") -> _Said:
    """A result whose findings have their sentences, those of its contenders and rows too."""

    def all_of(findings: Sequence[Finding]) -> tuple[Finding, ...]:
        return tuple(said(finding, language) for finding in findings)

    update: dict[str, object] = {"findings": all_of(result.findings)}
    if isinstance(result, Recommendation):
        contenders = [row.model_copy(update={"problems": all_of(row.problems)}) for row in result.contenders]
        update["contenders"] = tuple(contenders)
    if isinstance(result, Comparison):
        rows = [row.model_copy(update={"notes": all_of(row.notes)}) for row in result.rows]
        update["rows"] = tuple(rows)
    found: BaseModel = result.model_copy(update=update)
    return found  # type: ignore[return-value]
