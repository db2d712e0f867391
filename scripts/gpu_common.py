"""What the parts of a check on a GPU share: what is measured, on which models, in what time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from benchmarks import Settings, prompts_of
from bitdraft.backends.base import EngineSetup
from bitdraft.backends.native import NativeEngine
from bitdraft.config import DecodingConfig, Precision, SamplingConfig
from bitdraft.inputs.models import LoadedModel
from gpu_budget import Budget

GREEDY = SamplingConfig()


@dataclass(frozen=True)
class Sizes:
    """What is measured: names of shapes (or folders), and how much of what."""

    targets: tuple[str, ...]
    drafts: tuple[str, ...]
    alphas: tuple[float, ...]
    ks: tuple[int, ...]
    batches: tuple[int, ...]
    num_prompts: int
    prompt_tokens: int
    new_tokens: int
    batch_k: int = 4
    assisted_k: int = 4
    precision: Precision = "bf16"
    vocab_size: int = 50_304


@dataclass
class Check:
    """What all parts share. `models` are the target's under "target" and the drafts' by their names."""

    sizes: Sizes
    settings: Settings
    budget: Budget
    target: str
    models: dict[str, LoadedModel]
    copy_bytes_s: float
    not_run: list[str] = field(default_factory=list)

    @property
    def config(self) -> DecodingConfig:
        return DecodingConfig(max_new_tokens=self.sizes.new_tokens)

    @property
    def draft_models(self) -> dict[str, Any]:
        return {name: self.models[name].model for name in self.sizes.drafts}

    def prompts(self, num_prompts: int) -> list[list[int]]:
        return prompts_of(self.settings, num_prompts, self.sizes.prompt_tokens)

    def decoder(self) -> NativeEngine:
        capacity = self.sizes.prompt_tokens + self.sizes.new_tokens
        target = self.models["target"].model
        return NativeEngine(
            EngineSetup(target, self.draft_models, GREEDY, execution="static", capacity=capacity)
        )


@dataclass
class Part:
    markdown: str
    record: Any
