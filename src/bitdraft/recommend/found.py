"""What a search has found so far: the modules' results by the precisions that they are about. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from bitdraft.config import RecommendConfig
from bitdraft.precision.verdict import Decided, decide
from bitdraft.recommend.options import (
    Option,
    Prediction,
    limit_problems,
    measured_options,
    pace_of,
    plain_options,
    predictions_of,
    reference_of,
)
from bitdraft.schema.findings import Finding, of_code
from bitdraft.schema.naming import Pair
from bitdraft.schema.precision import PrecisionResult, PrecisionRow
from bitdraft.schema.recommendation import Stage
from bitdraft.schema.spec_decode import SpecDecodeResult


@dataclass
class Found:
    """What the modules have said so far; plans and sweeps by the precisions of target and drafts."""

    precision: PrecisionResult | None = None
    plans: dict[Pair, SpecDecodeResult] = field(default_factory=dict)
    sweeps: dict[Pair, SpecDecodeResult] = field(default_factory=dict)
    stages: list[Stage] = field(default_factory=list)
    skipped: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)

    def plain(self, config: RecommendConfig) -> list[Option]:
        """Plain decoding at each finished precision."""
        return plain_options(self.precision, config) if self.precision else []

    def measured(self, config: RecommendConfig) -> list[Option]:
        """Every finished (draft, K)."""
        rows = {row.precision: row for row in self.finished()}
        plain = {option.precision: option for option in self.plain(config)}
        num_looked_at = sum(row.status == "ok" for sweep in self.sweeps.values() for row in sweep.sweep)
        return [
            option
            for (own, _), sweep in self.sweeps.items()
            for option in measured_options(sweep, config, rows.get(own), plain.get(own), num_looked_at)
        ]

    def paces(self) -> dict[Pair, float]:
        """Of the sweeps that have finished prompts."""
        rows = {row.precision: row for row in self.finished()}
        return {p: pace_of(sweep, rows[p[0]]) for p, sweep in self.sweeps.items() if sweep.baseline}

    def tried(self) -> set[tuple[Pair, str | None, int]]:
        """Every (draft, K) that a sweep was to measure, those that failed included."""
        return {(pair, row.draft, row.k) for pair, sweep in self.sweeps.items() for row in sweep.sweep}

    def predictions(self) -> list[Prediction]:
        """All of them, best first."""
        speeds = {row.precision: row.metrics["throughput_tok_s"].value for row in self.finished()}
        found = [p for (own, _), plan in self.plans.items() for p in predictions_of(plan, speeds[own])]
        return sorted(found, key=lambda one: -one.throughput)

    def finished(self) -> list[PrecisionRow]:
        """The precisions that have speed and quality."""
        return [row for row in self.precision.rows if row.status == "ok"] if self.precision else []


def precision_verdict(result: PrecisionResult, config: RecommendConfig) -> Decided:
    """The precision module's, with the limits of memory and time to the first token as well."""
    found = {row.precision: limit_problems(row.metrics, config) for row in result.rows if row.status == "ok"}
    problems = {name: own for name, own in found.items() if own}
    stored, limit = result.model.stored_dtype, config.max_ppl_increase
    verdict, findings = decide(result.rows, reference_of(result), limit, stored, problems)
    drifted = of_code(findings, "precision.too_drifted")
    if drifted:  # drafts are measured in turn with plain decoding: what they bring can be told
        verdict = verdict.model_copy(update={"precision": drifted[0].subject})
    return verdict, findings
