"""The settings as keywords of Python functions: what an editor completes and checks, and what `help()` says.

Types are what a function takes, which is more than a configuration keeps: `"fp32,bf16"` for a list, `"10m"`
for seconds. Names, defaults and sentences are the configurations' own.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar, get_type_hints

from bitdraft.config.backends import BackendName, SweepBackend
from bitdraft.config.base import Config
from bitdraft.config.decoding import Execution
from bitdraft.config.model import FlashAttention
from bitdraft.config.running import ExecutorName
from bitdraft.config.runs import PplProtocol

Names = str | Sequence[str]
Numbers = str | int | Sequence[int]
_F = TypeVar("_F", bound=Callable[..., Any])


class RunKeywords(TypedDict, total=False):
    """Fields of `RunOptions`."""

    output: str | Path | None
    root: str | Path | None
    fresh: bool
    retry_failed: bool
    mix_machines: bool
    include_paths: bool
    executor: ExecutorName
    ray_address: str | None
    devices: Names
    cell_timeout_s: str | float


class CommonKeywords(RunKeywords, total=False):
    """Fields of every configuration, but for the model."""

    revision: str | None
    allow_pickle: bool
    trust_remote_code: bool
    random_weights: bool
    seed: int
    device: str
    tokenizer: str | None
    gguf: Names
    kv_cache: str
    flash_attention: FlashAttention
    threads: int | None
    dataset: str
    data_root: str | Path | None
    num_prompts: int
    min_text_chars: int
    max_prompt_tokens: int
    sample: Literal["stratified", "first"]
    chat: Literal["auto", "on", "off"]
    bos: Literal["auto", "off"]
    max_new_tokens: int
    ignore_eos: bool
    execution: Execution


class QualityKeywords(TypedDict, total=False):
    """Fields of `PrecisionsConfig`."""

    precisions: Names
    ppl_protocol: PplProtocol
    ppl_window: int | None
    ppl_max_tokens: int | None
    kl_max_tokens: int
    kld_on: Literal["text", "prompts"]
    max_ppl_increase: str | float
    rounds: int | None


class DraftingKeywords(TypedDict, total=False):
    """Fields of `DraftsConfig` and `SamplingConfig`."""

    drafts: Names | None
    k: Numbers
    temperature: float
    top_k: int | None
    top_p: float | None


class PrecisionKeywords(CommonKeywords, QualityKeywords, total=False):
    """Fields of `PrecisionConfig`."""

    reference: str | None
    original: str | None
    score_chunk_tokens: int
    backend: BackendName
    num_warmup: int


class SpecDecodeKeywords(CommonKeywords, DraftingKeywords, total=False):
    """Fields of `SpecDecodeConfig`."""

    only: Sequence[tuple[str, int]] | None
    batch_sizes: Numbers
    precision: str
    draft_precision: str | None
    backend: SweepBackend
    engine_program: str | Path | None
    engine_args: str
    one_at_a_time: bool
    synthetic_acceptance: float | None
    plan: bool
    schedule: bool
    contexts: Numbers
    pairs: Names
    kv_caches: Names


class RecommendKeywords(CommonKeywords, QualityKeywords, DraftingKeywords, total=False):
    """Fields of `RecommendConfig`."""

    max_vram_gb: float | None
    max_ttft_ms: float | None
    min_speedup: float
    budget_s: str | float | None


def explained(keywords: type, *kinds: type[Config]) -> Callable[[_F], _F]:
    """Give a function with `**settings` the signature and the documentation of these settings."""

    def add(function: _F) -> _F:
        hints = get_type_hints(keywords)
        own = inspect.signature(function).parameters.values()
        parameters = [one for one in own if one.kind is not inspect.Parameter.VAR_KEYWORD]
        known = {one.name for one in parameters}
        text = [inspect.cleandoc(function.__doc__ or ""), "", "Settings:"]
        for kind in kinds:
            for name, field in kind.model_fields.items():
                if name in known:
                    continue
                parameters.append(
                    inspect.Parameter(
                        name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[name]
                    )
                )
                sentence = f"{name} (default {field.default!r}): {field.description}"
                text.append(textwrap.fill(sentence, 108, initial_indent="  ", subsequent_indent="      "))
        function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        function.__doc__ = "\n".join(text)
        return function

    return add
