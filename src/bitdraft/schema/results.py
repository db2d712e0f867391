"""What a run ends with: rows of figures, what they were measured on, and what is concluded."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from bitdraft.schema.history import SCHEMA_VERSION
from bitdraft.schema.records import Figure, Record, Status


class PrecisionRow(Record):
    precision: str
    status: Status
    reason: str | None = None
    metrics: dict[str, Figure] = Field(default_factory=dict)
    quality: dict[str, Any] = Field(default_factory=dict)
    raw: dict[str, Any] = Field(default_factory=dict)


class PrecisionResult(Record):
    schema_version: int = SCHEMA_VERSION
    kind: Literal["precision"] = "precision"
    config: dict[str, Any]
    environment: dict[str, Any]
    model: dict[str, Any]
    text: dict[str, Any]
    rows: tuple[PrecisionRow, ...]
    verdict: dict[str, Any] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class SpecDecodeRow(Record):
    """One draft at one K. `lossless` is None for sampling, `predicted` where nothing was predicted."""

    draft: str
    k: int
    backend: str
    status: Status
    reason: str | None = None
    metrics: dict[str, Figure] = Field(default_factory=dict)
    acceptance_by_position: list[dict[str, Any]] = Field(default_factory=list)
    realised_k: dict[str, int] = Field(default_factory=dict)
    num_truncated_steps: int = 0
    lossless: dict[str, Any] | None = None
    replay_check: dict[str, Any] | None = None
    predicted: dict[str, Any] = Field(default_factory=dict)
    raw: dict[str, Any] = Field(default_factory=dict)


class BatchRow(Record):
    """One draft at one K with `batch_size` prompts decoded at once; K = 0 has the draft `–`. `lossless` is
    None for sampling."""

    batch_size: int
    draft: str
    k: int
    status: Status
    reason: str | None = None
    metrics: dict[str, Figure] = Field(default_factory=dict)
    lossless: dict[str, Any] | None = None
    raw: dict[str, Any] = Field(default_factory=dict)


class SpecDecodeResult(Record):
    """`replay` and `costs` are by draft; `plan` results have no rows and a best K for each draft; `batches`
    are the rows of batch sizes above 1."""

    schema_version: int = SCHEMA_VERSION
    kind: Literal["spec_decode"] = "spec_decode"
    config: dict[str, Any]
    environment: dict[str, Any]
    model: dict[str, Any]
    drafts: dict[str, Any]
    text: dict[str, Any]
    baseline: dict[str, Any] = Field(default_factory=dict)
    rows: tuple[SpecDecodeRow, ...] = ()
    batches: tuple[BatchRow, ...] = ()
    replay: dict[str, dict[str, Any]] = Field(default_factory=dict)
    costs: dict[str, Any] = Field(default_factory=dict)
    plan: dict[str, Any] = Field(default_factory=dict)
    verdict: dict[str, Any] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Contender(Record):
    """One way to run the model: a precision, and a draft at a K (`–` and 0 for plain decoding). Figures
    are None where it was only predicted (`predicted_speedup`, over plain decoding at this precision).
    `standing`: `chosen`; `indistinguishable` from it in speed; `slower`; `predicted`, not measured; `out`,
    which `reason` explains. `is_pareto`: none is better in one of speed, quality and memory and no worse in
    the others, by value."""

    precision: str
    draft: str
    k: int
    draft_precision: str | None = None
    standing: Literal["chosen", "indistinguishable", "slower", "predicted", "out"]
    reason: str | None = None
    throughput_tok_s: Figure | None = None
    speedup: Figure | None = None
    predicted_speedup: float | None = None
    ttft_ms: Figure | None = None
    peak_memory_gb: float | None = None
    ppl_change: Figure | None = None
    is_pareto: bool = False


class Recommendation(Record):
    """What to deploy. `choice`: `precision`, `speculate` (None where unknown), `draft`, `k`,
    `draft_precision`; `verdict`: `summary` and `reasons`; `limits` are those that were set, by name;
    `stages` what was done, each with `stage`, `what`, `seconds`; `skipped` what was not, and why; `snippets`
    ready to run, by `transformers`, `vllm`, `native`. `memory_name` is `peak_vram_gb` or `peak_ram_gb`."""

    schema_version: int = SCHEMA_VERSION
    kind: Literal["recommendation"] = "recommendation"
    config: dict[str, Any]
    environment: dict[str, Any] = Field(default_factory=dict)
    model: dict[str, Any] = Field(default_factory=dict)
    text: dict[str, Any] = Field(default_factory=dict)
    choice: dict[str, Any] = Field(default_factory=dict)
    verdict: dict[str, Any] = Field(default_factory=dict)
    limits: dict[str, float] = Field(default_factory=dict)
    memory_name: str = "peak_ram_gb"
    contenders: tuple[Contender, ...] = ()
    stages: tuple[dict[str, Any], ...] = ()
    skipped: tuple[str, ...] = ()
    snippets: dict[str, str] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()
