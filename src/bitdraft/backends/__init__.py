"""What decodes. `BACKENDS` makes (prompt ids, DecodingConfig) → Generation from a model, `SPECULATION`
a decoder with drafts from a target and its draft models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bitdraft.backends.native import NativeSpeculation, native
from bitdraft.backends.transformers import TransformersSpeculation, transformers
from bitdraft.config import BackendName, DecodingConfig
from bitdraft.results import Generation

Backend = Callable[[Sequence[int], DecodingConfig], Generation]

BACKENDS: dict[BackendName, Callable[[Any], Backend]] = {"native": native, "transformers": transformers}

Speculation = NativeSpeculation | TransformersSpeculation
SPECULATION: dict[BackendName, type[Speculation]] = {
    "native": NativeSpeculation,
    "transformers": TransformersSpeculation,
}
