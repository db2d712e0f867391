"""What a search has found so far: the modules' results by the precisions that they are about. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bitdraft.config import RecommendConfig
from bitdraft.precision.verdict import decide
from bitdraft.recommend.options import (
    Option,
    Pair,
    Prediction,
    limit_problem,
    measured_options,
    pace_of,
    plain_options,
    predictions_of,
    reference_of,
)
from bitdraft.schema.results import PrecisionResult, PrecisionRow, SpecDecodeResult


@dataclass
class Found:
    """What the modules have said so far; plans and sweeps by the precisions of target and drafts."""

    precision: PrecisionResult | None = None
    plans: dict[Pair, SpecDecodeResult] = field(default_factory=dict)
    sweeps: dict[Pair, SpecDecodeResult] = field(default_factory=dict)
    stages: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def plain(self, config: RecommendConfig) -> list[Option]:
        return plain_options(self.precision, config) if self.precision else []

    def measured(self, config: RecommendConfig) -> list[Option]:
        rows = {row.precision: row for row in self.finished()}
        return [
            option
            for (own, _), sweep in self.sweeps.items()
            for option in measured_options(sweep, config, rows.get(own))
        ]

    def paces(self) -> dict[Pair, float]:
        """Of the sweeps that have finished prompts."""
        rows = {row.precision: row for row in self.finished()}
        return {p: pace_of(sweep, rows[p[0]]) for p, sweep in self.sweeps.items() if sweep.baseline}

    def predictions(self) -> list[Prediction]:
        """All of them, best first."""
        speeds = {row.precision: row.metrics["throughput_tok_s"].value for row in self.finished()}
        found = [p for (own, _), plan in self.plans.items() for p in predictions_of(plan, speeds[own])]
        return sorted(found, key=lambda one: -one.throughput)

    def finished(self) -> list[PrecisionRow]:
        return [row for row in self.precision.rows if row.status == "ok"] if self.precision else []


def precision_verdict(result: PrecisionResult, config: RecommendConfig) -> dict[str, Any]:
    """The precision module's, with the limits of memory and time to the first token as well."""
    found = {row.precision: limit_problem(row.metrics, config) for row in result.rows if row.status == "ok"}
    problems = {name: problem for name, problem in found.items() if problem is not None}
    stored, limit = result.model["stored_dtype"], config.max_ppl_increase
    return decide(result.rows, reference_of(result), limit, stored, problems)
