"""What runs a variant: bitdraft's own engine over models of torch or of llama.cpp, and transformers'
`generate`."""

from __future__ import annotations

from collections.abc import Callable

from bitdraft.backends.base import Engine, EngineSetup
from bitdraft.backends.loading import load_model, token_model, wider_model
from bitdraft.backends.native import NativeEngine
from bitdraft.backends.transformers import TransformersEngine

ENGINES: dict[str, Callable[[EngineSetup], Engine]] = {
    "native": NativeEngine,
    "transformers": TransformersEngine,
}


def make_engine(name: str, setup: EngineSetup) -> Engine:
    """The engine of this name (`BackendName`). Raises `UserError` for models that it cannot run."""
    return ENGINES[name](setup)


__all__ = ["ENGINES", "Engine", "EngineSetup", "load_model", "make_engine", "token_model", "wider_model"]
