"""What could be deployed, from the modules' results: plain decoding at each precision, measured (draft, K),
and predicted ones. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitdraft.config import RecommendConfig
from bitdraft.metrics.speed import speed_ratio
from bitdraft.precision.verdict import all_of, generations_of, quality_problem
from bitdraft.schema.records import Figure, Generation
from bitdraft.schema.results import PrecisionResult, PrecisionRow, SpecDecodeResult, SpecDecodeRow
from bitdraft.spec_decode.rows import baseline_runs, other_precision, with_known_text
from bitdraft.tables import draft_name

PLAIN = "–"
Pair = tuple[str, str | None]
"""The target's precision, and the drafts' where that is another"""


@dataclass(frozen=True)
class Option:
    """One way to run the model that was measured. `problem` says why it cannot be recommended. `pace` is how
    much faster the machine ran plain decoding at this precision alone than in the sweep that this option
    is from, by which options of different sweeps are compared."""

    precision: str
    draft: str
    k: int
    draft_precision: str | None
    metrics: Mapping[str, Figure]
    generations: Sequence[Generation]
    problem: str | None = None
    pace: float = 1.0

    @property
    def pair(self) -> Pair:
        return self.precision, self.draft_precision

    @property
    def name(self) -> str:
        if self.draft == PLAIN:
            return f"{self.precision}, plain decoding"
        return f"{self.precision} with {draft_name(self.draft, self.k, self.draft_precision)}"

    @property
    def speed(self) -> Figure:
        """Tokens/s at the pace of the precisions' own measurement: plain decoding's times the speedup."""
        found = self.metrics["throughput_tok_s"]
        ends = {name: getattr(found, name) for name in ("value", "low", "high", "median")}
        scaled = {name: None if end is None else end * self.pace for name, end in ends.items()}
        return found.model_copy(update=scaled)

    @property
    def throughput(self) -> float:
        return self.speed.value


@dataclass(frozen=True)
class Prediction:
    """A (draft, K) that a plan speaks of. `bound`: its speedup if a draft forward cost nothing."""

    precision: str
    draft: str
    k: int
    draft_precision: str | None
    speedup: float
    bound: float
    throughput: float

    @property
    def pair(self) -> Pair:
        return self.precision, self.draft_precision

    @property
    def name(self) -> str:
        return f"{self.precision} with {draft_name(self.draft, self.k, self.draft_precision)}"


def limit_problem(metrics: Mapping[str, Figure], config: RecommendConfig) -> str | None:
    """Which of the limits of memory and time to the first token are broken."""
    return all_of(_memory_problem(metrics, config.max_vram_gb), _ttft_problem(metrics, config.max_ttft_ms))


def _memory_problem(metrics: Mapping[str, Figure], limit_gb: float | None) -> str | None:
    name = "peak_vram_gb" if "peak_vram_gb" in metrics else "peak_ram_gb"
    memory = metrics.get(name)
    if limit_gb is None:
        return None
    if memory is None:
        return f"its peak memory is unknown, and the limit is {limit_gb:g} GiB"
    if memory.value <= limit_gb:
        return None
    what = "VRAM" if name == "peak_vram_gb" else "RAM"
    return f"its peak {what} of {memory.value:.2f} GiB is above the limit of {limit_gb:g} GiB"


def _ttft_problem(metrics: Mapping[str, Figure], limit_ms: float | None) -> str | None:
    ttft = metrics["ttft_ms"]
    highest = ttft.value if ttft.high is None else ttft.high
    if limit_ms is None or highest <= limit_ms:
        return None
    return f"its time to the first token may be {highest:.1f} ms, above the limit of {limit_ms:g} ms"


def plain_options(result: PrecisionResult, config: RecommendConfig) -> list[Option]:
    """A finished precision each; its problem is one of quality, or a limit's."""
    finished = [row for row in result.rows if row.status == "ok"]
    base = next((row for row in finished if row.precision == reference_of(result)), None)
    return [
        Option(
            precision=row.precision,
            draft=PLAIN,
            k=0,
            draft_precision=None,
            metrics=row.metrics,
            generations=generations_of(row),
            problem=all_of(
                quality_problem(row, base, config.max_ppl_increase), limit_problem(row.metrics, config)
            ),
        )
        for row in finished
    ]


def reference_of(result: PrecisionResult) -> str:
    names = [row.precision for row in result.rows]
    asked = result.config.get("reference")
    return str(asked) if asked else "fp32" if "fp32" in names else names[0]


def measured_options(
    sweep: SpecDecodeResult, config: RecommendConfig, own: PrecisionRow | None = None
) -> list[Option]:
    """A finished (draft, K) each, set beside plain decoding of `own`, the precision's row; its problem is a
    limit's, a text that is not the target's, or a speedup that may be too small."""
    plain = baseline_runs(sweep)
    pace = pace_of(sweep, own) if own is not None and plain else 1.0
    found = []
    for row in (row for row in sweep.rows if row.status == "ok"):
        metrics = _beside(row.metrics, sweep, own)
        runs = [with_known_text(*pair) for pair in zip(row.raw["generations"], plain, strict=True)]
        problem = all_of(limit_problem(metrics, config), _speculation_problem(row, config.min_speedup))
        found.append(
            Option(
                precision=sweep.config["precision"],
                draft=row.draft,
                k=row.k,
                draft_precision=other_precision(sweep),
                metrics=metrics,
                generations=runs,
                problem=problem,
                pace=pace,
            )
        )
    return found


def _beside(
    metrics: Mapping[str, Figure], sweep: SpecDecodeResult, own: PrecisionRow | None
) -> Mapping[str, Figure]:
    """Peak memory as the precision's row has it, and what the draft adds: the processes of the two modules
    differ in what else they hold."""
    found = dict(metrics)
    for name in ("peak_ram_gb", "peak_vram_gb"):
        alone = sweep.baseline.get("metrics", {}).get(name)
        if own is not None and alone is not None and name in found and name in own.metrics:
            added = max(found[name].value - Figure.model_validate(alone).value, 0.0)
            found[name] = Figure(value=own.metrics[name].value + added)
    return found


def pace_of(sweep: SpecDecodeResult, plain: PrecisionRow) -> float:
    """Plain decoding's tokens/s as the precision module measured it, over those of the sweep's K = 0."""
    own = baseline_runs(sweep)
    return speed_ratio(generations_of(plain)[: len(own)], own).value


def _speculation_problem(row: SpecDecodeRow, min_speedup: float) -> str | None:
    found = (row.lossless or {}).get("divergences", ())
    if any(entry["kind"] == "bug" for entry in found):
        return "its text is not the target's"
    speedup = row.metrics["speedup"]
    if speedup.low is None:
        return f"{speedup.n} prompts are too few to say whether it is faster"
    if speedup.low >= min_speedup and speedup.low > 1:
        return None
    if speedup.high is not None and speedup.high < 1:
        return f"it is slower than plain decoding ({speedup.value:.2f}×)"
    return (
        f"its speedup of {speedup.value:.2f}× may be as small as {speedup.low:.2f}×, and more than "
        f"{min_speedup:.2f}× is asked for"
    )


def predictions_of(plan: SpecDecodeResult, plain_tok_s: float) -> list[Prediction]:
    """What a plan says of every draft and K, with all prefills; best first."""
    found = []
    costs: Mapping[str, Any] = plan.costs.get("draft_cost", {})
    for draft, entry in plan.plan.items():
        for k, point in entry["by_k"].items():
            # a step's time in target forwards, with and without its draft forwards
            step = point["tokens_per_step"] / point["replay"]
            free = max(step - costs.get(draft, 0.0) * int(k), 1e-9)
            found.append(
                Prediction(
                    precision=plan.config["precision"],
                    draft=draft,
                    k=int(k),
                    draft_precision=other_precision(plan),
                    speedup=point["replay_end_to_end"],
                    bound=point["tokens_per_step"] / free,
                    throughput=plain_tok_s * point["replay_end_to_end"],
                )
            )
    return sorted(found, key=lambda one: -one.throughput)


def pareto(points: Sequence[tuple[float, float, float]]) -> list[bool]:
    """Of (speed, perplexity change, memory): which are dominated by none, less being better of the last
    two."""

    def dominates(one: tuple[float, float, float], other: tuple[float, float, float]) -> bool:
        no_worse = one[0] >= other[0] and one[1] <= other[1] and one[2] <= other[2]
        return no_worse and one != other

    return [not any(dominates(other, point) for other in points) for point in points]


def ppl_change(row: PrecisionRow) -> Figure | None:
    """exp(Δ ln PPL) − 1 with its interval; None for the reference."""
    if "delta_ln_ppl" not in row.quality:
        return None
    delta = Figure(**row.quality["delta_ln_ppl"])
    low, high = (None if end is None else math.expm1(end) for end in (delta.low, delta.high))
    return Figure(value=math.expm1(delta.value), low=low, high=high, n=delta.n)
