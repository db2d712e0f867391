"""The native backend: bitdraft's own engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bitdraft.config import DecodingConfig
from bitdraft.engine.autoregressive import decode
from bitdraft.engine.cpu_kernels import lay_input_major
from bitdraft.engine.runner import Runner
from bitdraft.results import Generation


def end_of_sequence_ids(model: Any) -> frozenset[int]:
    """The token ids that end a text, from the model's generation config."""
    ids = model.generation_config.eos_token_id
    return frozenset([ids] if isinstance(ids, int) else ids or ())


def native(model: Any) -> Callable[[Sequence[int], DecodingConfig], Generation]:
    lay_input_major(model)
    runner, eos_ids = Runner(model), end_of_sequence_ids(model)

    def generate(prompt: Sequence[int], config: DecodingConfig) -> Generation:
        return decode(runner, prompt, config, eos_ids)

    return generate
