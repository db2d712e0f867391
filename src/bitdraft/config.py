"""Validated run configurations: frozen, keyword-only, no I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from bitdraft.errors import UserError

Precision = Literal["fp32", "fp16", "bf16"]
PplProtocol = Literal["sliding", "documents", "lm-eval", "gptq", "llama.cpp"]
BackendName = Literal["native", "transformers"]
Execution = Literal["auto", "eager", "static", "compiled"]

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
PPL_PROTOCOLS: tuple[PplProtocol, ...] = get_args(PplProtocol)
BACKENDS: tuple[BackendName, ...] = get_args(BackendName)
EXECUTIONS: tuple[Execution, ...] = get_args(Execution)
MOST_K, LARGEST_BATCH = 32, 64
NGRAM = "ngram"  # the draft that is prompt lookup


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class DecodingConfig(Config):
    """How one request is decoded. Greedy; with `ignore_eos` the output length is fixed."""

    max_new_tokens: int = Field(200, ge=1)
    ignore_eos: bool = True


class SamplingConfig(Config):
    """How a token is drawn: greedy at temperature 0, else from the tempered distribution cut to its
    `top_k` most probable tokens and to the smallest set that holds `top_p` of what is left."""

    temperature: float = Field(0.0, ge=0, allow_inf_nan=False)
    top_k: int | None = Field(None, ge=1)
    top_p: float | None = Field(None, gt=0, le=1)


class ModelConfig(Config):
    """Which checkpoint, and what may be executed to load it; with `random_weights`, which shape. `seed`
    is that of all chance in a run: of random weights, of sampling and of the bootstrap."""

    model: str = "demo/target"
    revision: str | None = None
    allow_pickle: bool = False
    trust_remote_code: bool = False
    random_weights: bool = False
    seed: int = Field(0, ge=0)
    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")


class TextConfig(Config):
    """Which text, and how prompts are cut from it."""

    dataset: str = "stdlib"
    data_root: Path | None = None
    num_prompts: int = Field(15, ge=1)
    min_text_chars: int = Field(200, ge=0)
    max_prompt_tokens: int = Field(1024, ge=1)


class PrecisionsConfig(Config):
    """Which precisions, and what their quality may cost."""

    precisions: tuple[Precision, ...] = PRECISIONS
    ppl_protocol: PplProtocol = "sliding"
    ppl_max_tokens: int | None = Field(None, ge=2)
    kl_max_tokens: int = Field(16_384, ge=0)
    max_ppl_increase: float = Field(0.005, ge=0, le=1, allow_inf_nan=False)

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

    `reference` is the precision that quality differences are paired with; by default fp32 where it
    is measured, else the first of `precisions`. `ppl_max_tokens` limits the text that is scored,
    `kl_max_tokens` the part of it on which full distributions are compared.
    """

    reference: Precision | None = None
    score_chunk_tokens: int = Field(256, ge=1)
    backend: BackendName = "native"
    execution: Execution = "auto"
    num_warmup: int = Field(1, ge=1)
    output: Path | None = None

    @model_validator(mode="after")
    def _reference_is_measured(self) -> Self:
        if self.reference is not None and self.reference not in self.precisions:
            raise ValueError(f"reference {self.reference} is not among the measured precisions")
        return self

    @property
    def reference_precision(self) -> Precision:
        if self.reference is not None:
            return self.reference
        return "fp32" if "fp32" in self.precisions else self.precisions[0]


class DraftsConfig(Config):
    """`drafts` are checkpoints (`NAME` or `LABEL=NAME`) or `ngram`; left out, for an embedded target, the
    embedded ones and `ngram`. `k` are the numbers of speculative tokens."""

    drafts: tuple[str, ...] | None = None
    k: tuple[int, ...] = tuple(range(3, 11))

    @field_validator("drafts", mode="before")
    @classmethod
    def _several_drafts(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("drafts")
    @classmethod
    def _some_draft(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and not value:
            raise ValueError("no draft is named")
        return value

    @field_validator("k", mode="before")
    @classmethod
    def _ranges(cls, value: Any) -> Any:
        return _numbers(value, "K", MOST_K)

    @field_validator("k")
    @classmethod
    def _possible_k(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value:
            raise ValueError("no K is named")
        _check_range(value, "K", MOST_K)
        return tuple(sorted(set(value)))


class SpecDecodeConfig(ModelConfig, TextConfig, DecodingConfig, SamplingConfig, DraftsConfig):
    """One run of the spec_decode module.

    `only` are the (label, K) to be measured, of all drafts and K. `draft_precision` is `precision` unless
    it is set. `batch_sizes` are how many prompts are decoded at once; 1 is always among them. With
    `synthetic_acceptance` draft models agree with the target at that rate, whatever they are. With
    `plan` nothing is swept: the best K follows from replay and cost curves.
    """

    only: tuple[tuple[str, int], ...] | None = None
    batch_sizes: tuple[int, ...] = (1,)
    precision: Precision = "fp32"
    draft_precision: Precision | None = None
    backend: BackendName = "native"
    execution: Execution = "auto"
    synthetic_acceptance: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    plan: bool = False
    output: Path | None = None

    @field_validator("batch_sizes", mode="before")
    @classmethod
    def _batch_ranges(cls, value: Any) -> Any:
        return _numbers(value, "batch size", LARGEST_BATCH)

    @field_validator("batch_sizes")
    @classmethod
    def _possible_batches(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value:
            raise ValueError("no batch size is named")
        _check_range(value, "batch size", LARGEST_BATCH)
        return tuple(sorted({1, *value}))

    def arms(self, labels: Sequence[str]) -> list[tuple[str, int]]:
        """The (draft, K) to be measured."""
        arms = [(label, k) for label in labels for k in self.k]
        return arms if self.only is None else [arm for arm in arms if arm in self.only]


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
    output: Path | None = None


def _check_range(values: Sequence[int], what: str, most: int) -> None:
    for value in values:
        if not 1 <= value <= most:
            raise ValueError(f"{what} = {value} is outside 1 to {most}")


def _numbers(value: Any, what: str, most: int) -> Any:
    """Text and a single number as the numbers that are meant; anything else as it is."""
    if isinstance(value, str):
        return _parse_numbers(value, what, most)
    return (value,) if isinstance(value, int) else value


def _parse_numbers(text: str, what: str, most: int) -> tuple[int, ...]:
    """`3-10`, `1,2,4` or a mixture."""
    found: list[int] = []
    for part in text.split(","):
        ends = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if ends is None:
            raise ValueError(f"{part.strip()!r} is neither a number nor a range")
        first, last = int(ends[1]), int(ends[2] or ends[1])
        if last < first:
            raise ValueError(f"the range {first}-{last} is reversed")
        # before a long range is written out
        _check_range([last], what, most)
        found.extend(range(first, last + 1))
    return tuple(found)


_REMEDIES = {
    "precisions": f"Choose from {', '.join(PRECISIONS)}, separated by commas, each once",
    "reference": f"Choose one of the measured precisions ({', '.join(PRECISIONS)})",
    "ppl_protocol": f"Choose from {', '.join(PPL_PROTOCOLS)}",
    "precision": f"Choose one of {', '.join(PRECISIONS)}",
    "draft_precision": f"Choose one of {', '.join(PRECISIONS)}",
    "drafts": "Name checkpoint folders, hub ids, demo/draft-small, demo/draft-medium or ngram",
    "k": f"Give numbers from 1 to {MOST_K}, as 3-10 or 1,2,4",
    "batch_sizes": f"Give numbers from 1 to {LARGEST_BATCH}, as 1,4,8",
    "temperature": "Give 0 for greedy decoding or a positive number",
    "synthetic_acceptance": "Give a probability from 0 to 1",
    "top_p": "Give a number above 0 and up to 1",
    "max_ppl_increase": "Give a share from 0 to 1, as 0.5% or 0.005",
    "max_vram_gb": "Give GiB as a positive number, as 16",
    "max_ttft_ms": "Give milliseconds as a positive number",
    "min_speedup": "Give a factor of at least 1, as 1.1",
    "budget_s": "Give at least 30 seconds, as 90s, 10m or 1h",
    "only": "Give pairs of a draft's label and a K",
    "backend": f"Choose from {', '.join(BACKENDS)}",
    "execution": f"Choose from {', '.join(EXECUTIONS)}",
    "device": "Choose auto, cpu, cuda, cuda:N or mps",
}
_AnyConfig = TypeVar("_AnyConfig", bound=Config)


def make_config(
    kind: type[_AnyConfig], values: dict[str, Any], written: Mapping[str, str | None] = MappingProxyType({})
) -> _AnyConfig:
    """Build a configuration, turning the first problem into a `UserError`. `written` is what a user wrote
    where that isn't the value, to be shown in its place."""
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else "reference"
        shown = first["input"] if first["loc"] else values.get("reference")
        problem = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            known = ", ".join(sorted(kind.model_fields))
            raise UserError(field, shown, "no such setting", f"Known settings: {known}") from error
        shown = f"{shown:g}" if isinstance(shown, float) else shown
        remedy = _REMEDIES.get(field) or _remedy(first.get("ctx", {}), kind.model_fields.get(field))
        raise UserError(field, written.get(field) or shown, problem, remedy) from error


def _remedy(bounds: Mapping[str, Any], setting: Any) -> str:
    """From a setting's bounds or, where none is broken, its type."""
    for name, words in (("ge", "of at least"), ("gt", "above"), ("le", "up to"), ("lt", "below")):
        if name in bounds:
            return f"Give a number {words} {bounds[name]}"
    is_whole = setting is not None and setting.annotation in (int, int | None)
    return "Give a whole number" if is_whole else "Give a value of that kind"
