"""What could be deployed, from the modules' results: plain decoding at each precision, measured (draft, K),
and predicted ones. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from bitdraft import formats
from bitdraft.config import RecommendConfig
from bitdraft.metrics.memory import NAMES, memory_name
from bitdraft.metrics.speed import Rounds, product_of_speeds, speed_ratio
from bitdraft.precision.verdict import compared_with, quality_problems
from bitdraft.schema.findings import Finding
from bitdraft.schema.naming import Pair, pair_name, way_name
from bitdraft.schema.precision import PrecisionResult, PrecisionRow
from bitdraft.schema.records import Figure
from bitdraft.schema.spec_decode import SpecDecodeResult, SpecDecodeRow
from bitdraft.spec_decode.candidates import is_lossless, unexplained_figures
from bitdraft.spec_decode.plan_verdict import doubts_of
from bitdraft.stats.intervals import Noise, with_noise
from bitdraft.stats.selection import of_the_best, pays

# of a (draft, K): too little is known to recommend it, or to rule it out
OPEN = ("speculation.unsure", "speculation.too_few")


@dataclass(frozen=True)
class Option:
    """One way to run the model that was measured; without a draft, plain decoding. `problems` say why it
    cannot be recommended. Its speed at the pace of the precisions' own measurement is a product of
    throughputs that were measured: plain decoding's there × that of (draft, K) / that of K = 0, both in the
    sweep. `over` and `under` are the parts above and below the line, by name."""

    precision: str
    draft: str | None
    k: int
    draft_precision: str | None
    metrics: Mapping[str, Figure]
    over: Mapping[str, Rounds]
    under: Mapping[str, Rounds] = field(default_factory=dict)
    problems: tuple[Finding, ...] = ()

    @property
    def pair(self) -> Pair:
        """Its precisions."""
        return self.precision, self.draft_precision

    @property
    def name(self) -> str:
        """`bf16 with ngram, K = 8`"""
        return way_name(self.precision, self.draft, self.k, self.draft_precision)

    @property
    def is_out(self) -> bool:
        """Something speaks against it, and not only too little for it."""
        return any(problem.code not in OPEN for problem in self.problems)

    @cached_property
    def speed(self) -> Figure:
        """Tokens/s at that pace."""
        return product_of_speeds([*self.over.values()], [*self.under.values()])

    @property
    def throughput(self) -> float:
        """By value, tokens/s at that pace."""
        return self.speed.value

    def ratio(self, other: Option, noise: Noise | None = None, num_looked_at: int = 1) -> Figure:
        """This one's speed over the other's, with the noise of all that was measured for either, and that
        between processes; what both have in common cancels. The interval holds for so many at once."""
        over = {**self.over, **other.under}
        under = {**self.under, **other.over}
        common = over.keys() & under.keys()
        sides = [[runs for name, runs in side.items() if name not in common] for side in (over, under)]
        if not any(sides):
            return Figure(value=1.0)
        # a (draft, K) and its K = 0 are of one process: beside it stand those of the two precisions
        differ = self.precision != other.precision
        num_processes = sum(1 / len(one.over[one.precision]) for one in (self, other) if differ)
        return with_noise(product_of_speeds(*sides), noise, num_processes, num_looked_at)[0]


@dataclass(frozen=True)
class Prediction:
    """A (draft, K) that a plan speaks of. `bound`: its speedup if a draft forward cost nothing. `is_sure`:
    the costs it follows from can be right."""

    precision: str
    draft: str
    k: int
    draft_precision: str | None
    speedup: float
    bound: float
    throughput: float
    is_sure: bool = True

    @property
    def pair(self) -> Pair:
        """Its precisions."""
        return self.precision, self.draft_precision

    @property
    def name(self) -> str:
        """`bf16 with ngram, K = 8`"""
        return way_name(self.precision, self.draft, self.k, self.draft_precision)


def limit_problems(metrics: Mapping[str, Figure], config: RecommendConfig) -> list[Finding]:
    """Which of the limits of memory and time to the first token are broken."""
    found = (_memory_problem(metrics, config.max_vram_gb), _ttft_problem(metrics, config.max_ttft_ms))
    return [problem for problem in found if problem is not None]


def _memory_problem(metrics: Mapping[str, Figure], limit_gb: float | None) -> Finding | None:
    name = memory_name([metrics])
    memory = metrics.get(name)
    if limit_gb is None or (memory is not None and memory.value <= limit_gb):
        return None
    value = None if memory is None else memory.value
    figures = {"memory_name": name, "memory_gb": value, "limit_gb": limit_gb}
    return Finding(code="limit.memory", figures=dict(figures))


def _ttft_problem(metrics: Mapping[str, Figure], limit_ms: float | None) -> Finding | None:
    ttft = metrics["ttft_ms"]
    highest = ttft.value if ttft.high is None else ttft.high
    if limit_ms is None or highest <= limit_ms:
        return None
    return Finding(code="limit.ttft", figures={"ttft_ms": highest, "limit_ms": limit_ms})


def plain_options(result: PrecisionResult, config: RecommendConfig) -> list[Option]:
    """A finished precision each; its problems are of quality, or a limit's."""
    finished = [row for row in result.rows if row.status == "ok"]
    base = compared_with(result.rows, reference_of(result))
    return [
        Option(
            precision=row.precision,
            draft=None,
            k=0,
            draft_precision=None,
            metrics=row.metrics,
            over={row.precision: row.rounds},
            problems=(
                *quality_problems(row, base, config.max_ppl_increase),
                *limit_problems(row.metrics, config),
            ),
        )
        for row in finished
    ]


def reference_of(result: PrecisionResult) -> str:
    """What quality was compared with, of what was measured."""
    return result.config.reference or formats.default_reference([row.precision for row in result.rows])


def measured_options(
    sweep: SpecDecodeResult,
    config: RecommendConfig,
    own: PrecisionRow | None,
    plain: Option | None,
    num_looked_at: int,
) -> list[Option]:
    """A finished (draft, K) each, set beside plain decoding of `own`, the precision's row; its problems are
    those of its precision, a limit's, a text that is not the target's, or a speedup that may be too small, by
    an interval whose lower end holds for so many (draft, K) at once."""
    precision, other = pair = sweep.config.precision, sweep.draft_precision
    over: dict[str, Rounds] = {}
    under: dict[str, Rounds] = {}
    if own is not None and sweep.baseline is not None:
        over, under = {precision: own.rounds}, {f"K = 0 beside {pair_name(pair)}": [sweep.baseline.runs]}
    found = []
    for row in (row for row in sweep.sweep if row.status == "ok"):
        metrics = _beside(row.metrics, sweep, own)
        found.append(
            Option(
                precision=precision,
                draft=row.draft,
                k=row.k,
                draft_precision=other,
                metrics=metrics,
                over=over | {way_name(precision, row.draft, row.k, other): [row.runs]},
                under=under,
                problems=(
                    *_problems_of_precision(plain),
                    *limit_problems(metrics, config),
                    *_speculation_problems(row, config.min_speedup, num_looked_at),
                ),
            )
        )
    return found


def _problems_of_precision(plain: Option | None) -> list[Finding]:
    """Of its quality: limits are judged with the draft."""
    return [] if plain is None else [one for one in plain.problems if one.code.startswith("quality.")]


def _beside(
    metrics: Mapping[str, Figure], sweep: SpecDecodeResult, own: PrecisionRow | None
) -> Mapping[str, Figure]:
    """Peak memory as the precision's row has it, and what the draft adds: the processes of the two modules
    differ in what else they hold."""
    found = dict(metrics)
    alone = {} if sweep.baseline is None else sweep.baseline.metrics
    for name in NAMES:
        if own is not None and name in alone and name in found and name in own.metrics:
            added = max(found[name].value - alone[name].value, 0.0)
            found[name] = Figure(value=own.metrics[name].value + added)
    return found


def pace_of(sweep: SpecDecodeResult, plain: PrecisionRow) -> float:
    """Plain decoding's tokens/s as the precision module measured it, over those of the sweep's baseline."""
    assert sweep.baseline is not None
    own = sweep.baseline.runs
    return speed_ratio(plain.runs[: len(own)], own).value


def _speculation_problems(row: SpecDecodeRow, min_speedup: float, num_looked_at: int) -> list[Finding]:
    if not is_lossless(row):
        return [Finding(code="speculation.not_lossless", figures=unexplained_figures(row))]
    speedup = of_the_best(row.metrics["speedup"], num_looked_at)
    if speedup.low is None:
        return [Finding(code="speculation.too_few", figures={"n": speedup.n})]
    does_pay = pays(speedup, min_speedup)
    if does_pay:
        return []
    if speedup.high is not None and speedup.high < 1:
        return [Finding(code="speculation.slower", figures={"speedup": speedup})]
    code = "speculation.unsure" if does_pay is None else "speculation.too_little"
    return [Finding(code=code, figures={"speedup": speedup, "min_speedup": min_speedup})]


def predictions_of(plan: SpecDecodeResult, plain_tok_s: float) -> list[Prediction]:
    """What a plan says of every draft and K, with all prefills; best first."""
    found = []
    is_sure = not doubts_of(plan.costs)
    for draft, entry in plan.plan.items():
        for k, point in entry.by_k.items():
            # a step's time in target forwards, with and without its draft forwards
            step = point.tokens_per_step / point.replay
            free = max(step - plan.costs.draft_cost.get(draft, 0.0) * k, 1e-9)
            found.append(
                Prediction(
                    precision=plan.config.precision,
                    draft=draft,
                    k=k,
                    draft_precision=plan.draft_precision,
                    speedup=point.replay_end_to_end,
                    bound=point.tokens_per_step / free,
                    throughput=plain_tok_s * point.replay_end_to_end,
                    is_sure=is_sure,
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
