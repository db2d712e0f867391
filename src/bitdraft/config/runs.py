"""One configuration a command: what its run is asked to measure. Frozen, keyword-only, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, Field, field_validator, model_validator

from bitdraft import formats
from bitdraft.config.backends import BackendName
from bitdraft.config.base import Config, check_range, numbers
from bitdraft.config.decoding import (
    LARGEST_BATCH,
    DecodingConfig,
    DraftsConfig,
    Execution,
    SamplingConfig,
)
from bitdraft.config.model import ModelConfig
from bitdraft.config.text import TextConfig


def _known(name: str) -> str:
    if name not in formats.NAMES:
        raise ValueError("no such precision")
    return name


Precision = Annotated[str, AfterValidator(_known)]
"""The name of a format (`bitdraft.formats`)."""

PplProtocol = Literal["sliding", "documents", "lm-eval", "gptq", "llama.cpp"]

PRECISIONS: tuple[Precision, ...] = formats.NAMES

PPL_PROTOCOLS: tuple[PplProtocol, ...] = get_args(PplProtocol)


class PrecisionsConfig(Config):
    """Which precisions, what their quality may cost, and in how many `rounds` of processes, in turn, their
    speeds are measured."""

    precisions: tuple[Precision, ...] = PRECISIONS
    ppl_protocol: PplProtocol = "sliding"
    ppl_max_tokens: int | None = Field(None, ge=2)
    kl_max_tokens: int = Field(16_384, ge=0)
    max_ppl_increase: float = Field(0.005, ge=0, le=1, allow_inf_nan=False)
    rounds: int | None = Field(None, ge=1, le=20)

    @property
    def num_rounds(self) -> int:
        """In how many processes each precision's speed is measured: two, where there are several to
        compare, unless it was said."""
        return self.rounds or (2 if len(self.precisions) > 1 else 1)

    @field_validator("precisions")
    @classmethod
    def _without_repeats(cls, value: tuple[Precision, ...]) -> tuple[Precision, ...]:
        if not value:
            raise ValueError("no precision is named")
        if len(set(value)) != len(value):
            raise ValueError("a precision is named twice")
        return value


class PrecisionConfig(ModelConfig, TextConfig, DecodingConfig, PrecisionsConfig):
    """One run of the precision module.

    `reference` is the precision that quality differences are paired with; by default the one that rounds
    least, if it rounds less than 16 bits do, else the first of `precisions`. `ppl_max_tokens` limits the
    text that is scored, `kl_max_tokens` the part of it on which full distributions are compared.
    """

    reference: Precision | None = None
    score_chunk_tokens: int = Field(256, ge=1)
    backend: BackendName = "native"
    execution: Execution = "auto"
    num_warmup: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _reference_is_measured(self) -> Self:
        if self.reference is not None and self.reference not in self.precisions:
            raise ValueError(f"reference {self.reference} is not among the measured precisions")
        if self.reference is None:
            formats.default_reference(self.precisions)
        elif not formats.find(self.reference).can_be_reference:
            raise ValueError(f"{self.reference} cannot be what quality is compared with")
        return self

    @property
    def reference_precision(self) -> Precision:
        """What quality is compared with."""
        return self.reference or formats.default_reference(self.precisions)


class SpecDecodeConfig(ModelConfig, TextConfig, DecodingConfig, SamplingConfig, DraftsConfig):
    """One run of the spec_decode module.

    `only` are the (label, K) to be measured, of all drafts and K. `draft_precision` is `precision` unless
    it is set. `batch_sizes` are how many prompts are decoded at once; 1 is always among them. With
    `synthetic_acceptance` draft models agree with the target at that rate, whatever they are. With
    `plan` nothing is swept: the best K follows from replay and cost curves.
    """

    only: tuple[tuple[str, int], ...] | None = None
    batch_sizes: tuple[int, ...] = (1,)
    precision: Precision = PRECISIONS[0]
    draft_precision: Precision | None = None
    backend: BackendName = "native"
    execution: Execution = "auto"
    synthetic_acceptance: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    plan: bool = False

    @field_validator("batch_sizes", mode="before")
    @classmethod
    def _batch_ranges(cls, value: Any) -> Any:
        return numbers(value, "batch size", LARGEST_BATCH)

    @field_validator("batch_sizes")
    @classmethod
    def _possible_batches(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value:
            raise ValueError("no batch size is named")
        check_range(value, "batch size", LARGEST_BATCH)
        return tuple(sorted({1, *value}))

    def configurations(self, labels: Sequence[str]) -> list[tuple[str, int]]:
        """The (draft, K) to be measured."""
        found = [(label, k) for label in labels for k in self.k]
        return found if self.only is None else [one for one in found if one in self.only]


class RecommendConfig(
    ModelConfig, TextConfig, DecodingConfig, SamplingConfig, PrecisionsConfig, DraftsConfig
):
    """One run of `recommend`.

    `max_vram_gb` limits peak memory (on a CPU peak RAM), `max_ttft_ms` the time to the first token, by the
    upper end of its interval. `min_speedup` is what the lower end of a speedup over plain decoding must
    reach for a recommendation to speculate. `budget_s` is how long all measurements may take; what doesn't
    fit is left out and said so.
    """

    k: tuple[int, ...] = tuple(range(1, 11))
    max_vram_gb: float | None = Field(None, gt=0, allow_inf_nan=False)
    max_ttft_ms: float | None = Field(None, gt=0, allow_inf_nan=False)
    min_speedup: float = Field(1.0, ge=1, allow_inf_nan=False)
    budget_s: float | None = Field(None, ge=30, allow_inf_nan=False)
    execution: Execution = "auto"
