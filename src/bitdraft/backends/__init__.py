"""One callable each: (prompt ids, DecodingConfig) → Generation. `BACKENDS` makes one from a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bitdraft.backends.native import native
from bitdraft.backends.transformers import transformers
from bitdraft.config import BackendName, DecodingConfig
from bitdraft.results import Generation

Backend = Callable[[Sequence[int], DecodingConfig], Generation]

BACKENDS: dict[BackendName, Callable[[Any], Backend]] = {"native": native, "transformers": transformers}
