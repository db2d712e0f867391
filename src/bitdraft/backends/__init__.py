"""What decodes: `BACKENDS` makes (prompt ids, DecodingConfig) → Generation from a model, `speculation` a
decoder with drafts from a target and its draft models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bitdraft.backends.native import Native, NativeSpeculation
from bitdraft.backends.transformers import TransformersSpeculation, transformers
from bitdraft.config import BackendName, DecodingConfig, Execution, SamplingConfig
from bitdraft.schema.records import Generation

Backend = Callable[[Sequence[int], DecodingConfig], Generation]

BACKENDS: dict[BackendName, Callable[[Any], Backend]] = {"native": Native, "transformers": transformers}

Speculation = NativeSpeculation | TransformersSpeculation


def speculation(  # noqa: PLR0917
    backend: BackendName,
    target: Any,
    drafts: Mapping[str, Any | None],
    vocab_size: int,
    sampling: SamplingConfig,
    execution: Execution = "auto",
    capacity: int = 0,
) -> Speculation:
    """transformers runs models in its own way, whatever the execution."""
    if backend == "transformers":
        return TransformersSpeculation(target, drafts, vocab_size, sampling)
    return NativeSpeculation(target, drafts, vocab_size, sampling, execution=execution, capacity=capacity)
