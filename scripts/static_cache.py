"""transformers' `generate` with a static cache, plain and compiled, as a peer.

transformers 5.x compiles a decode step by itself when the cache is static, but only on accelerators
(`_valid_auto_compile_criteria`). On a CPU `cache_implementation="static"` alone compiles nothing; it does
once `CompileConfig._compile_all_devices` is set, which transformers calls often not optimal there. Both are
measured and named for what they are. `max_cache_len` keeps the cache's size over all prompts, so that
nothing is compiled twice.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import CompileConfig, GenerationConfig

from bitdraft.backends.base import EngineSetup
from bitdraft.backends.transformers import TransformersEngine, _generation_defaults
from bitdraft.config import DecodingConfig
from bitdraft.schema.records import Generation


class _WithStaticCache:
    """Stands for a model towards the `transformers` backend and adds a static cache to what it asks for."""

    def __init__(self, model: Any, capacity: int, compiled: bool) -> None:
        self._model, self._capacity, self._compiled = model, capacity, compiled
        self.device: torch.device = model.device
        self.generation_config: GenerationConfig = model.generation_config

    def generate(self, tokens: torch.Tensor, **settings: Any) -> torch.Tensor:
        config = copy.deepcopy(self.generation_config)
        config.cache_implementation = "static"
        config.max_cache_len = self._capacity
        config.disable_compile = not self._compiled
        if self._compiled:
            config.compile_config = CompileConfig()
            config.compile_config._compile_all_devices = True
        with _generation_defaults(self._model, config):
            found: torch.Tensor = self._model.generate(tokens, **settings)
        return found


def static_generate(
    model: Any, capacity: int, *, compiled: bool
) -> Callable[[Sequence[int], DecodingConfig], Generation]:
    """`capacity`: tokens of the longest text to come."""
    return TransformersEngine(EngineSetup(_WithStaticCache(model, capacity, compiled))).generate
