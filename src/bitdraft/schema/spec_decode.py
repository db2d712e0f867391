"""What `bitdraft spec-decode` ends with: rows by draft, K and batch size; replay, costs, plan, verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from bitdraft.config.runs import SpecDecodeConfig
from bitdraft.schema.environment import ModelRecord
from bitdraft.schema.naming import draft_name
from bitdraft.schema.records import (
    Divergence,
    Figure,
    Generation,
    Metrics,
    Record,
    Sparse,
    Status,
    WorkSeconds,
    refuse_twice,
    row_text,
)
from bitdraft.schema.results import Result
from bitdraft.schema.shared_texts import with_known_texts, without_known_texts


class PositionAcceptance(Record):
    """Of the n steps that drafted at least `position` tokens: the share that kept that one, and the share
    among those that had kept the one before."""

    position: int
    n: float | None = None
    share: float | None = None
    conditional: float | None = None


class LosslessCheck(Record):
    """How many of the runs have the token ids of K = 0 at batch 1, and where the others part from them."""

    identical: int = Field(ge=0)
    num_prompts: int = Field(ge=0)
    divergences: tuple[Divergence, ...] = ()

    @model_validator(mode="after")
    def _counts_add_up(self) -> LosslessCheck:
        if self.identical + len(self.divergences) > self.num_prompts:
            raise ValueError("more texts than were compared")
        return self

    @property
    def bugs(self) -> list[Divergence]:
        """Those that no rounding explains."""
        return [found for found in self.divergences if found.kind == "bug"]

    @property
    def num_unexplained(self) -> int:
        """Runs with other token ids for which neither rounding nor the engine's own noise is shown to be the
        reason, bugs among them."""
        ties = sum(found.kind in ("rounding tie", "engine noise") for found in self.divergences)
        return self.num_prompts - self.identical - ties


class ReplayMismatch(Sparse):
    """The first step of a prompt that is not the replay's: (drafted, accepted, truncated) of both, None where
    one has ended, and the draft's lead there, where it is known."""

    prompt: int
    step: int
    measured: tuple[int, int, bool] | None = None
    replayed: tuple[int, int, bool] | None = None
    draft_lead: float | None = None
    rounding_tie: bool | None = None


class ReplayCheck(Sparse):
    """Greedy: whether the measured steps are the replay's, wherever the text is K = 0's. Sampling: tokens per
    step over those expected. `agrees` is None without an interval."""

    agrees: bool | None = None
    num_compared: int | None = None
    num_identical: int | None = None
    mismatches: tuple[ReplayMismatch, ...] = ()
    measured_over_expected: Figure | None = None


class StepTimes(Sparse):
    """Milliseconds a step: measured, predicted from costs, and the gap between them."""

    draft_ms: float
    verify_ms: float
    host_ms: float
    draft_predicted_ms: float | None = None
    verify_predicted_ms: float | None = None
    draft_gap_ms: float | None = None
    verify_gap_ms: float | None = None
    host_gap_ms: float | None = None

    def part(self, name: str) -> float:
        """Measured: `draft`, `verify` or `host`."""
        return float(getattr(self, f"{name}_ms"))

    def predicted(self, name: str) -> float | None:
        """The same, predicted; None of the host."""
        found: float | None = getattr(self, f"{name}_predicted_ms", None)
        return found

    def gap(self, name: str) -> float | None:
        """Measured less predicted."""
        found: float | None = getattr(self, f"{name}_gap_ms")
        return found


class Predicted(Record):
    """Speedups after the prefill by Leviathan's formula and by replay, and where a step's time goes."""

    leviathan: float | None = None
    replay: float | None = None
    step: StepTimes | None = None


class Configuration(NamedTuple):
    """What a row of a sweep is of: a draft at a K, with so many prompts at once. No draft and 0: the
    baseline."""

    draft: str | None
    k: int
    batch_size: int = 1


class SpecDecodeRow(Record):
    """One draft at one K, with `batch_size` prompts at once; K = 0, which has no draft, is the baseline.

    `runs` are in the order of the prompts; `groups` are the places of those that were decoded at once, for
    batch sizes above 1. `lossless` is None for sampling. What is predicted, replayed and counted by step is
    of batch 1 alone.
    """

    draft: str | None
    k: int
    batch_size: int = 1
    backend: str = "native"
    status: Status
    reason: str | None = None
    metrics: Metrics = Field(default_factory=dict)
    acceptance_by_position: tuple[PositionAcceptance, ...] = ()
    realised_k: dict[str, int] = Field(default_factory=dict)
    num_truncated_steps: int = 0
    lossless: LosslessCheck | None = None
    replay_check: ReplayCheck | None = None
    predicted: Predicted = Predicted()
    runs: tuple[Generation, ...] = ()
    groups: tuple[tuple[int, ...], ...] = ()
    detail: str | None = None

    @model_validator(mode="after")
    def _every_run_is_of_a_group(self) -> SpecDecodeRow:
        if self.groups and sum(map(len, self.groups)) != len(self.runs):
            raise ValueError("groups that are not of its runs")
        return self

    def __repr__(self) -> str:
        """One line: its raw records are many."""
        name = draft_name(self.draft, self.k)
        return row_text(f"SpecDecodeRow({name}, batch {self.batch_size}, {self.status}", self.metrics)

    @property
    def configuration(self) -> Configuration:
        """What it is a row of."""
        return Configuration(self.draft, self.k, self.batch_size)

    @property
    def places(self) -> list[tuple[int, ...]]:
        """The prompts of each group; at batch 1 a prompt each."""
        return list(self.groups) or [(index,) for index in range(len(self.runs))]

    @property
    def items(self) -> list[tuple[Generation, ...]]:
        """The requests of each group."""
        runs = iter(self.runs)
        return [tuple(next(runs) for _ in group) for group in self.places]


class ReplaySummary(Record):
    """The figures of a row at a K by replay, by the same definitions."""

    tokens_per_step: float
    acceptance_rate: float
    draft_acceptance: float | None = None
    num_steps: float | None = None
    num_truncated_steps: float | None = None
    realised_k: dict[str, float] = Field(default_factory=dict)
    acceptance_by_position: tuple[PositionAcceptance, ...] = ()


class CostRecord(Record):
    """Milliseconds of forwards: the target's by number of tokens, one of each draft; and what they are
    relative to the target's over one token: `draft_cost` (c), `verify_cost` by K."""

    target_forward_ms: dict[int, Figure] = Field(default_factory=dict)
    draft_forward_ms: dict[str, Figure] = Field(default_factory=dict)
    draft_cost: dict[str, float] = Field(default_factory=dict)
    verify_cost: dict[int, float] = Field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.target_forward_ms) or bool(self.draft_cost)


class PlanPoint(Record):
    """Predicted speedups of a draft at a K; `replay_end_to_end` counts the prefills, as `speedup` does."""

    leviathan: float | None = None
    replay: float
    replay_end_to_end: float
    tokens_per_step: float


class BestK(Record):
    """The K with the largest predicted speedup, by each prediction."""

    leviathan: int | None = None
    replay: int


class DraftPlan(Record):
    """A draft's predictions. `alpha` is the chance that a drafted token is kept (None for prompt lookup)."""

    alpha: float | None = None
    by_k: dict[int, PlanPoint]
    best_k: BestK

    @property
    def best(self) -> PlanPoint:
        """At the best K by replay."""
        return self.by_k[self.best_k.replay]


class BatchBest(Record):
    """The fastest (draft, K) at a batch size; `pays` is None where no interval decides it."""

    batch_size: int
    draft: str
    k: int
    speedup: Figure
    pays: bool | None = None

    @property
    def pays_by_value(self) -> bool | None:
        """By value where there is no interval; None where there is one that holds both."""
        if self.pays is None and self.speedup.low is None:
            return self.speedup.value > 1
        return self.pays


class BatchVerdict(Record):
    """The best at every batch size; `stops_at` is the smallest from which on speculation does not pay;
    `by_value` are the sizes without an interval."""

    best: tuple[BatchBest, ...] = ()
    stops_at: int | None = None
    by_value: tuple[int, ...] = ()


class SpecDecodeVerdict(Record):
    """`speculate` is None where it is unknown; `indistinguishable` are (draft, K), the chosen one
    included."""

    speculate: bool | None = None
    draft: str | None = None
    k: int | None = None
    indistinguishable: tuple[tuple[str, int], ...] = ()
    batches: BatchVerdict | None = None


class SchedulePoint(Record):
    """What a draft at a K is predicted to bring at a batch size behind a context: tokens per step by replay,
    times the target's own step over a speculative one, both measured there (`plain_ms`, `step_ms`)."""

    batch_size: int
    context: int
    draft: str
    k: int
    plain_ms: float
    step_ms: float
    speedup: Figure


class ScheduleChoice(Record):
    """The best of a batch size and context: K = 0 where speculation is not shown to pay. `speedup` is the
    best (draft, K)'s, chosen or not, with an interval for all that were looked at; `pays` None where it holds
    both."""

    batch_size: int
    context: int
    k: int
    draft: str
    best_k: int
    speedup: Figure
    pays: bool | None


class Schedule(Record):
    """The best K by batch size and context. `grid_s` is how long measuring it took, `sweep_s` how long runs
    of all of it would take, by the same costs. `left_out` are (batch size, context, why)."""

    points: tuple[SchedulePoint, ...] = ()
    choices: tuple[ScheduleChoice, ...] = ()
    grid_s: float = 0.0
    sweep_s: float = 0.0
    left_out: tuple[tuple[int, int, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.choices)

    @property
    def batch_sizes(self) -> list[int]:
        """Those that were measured, the smallest first."""
        return sorted({one.batch_size for one in self.choices})

    @property
    def contexts(self) -> list[int]:
        """The same of contexts."""
        return sorted({one.context for one in self.choices})


class FormatPair(Record):
    """A draft in one format beside its target in another, by replay: `agreement` is the share of the target's
    tokens that the draft would have drafted, `tokens_per_step` by K. `kv_cache` is the target's."""

    draft: str
    target: str
    kv_cache: str
    draft_precision: str
    agreement: Figure
    tokens_per_step: dict[int, float]


class SpecDecodeResult(Result):
    """What `bitdraft spec-decode` measured. `rows` hold the baseline (K = 0) and every (draft, K), at every
    batch size; `replay` and `plan` are by draft, `replay` then by K. In a sweep `plan` is what is predicted
    over all K from the smallest to the largest; a plan has no rows. `pairs` are of formats of target and
    draft, where they were asked for, and so is `schedule`. `reference_work_s` are the times of fixed work
    before the first prompt and after each."""

    kind: Literal["spec_decode"] = "spec_decode"
    config: SpecDecodeConfig
    drafts: dict[str, ModelRecord] = Field(default_factory=dict)
    rows: tuple[SpecDecodeRow, ...] = ()
    replay: dict[str, dict[int, ReplaySummary]] = Field(default_factory=dict)
    costs: CostRecord = CostRecord()
    plan: dict[str, DraftPlan] = Field(default_factory=dict)
    pairs: tuple[FormatPair, ...] = ()
    schedule: Schedule = Schedule()
    verdict: SpecDecodeVerdict = SpecDecodeVerdict()
    reference_work_s: tuple[WorkSeconds, ...] = ()

    @property
    def baseline(self) -> SpecDecodeRow | None:
        """K = 0 at batch 1; None where no prompt was finished."""
        return next((row for row in self.rows if row.k == 0 and row.batch_size == 1 and row.runs), None)

    @property
    def sweep(self) -> list[SpecDecodeRow]:
        """Every (draft, K) at batch 1."""
        return [row for row in self.rows if row.k and row.batch_size == 1]

    @property
    def batches(self) -> list[SpecDecodeRow]:
        """The rows of larger batches, their baselines first at each size."""
        return [row for row in self.rows if row.batch_size > 1]

    @property
    def labels(self) -> list[str]:
        """The drafts of the sweep, in order."""
        return list(dict.fromkeys(row.draft for row in self.sweep if row.draft is not None))

    @property
    def draft_precision(self) -> str | None:
        """The drafts', where it is not the target's."""
        own = self.config.draft_precision
        return None if own in (None, self.config.precision) else own

    @model_validator(mode="before")
    @classmethod
    def _texts_restored(cls, value: Any) -> Any:
        """Files leave out token ids that are the baseline's."""
        return with_known_texts(value) if isinstance(value, dict) else value

    @property
    def best(self) -> SpecDecodeRow | None:
        """The (draft, K) that the verdict recommends, or plain decoding where it refuses all; None where it
        leaves it open."""
        verdict = self.verdict
        if verdict.speculate is None:
            return None
        if not verdict.speculate:
            return self.baseline
        return next((row for row in self.sweep if (row.draft, row.k) == (verdict.draft, verdict.k)), None)

    def rows_of_figures(self) -> Iterator[tuple[dict[str, Any], Mapping[str, Figure]]]:
        """See `Result`."""
        for row in self.rows:
            yield {"draft": row.draft, "k": row.k, "batch_size": row.batch_size}, row.metrics

    @model_validator(mode="after")
    def _rows_are_of_their_own(self) -> SpecDecodeResult:
        refuse_twice((row.batch_size, row.draft, row.k) for row in self.rows)
        return self

    @model_serializer(mode="wrap")
    def _texts_once(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = handler(self)
        without_known_texts(data["rows"])
        return data
