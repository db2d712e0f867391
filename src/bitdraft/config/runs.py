"""One configuration a command: what its run is asked to measure. Frozen, keyword-only, no I/O."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, field_validator, model_validator

from bitdraft import formats
from bitdraft.config.backends import LLAMA_SERVER, BackendName, SweepBackend
from bitdraft.config.base import Config, check_range, numbers, parts_of, seconds, share
from bitdraft.config.decoding import (
    LARGEST_BATCH,
    DecodingConfig,
    DraftsConfig,
    Execution,
    SamplingConfig,
)
from bitdraft.config.model import ModelConfig, is_gguf, known_kv_cache
from bitdraft.config.text import TextConfig
from bitdraft.formats import kv_cache
from bitdraft.formats.gguf import LLAMA_CPP, of_dtype
from bitdraft.formats.stored import ORIGINAL

LARGEST_CONTEXT = 1 << 20
SCHEDULED_SIZES = (1, 2, 4, 8)


def _known(name: str) -> str:
    found = formats.canonical(name)
    if found is None:
        raise ValueError("no such precision")
    return found


Precision = Annotated[str, AfterValidator(_known)]
"""The name of a format (`bitdraft.formats`)."""

PplProtocol = Literal["sliding", "documents", "lm-eval", "gptq", "llama.cpp"]

PRECISIONS: tuple[Precision, ...] = formats.USUAL


class PrecisionsConfig(Config):
    """Which precisions, what their quality may cost, and in how many `rounds` of processes, in turn, their
    speeds are measured."""

    model_config = ConfigDict(title="Precision and quality")

    precisions: tuple[Precision, ...] = Field(
        PRECISIONS,
        description=f"Comma-separated: {', '.join(PRECISIONS)}, or other formats: int8, Q8_0, Q4_K_M, … "
        "(docs/formats.md).",
    )
    ppl_protocol: PplProtocol = Field("sliding", description="the protocol of perplexity.")
    ppl_window: int | None = Field(
        None,
        ge=8,
        description="Tokens of a window of perplexity. By default the protocol's own, at most 2048 and the "
        "model's context.",
    )
    ppl_max_tokens: int | None = Field(
        None, ge=2, description="Score only the first so many tokens. By default the whole text."
    )
    kl_max_tokens: int = Field(
        16_384, ge=0, description="Tokens on which full distributions are compared; 0: none."
    )
    kld_on: Literal["text", "prompts"] = Field(
        "text",
        description="Where full distributions are compared: on the scored text, or on the reference's own "
        "answers to the prompts, as a text says little of chat.",
    )
    max_ppl_increase: float = Field(
        0.005,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Increase of perplexity to tolerate, by the upper end of its interval: 0.5% or 0.005.",
    )
    rounds: int | None = Field(
        None,
        ge=1,
        le=20,
        description="How many processes each precision's speed is measured in, in turn (A B C C B A …). By "
        "default two where precisions are compared.",
    )

    @property
    def num_rounds(self) -> int:
        """In how many processes each precision's speed is measured: two, where there are several to
        compare, unless it was said."""
        return self.rounds or (2 if len(self.precisions) > 1 else 1)

    _named = field_validator("precisions", mode="before")(parts_of)
    _as_share = field_validator("max_ppl_increase", mode="before")(share)

    @field_validator("precisions")
    @classmethod
    def _without_repeats(cls, value: tuple[Precision, ...]) -> tuple[Precision, ...]:
        if not value:
            raise ValueError("no precision is named")
        if len(set(value)) != len(value):
            raise ValueError("a precision is named twice")
        return value


class ExecutionConfig(Config):
    """In which way the native engine runs models."""

    model_config = ConfigDict(title="Engine")

    execution: Execution = Field(
        "auto",
        description="auto: the faster of eager (the model's own forward) and static (steps of fixed shape, "
        "recorded on a CPU, CUDA graphs on a GPU); compiled: torch.compile.",
    )


class EngineConfig(ExecutionConfig):
    """What decodes, and in which way."""

    backend: BackendName = Field(
        "native", description="native: bitdraft's own engine; transformers: its generate."
    )


class SweepEngineConfig(ExecutionConfig):
    """What decodes a sweep, and in which way: of engines that people deploy, the program and its words."""

    backend: SweepBackend = Field(
        "native",
        description="native: bitdraft's own engine; transformers: its generate; llama-server: llama.cpp's; "
        "vllm: vLLM's engine, in its own Python.",
    )
    engine_program: Path | None = Field(
        None,
        description="With llama-server its program, with vllm the Python that has it. By default "
        "BITDRAFT_LLAMA_SERVER or BITDRAFT_VLLM_PYTHON of the environment, else what is found on PATH.",
    )
    engine_args: str = Field(
        "", description="Further words for the engine, as '--enforce-eager --max-model-len 4096'."
    )
    one_at_a_time: bool = Field(
        False,
        description="Engines in processes of their own run one after another, each twice, with half of the "
        "prompts each time (A B B A); by default so on a GPU and where memory has no room for all at once.",
    )


def _is_place(name: str) -> bool:
    """A checkpoint has a slash in its name, or is a folder."""
    return "/" in name or "\\" in name or Path(name).expanduser().exists()


class PrecisionConfig(ModelConfig, DecodingConfig, TextConfig, EngineConfig, PrecisionsConfig):
    """One run of the precision module."""

    model_config = ConfigDict(title="Precision and quality")

    reference: Precision | None = Field(
        None,
        description="Precision that quality is compared with, or a checkpoint: of one that is quantised "
        "already the original. By default the precision that rounds least.",
    )
    original: str | None = Field(None, description="The checkpoint that --reference names.")
    score_chunk_tokens: int = Field(
        256,
        ge=1,
        description="Tokens whose logits are kept at once while scoring, where logits are more than an "
        "output embedding.",
    )
    num_warmup: int = Field(1, ge=1, description="Unmeasured generations before the measured ones.")

    @model_validator(mode="before")
    @classmethod
    def _reference_of_its_own(cls, values: Any) -> Any:
        """A reference that is no format is a checkpoint, and has a row of its own."""
        if not isinstance(values, dict):
            return values
        named = values.get("reference")
        if isinstance(named, str) and formats.canonical(named) is None and _is_place(named):
            values = values | {"reference": ORIGINAL.name, "original": named}
        if values.get("original") is not None:
            asked = parts_of(values.get("precisions") or PRECISIONS)
            if isinstance(asked, list | tuple) and ORIGINAL.name not in asked:
                values = values | {"precisions": (*asked, ORIGINAL.name), "reference": ORIGINAL.name}
        return values

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


class SpecDecodeConfig(
    ModelConfig, DecodingConfig, TextConfig, SamplingConfig, SweepEngineConfig, DraftsConfig
):
    """One run of the spec_decode module."""

    model_config = ConfigDict(title="Speculation")

    only: tuple[tuple[str, int], ...] | None = Field(
        None, description="The (label, K) to be measured, of all drafts and K. By default all."
    )
    batch_sizes: tuple[int, ...] = Field(
        (1,), description="Prompts decoded at once, beside one alone: 4, or 1,4,8."
    )
    precision: Precision = Field(
        PRECISIONS[0], description=f"Of the target: {', '.join(PRECISIONS)}, or another format."
    )
    draft_precision: Precision | None = Field(None, description="Of the drafts. By default the target's.")
    synthetic_acceptance: float | None = Field(
        None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Make draft models agree with the target at this rate: speed is real, acceptance stated.",
    )
    plan: bool = Field(False, description="No sweep: predict the best K from replay and cost curves.")
    schedule: bool = Field(
        False,
        description="No sweep: the best K for each --batch-size (here 1,2,4,8) and context, by replay "
        "and costs that are measured there.",
    )
    contexts: tuple[int, ...] = Field(
        (), description="With --schedule, tokens of context: 128,1024. By default 64,256,1024 that fit."
    )
    pairs: tuple[Precision, ...] = Field(
        (),
        description="Formats of target and draft, comma-separated: the acceptance of every pair, by replay.",
    )
    kv_caches: tuple[str, ...] = Field(
        (kv_cache.AUTO,),
        description="With --pairs, numbers of the target's cache, where llama.cpp runs it: auto,q8_0,q4_0.",
    )

    @field_validator("engine_args")
    @classmethod
    def _are_words(cls, value: str) -> str:
        try:
            shlex.split(value)
        except ValueError as error:
            raise ValueError(f"are no words ({error})") from None
        return value

    @model_validator(mode="before")
    @classmethod
    def _files_of_the_same_numbers(cls, values: Any) -> Any:
        """llama.cpp's server reads files: of a format of torch's those with the same numbers."""
        if not isinstance(values, dict) or values.get("backend") != LLAMA_SERVER:
            return values
        is_file = isinstance(values.get("model"), str) and is_gguf(values["model"])
        default = None if is_file else cls.model_fields["precision"].default
        asked = {name: values.get(name) for name in ("precision", "draft_precision")}
        asked["precision"] = asked["precision"] or default
        for name, given in asked.items():
            own = formats.canonical(given) if isinstance(given, str) else None
            if own in formats.USUAL:
                values = values | {name: of_dtype(formats.find(own).torch_dtype)}
        return values

    @field_validator("pairs", "kv_caches", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return parts_of(value)

    @field_validator("pairs")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(value))

    @field_validator("kv_caches")
    @classmethod
    def _known_caches(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("no cache is named")
        return tuple(dict.fromkeys(known_kv_cache(name) for name in value))

    @field_validator("contexts", mode="before")
    @classmethod
    def _context_ranges(cls, value: Any) -> Any:
        return () if value is None else numbers(value, "context", LARGEST_CONTEXT)

    @field_validator("contexts")
    @classmethod
    def _possible_contexts(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        check_range(value, "context", LARGEST_CONTEXT)
        return tuple(sorted(set(value)))

    @model_validator(mode="before")
    @classmethod
    def _schedule_is_a_plan(cls, values: Any) -> Any:
        """Its texts are written as a plan's are; and it is of several batch sizes."""
        if not isinstance(values, dict) or not values.get("schedule"):
            return values
        sizes = values.get("batch_sizes")
        is_left_out = sizes in (None, "", "1", 1, (), (1,), [1])
        return values | {"plan": True} | ({"batch_sizes": SCHEDULED_SIZES} if is_left_out else {})

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

    @property
    def targets_of_pairs(self) -> list[tuple[str, str]]:
        """The target's (format, numbers of its cache)."""
        return [
            (name, own)
            for name in self.pairs
            for own in (self.kv_caches if formats.find(name).backend == LLAMA_CPP else (kv_cache.AUTO,))
        ]

    def configurations(self, labels: Sequence[str]) -> list[tuple[str, int]]:
        """The (draft, K) to be measured."""
        found = [(label, k) for label in labels for k in self.k]
        return found if self.only is None else [one for one in found if one in self.only]


class RecommendConfig(
    ModelConfig,
    DecodingConfig,
    TextConfig,
    SamplingConfig,
    ExecutionConfig,
    PrecisionsConfig,
    DraftsConfig,
):
    """One run of `recommend`."""

    model_config = ConfigDict(title="Limits and time")

    k: tuple[int, ...] = Field(tuple(range(1, 11)), description="Speculative tokens a step: 3-10, or 1,2,4.")
    max_vram_gb: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Limit of peak VRAM in GiB (of peak RAM on a CPU)."
    )
    max_ttft_ms: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Limit of the time to the first token in ms, by the upper end of its interval.",
    )
    min_speedup: float = Field(
        1.0,
        ge=1,
        allow_inf_nan=False,
        description="What speculation must bring at least, by the lower end of its interval.",
    )
    budget_s: float | None = Field(
        None,
        ge=30,
        allow_inf_nan=False,
        description="How long all measurements may take: 90s, 10m or 1h. What does not fit is left out, and "
        "the result says so.",
    )

    _as_seconds = field_validator("budget_s", mode="before")(seconds)
