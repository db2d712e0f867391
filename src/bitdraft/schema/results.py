"""What a run ends with: rows of figures, what they were measured on, and what is concluded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import Field, SerializerFunctionWrapHandler, field_serializer, model_serializer, model_validator

from bitdraft.config.base import Config
from bitdraft.config.runs import PrecisionConfig, RecommendConfig, SpecDecodeConfig
from bitdraft.schema.findings import Conclusions, Finding, texts
from bitdraft.schema.history import SCHEMA_VERSION
from bitdraft.schema.records import (
    Divergence,
    Figure,
    Generation,
    Overflow,
    Record,
    ScoreBlocks,
    Sparse,
    Status,
)

UNRECORDED = frozenset({"data_root"})
"""Settings that say where files lie on this machine, and are no part of a result."""


# --- what was measured, and where ------------------------------------------------------------------------


class Ceilings(Sparse):
    """GB/s (10⁹) of copying (bytes read + written) and reading; TFLOP/s of a product by format."""

    copy_gb_s: float
    read_gb_s: float | None = None
    matmul_tflop_s: dict[str, float] = Field(default_factory=dict)


class Environment(Sparse):
    """Hardware and versions. `hardware` is the GPU where there is one, else the CPU."""

    time_utc: str | None = None
    bitdraft: str | None = None
    git_commit: str | None = None
    python: str | None = None
    torch: str | None = None
    transformers: str | None = None
    system: str | None = None
    cpu: str | None = None
    cpu_capability: str | None = None
    num_cores: int | None = None
    num_threads: int | None = None
    ram_gb: float | None = None
    device: str | None = None
    gpu: str | None = None
    gpu_memory_gb: float | None = None
    cuda: str | None = None
    driver: str | None = None
    node: str | None = None
    ceilings: Ceilings | None = None

    @property
    def hardware(self) -> str:
        """What charts and tables call it; "" where nothing is known."""
        return self.gpu or self.cpu or ""

    @property
    def copy_bytes_s(self) -> float | None:
        """Measured copy bandwidth, bytes/s."""
        return None if self.ceilings is None else self.ceilings.copy_gb_s * 1e9


class ModelRecord(Sparse):
    """A checkpoint as it was loaded: what its files say, what it takes, and how its forwards were run."""

    name: str | None = None
    revision: str | None = None
    architecture: str | None = None
    context_tokens: int | None = None
    vocab_size: int | None = None
    stored_dtypes: dict[str, int] | None = None
    stored_bytes: int | None = None
    stored_dtype: str | None = None
    random_weights: bool | None = None
    num_parameters: int | None = None
    weight_bytes: int | None = None
    streamed_bytes: int | None = None
    precision: str | None = None
    execution: str | None = None
    preparation_s: float | None = None


class TextRecord(Sparse):
    """Which text, and the prompts that were cut from it."""

    dataset: str = ""
    source: str | None = None
    revision: str | None = None
    sha256: str = ""
    num_rows: int | None = None
    prompt_ids: tuple[str, ...] = ()
    prompt_tokens: tuple[int, ...] = ()


class ProtocolCard(Sparse):
    """Without it a perplexity means nothing: the text, how it was cut into windows, what was scored."""

    protocol: str
    dataset: str | None = None
    source: str | None = None
    revision: str | None = None
    dataset_sha256: str | None = None
    detokenised: bool | None = None
    prefix_token: int | None = None
    window: int | None = None
    stride: int | None = None
    normaliser: Literal["tokens", "documents"] = "tokens"
    max_scored_tokens: int | None = None
    truncated: bool = False
    num_windows: int | None = None
    num_documents: int | None = None
    num_scored_tokens: int | None = None


# --- precision ---------------------------------------------------------------------------------------------


class Quality(Sparse):
    """Paired figures are absent for the reference. `not_measured` and `kl_missing` say why something is not
    there, `overflow` where numbers stopped being finite."""

    protocol: ProtocolCard | None = None
    not_measured: str | None = None
    overflow: Overflow | None = None
    num_words: int | None = None
    num_bytes: int | None = None
    byte_ppl: Figure | None = None
    bits_per_byte: Figure | None = None
    word_ppl: Figure | None = None
    delta_ln_ppl: Figure | None = None
    top1_agreement: Figure | None = None
    delta_p_rms: Figure | None = None
    kl_divergence: Figure | None = None
    kl_median: Figure | None = None
    kl_p99: Figure | None = None
    kl_max: Figure | None = None
    kl_missing: str | None = None

    def figures(self) -> dict[str, Figure]:
        """Those that there are, by name."""
        found = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: value for name, value in found.items() if isinstance(value, Figure)}


class PrecisionRaw(Sparse):
    """What a precision's process noted beside its requests. `calibration_s` are the times of the reference
    work, before the first prompt and after each."""

    calibration_s: tuple[float, ...] | None = None
    execution: str | None = None
    preparation_s: float | None = None
    load_s: float | None = None
    base_ram_bytes: int | None = None
    peak_bytes: dict[str, int] | None = None
    num_parameters: int | None = None
    weight_bytes: int | None = None
    streamed_bytes: int | None = None
    kv_bytes_per_token: int | None = None
    joules: float | None = None
    score_blocks: ScoreBlocks | None = None
    kl_divergence: tuple[float, ...] | None = None
    detail: str | None = None


class PrecisionRow(Record):
    """One precision: its requests (`runs`), the figures that follow, and why there are none where it
    failed."""

    precision: str
    status: Status
    reason: str | None = None
    metrics: dict[str, Figure] = Field(default_factory=dict)
    quality: Quality = Quality()
    runs: tuple[Generation, ...] = ()
    raw: PrecisionRaw = PrecisionRaw()


class Result(Conclusions, Record):
    """What all kinds of results have. `is_complete` is False where the run was interrupted; `machines` are
    those that its cells were computed on, where that is more than one."""

    schema_version: int = SCHEMA_VERSION
    environment: Environment = Environment()
    model: ModelRecord = ModelRecord()
    text: TextRecord = TextRecord()
    findings: tuple[Finding, ...] = ()
    is_complete: bool = True
    machines: tuple[str, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """What takes trust from it, a sentence each."""
        return texts(self.findings, "warning")

    @property
    def skipped(self) -> list[str]:
        """What was not done, a sentence each."""
        return texts(self.findings, "skipped")

    @field_serializer("config", check_fields=False)
    def _config_without_places(self, config: Config) -> dict[str, Any]:
        return config.model_dump(mode="json", exclude=set(UNRECORDED))


class PrecisionComparison(Sparse):
    """A precision beside the reference: speed over speed, and the change of its perplexity (a share)."""

    precision: str
    reference: str
    speedup: Figure
    ppl_change: Figure | None = None


class PrecisionVerdict(Record):
    """`precision` is None where none can be recommended; `indistinguishable` are those of the same speed, the
    chosen one included, where there is more than one."""

    precision: str | None = None
    comparisons: tuple[PrecisionComparison, ...] = ()
    indistinguishable: tuple[str, ...] = ()
    max_ppl_increase: float | None = None


class PrecisionResult(Result):
    """What `bitdraft precision` measured."""

    kind: Literal["precision"] = "precision"
    config: PrecisionConfig
    rows: tuple[PrecisionRow, ...]
    verdict: PrecisionVerdict = PrecisionVerdict()


# --- spec_decode --------------------------------------------------------------------------------------------


class PositionAcceptance(Record):
    """Of the n steps that drafted at least `position` tokens: the share that kept that one, and the share
    among those that had kept the one before."""

    position: int
    n: float | None = None
    share: float | None = None
    conditional: float | None = None


class LosslessCheck(Record):
    """How many of the runs have the token ids of K = 0 at batch 1, and where the others part from them."""

    identical: int
    num_prompts: int
    divergences: tuple[Divergence, ...] = ()

    @property
    def bugs(self) -> list[Divergence]:
        """Those that no rounding explains."""
        return [found for found in self.divergences if found.kind == "bug"]


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
    metrics: dict[str, Figure] = Field(default_factory=dict)
    acceptance_by_position: tuple[PositionAcceptance, ...] = ()
    realised_k: dict[str, int] = Field(default_factory=dict)
    num_truncated_steps: int = 0
    lossless: LosslessCheck | None = None
    replay_check: ReplayCheck | None = None
    predicted: Predicted = Predicted()
    runs: tuple[Generation, ...] = ()
    groups: tuple[tuple[int, ...], ...] = ()
    detail: str | None = None

    @property
    def configuration(self) -> Configuration:
        """What it is a row of."""
        return Configuration(self.draft, self.k, self.batch_size)

    @property
    def places(self) -> list[tuple[int, ...]]:
        """The prompts of each group; at batch 1 a prompt each."""
        return list(self.groups) or [(index,) for index in range(len(self.runs))]


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
    """The fastest (draft, K) at a batch size; `pays` is None without an interval."""

    batch_size: int
    draft: str
    k: int
    speedup: Figure
    pays: bool | None = None

    @property
    def pays_by_value(self) -> bool:
        """By its interval where there is one."""
        return self.speedup.value > 1 if self.pays is None else self.pays


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


class SpecDecodeResult(Result):
    """What `bitdraft spec-decode` measured. `rows` hold the baseline (K = 0) and every (draft, K), at every
    batch size; `replay` and `plan` are by draft, `replay` then by K. A plan has no rows."""

    kind: Literal["spec_decode"] = "spec_decode"
    config: SpecDecodeConfig
    drafts: dict[str, ModelRecord] = Field(default_factory=dict)
    rows: tuple[SpecDecodeRow, ...] = ()
    replay: dict[str, dict[int, ReplaySummary]] = Field(default_factory=dict)
    costs: CostRecord = CostRecord()
    plan: dict[str, DraftPlan] = Field(default_factory=dict)
    verdict: SpecDecodeVerdict = SpecDecodeVerdict()

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
        return _with_known_texts(value) if isinstance(value, dict) else value

    @model_serializer(mode="wrap")
    def _texts_once(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = handler(self)
        _without_known_texts(data["rows"])
        return data


def _known_texts(rows: Sequence[Any]) -> list[Sequence[int]]:
    """The baseline's token ids by prompt, from rows as JSON has them."""
    for row in rows:
        if isinstance(row, Mapping) and not row.get("k") and row.get("batch_size", 1) == 1:
            return [run["token_ids"] for run in row.get("runs", ()) if "token_ids" in run]
    return []


def _runs_by_prompt(row: Mapping[str, Any]) -> list[tuple[int, Any]]:
    runs = row.get("runs") or ()
    groups = row.get("groups") or [(index,) for index in range(len(runs))]
    return list(zip([index for group in groups for index in group], runs, strict=False))


def _with_known_texts(data: Mapping[str, Any]) -> dict[str, Any]:
    rows = data.get("rows") or ()
    if not all(isinstance(row, Mapping) for row in rows):
        return dict(data)
    known = _known_texts(rows)
    restored = []
    for row in rows:
        runs = [
            {"token_ids": known[index], **run} if isinstance(run, Mapping) and index < len(known) else run
            for index, run in _runs_by_prompt(row)
        ]
        restored.append({**row, "runs": runs} if runs else row)
    return {**data, "rows": restored}


def _without_known_texts(rows: Sequence[dict[str, Any]]) -> None:
    known = _known_texts(rows)
    for row in rows:
        if not row["k"] and row["batch_size"] == 1:
            continue
        for index, run in _runs_by_prompt(row):
            if index < len(known) and list(run["token_ids"]) == list(known[index]):
                del run["token_ids"]


# --- recommend ----------------------------------------------------------------------------------------------


class Contender(Record):
    """One way to run the model: a precision, and a draft at a K (None and 0 for plain decoding). Figures
    are None where it was only predicted (`predicted_speedup`, over plain decoding at this precision).
    `standing`: `chosen`, or `ahead` where the search is not finished; `indistinguishable` from it in
    speed; `slower`; `predicted`, not measured; `out`, which `problems` explain. `is_pareto`: none is
    better in one of speed, quality and memory and no worse in the others, by value."""

    precision: str
    draft: str | None = None
    k: int = 0
    draft_precision: str | None = None
    standing: Literal["chosen", "ahead", "indistinguishable", "slower", "predicted", "out"]
    problems: tuple[Finding, ...] = ()
    throughput_tok_s: Figure | None = None
    speedup: Figure | None = None
    predicted_speedup: float | None = None
    ttft_ms: Figure | None = None
    peak_memory_gb: float | None = None
    ppl_change: Figure | None = None
    is_pareto: bool = False

    @property
    def reason(self) -> str | None:
        """Why it is out, in words."""
        return "; ".join(problem.text for problem in self.problems) or None


class Choice(Record):
    """What to deploy. `speculate` is None where it is unknown, `precision` where nothing can be
    recommended."""

    precision: str | None = None
    speculate: bool | None = None
    draft: str | None = None
    k: int | None = None
    draft_precision: str | None = None


class Limits(Sparse):
    """Those that were set."""

    max_ppl_increase: float | None = None
    max_vram_gb: float | None = None
    max_ttft_ms: float | None = None
    min_speedup: float | None = None

    def given(self) -> dict[str, float]:
        """By name."""
        found = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: value for name, value in found.items() if value is not None}


class Stage(Record):
    """What was done, and how long it took."""

    stage: str
    what: str
    seconds: float


class Recommendation(Result):
    """What to deploy, and all that was considered. `snippets` are ready to run, by tool (`transformers`,
    `vllm`, `native`). `memory_name` is `peak_vram_gb` or `peak_ram_gb`."""

    kind: Literal["recommendation"] = "recommendation"
    config: RecommendConfig
    choice: Choice = Choice()
    limits: Limits = Limits()
    memory_name: str = "peak_ram_gb"
    contenders: tuple[Contender, ...] = ()
    stages: tuple[Stage, ...] = ()
    snippets: dict[str, str] = Field(default_factory=dict)

    @property
    def drafts(self) -> dict[str, ModelRecord]:
        """None of its own: they are in the results of its stages."""
        return {}
