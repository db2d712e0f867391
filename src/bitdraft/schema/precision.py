"""What `bitdraft precision` ends with: rows of figures, quality, and the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from bitdraft.config.runs import PrecisionConfig
from bitdraft.schema.records import (
    EnergyBlock,
    Figure,
    Generation,
    Metrics,
    Overflow,
    Record,
    ScoreBlocks,
    Sparse,
    Status,
    WorkSeconds,
    refuse_twice,
    row_text,
)
from bitdraft.schema.results import Result


class ProtocolCard(Sparse):
    """Without it a perplexity means nothing: the text, how it was cut into windows, what was scored."""

    protocol: str
    dataset: str | None = None
    source: str | None = None
    revision: str | None = None
    dataset_sha256: str | None = None
    detokenised: bool | None = None
    prefix_token: int | None = None
    bos: tuple[int, ...] = ()
    window: int | None = None
    stride: int | None = None
    normaliser: Literal["tokens", "documents"] = "tokens"
    max_scored_tokens: int | None = None
    truncated: bool = False
    num_windows: int | None = None
    num_documents: int | None = None
    num_scored_tokens: int | None = None


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
    kl_p999: Figure | None = None
    kl_max: Figure | None = None
    kl_missing: str | None = None

    def figures(self) -> dict[str, Figure]:
        """Those that there are, by name."""
        found = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: value for name, value in found.items() if isinstance(value, Figure)}


class PrecisionRaw(Sparse):
    """What a precision's processes noted beside its requests. `reference_work_s` are the times of fixed work,
    before the first prompt and after each, in all rounds (`calibration_s`: of another work, in older files).
    `peak_bytes` are those of decoding, `peak_bytes_before`
    those of the phases before it, `loading` and `scoring`. `energy` are blocks of requests that a counter was
    read around (`joules`: over all requests, in older files)."""

    reference_work_s: tuple[WorkSeconds, ...] | None = None
    calibration_s: tuple[WorkSeconds, ...] | None = None
    execution: str | None = None
    preparation_s: float | None = None
    load_s: float | None = None
    base_ram_bytes: int | None = None
    peak_bytes: dict[str, int] | None = None
    peak_bytes_before: dict[str, dict[str, int]] | None = None
    num_parameters: int | None = None
    weight_bytes: int | None = None
    streamed_bytes: int | None = None
    kv_bytes_per_token: int | None = None
    tensor_types: dict[str, dict[str, int]] | None = None
    joules: float | None = None
    energy: tuple[EnergyBlock, ...] | None = None
    score_blocks: ScoreBlocks | None = None
    kl_divergence: tuple[float, ...] | None = None
    detail: str | None = None


class PrecisionRow(Record):
    """One precision: its requests (`runs`, and those of further processes in `more_runs`), the figures that
    follow, and why there are none where it failed."""

    precision: str
    status: Status
    reason: str | None = None
    metrics: Metrics = Field(default_factory=dict)
    quality: Quality = Quality()
    runs: tuple[Generation, ...] = ()
    more_runs: tuple[tuple[Generation, ...], ...] = ()
    raw: PrecisionRaw = PrecisionRaw()

    @model_validator(mode="after")
    def _rounds_are_of_the_same_requests(self) -> PrecisionRow:
        if any(len(runs) != len(self.runs) for runs in self.more_runs):
            raise ValueError("rounds of different numbers of requests")
        return self

    def __repr__(self) -> str:
        """One line: its raw records are many."""
        return row_text(f"PrecisionRow({self.precision}, {self.status}", self.metrics)

    @property
    def rounds(self) -> list[tuple[Generation, ...]]:
        """The same requests in all of its processes."""
        return [self.runs, *self.more_runs]


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
    """What `bitdraft precision` measured. `floor` is the reference beside itself, through forwards of another
    shape: differences that are no larger are rounding."""

    kind: Literal["precision"] = "precision"
    config: PrecisionConfig
    rows: tuple[PrecisionRow, ...]
    floor: Quality | None = None
    verdict: PrecisionVerdict = PrecisionVerdict()

    @property
    def best(self) -> PrecisionRow | None:
        """The precision that the verdict recommends; None where it recommends none."""
        return next((row for row in self.rows if row.precision == self.verdict.precision), None)

    def rows_of_figures(self) -> Iterator[tuple[dict[str, Any], Mapping[str, Figure]]]:
        """See `Result`."""
        for row in self.rows:
            yield {"precision": row.precision}, {**row.metrics, **row.quality.figures()}

    @model_validator(mode="after")
    def _rows_are_of_their_own(self) -> PrecisionResult:
        refuse_twice(row.precision for row in self.rows)
        return self
