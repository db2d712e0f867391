"""Tiny GGUF files, made of tiny models. Tests of them skip where llama.cpp is not installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bitdraft.config import ModelConfig
from bitdraft.inputs.checkpoints import find_checkpoint
from bitdraft.inputs.variants import Variant
from tiny import save_checkpoint, tiny_model

HAS_LLAMA_CPP = True
try:
    import gguf
    import llama_cpp
except ImportError:
    HAS_LLAMA_CPP = False
else:
    del gguf, llama_cpp
needs_llama_cpp = pytest.mark.skipif(not HAS_LLAMA_CPP, reason="needs llama-cpp-python and gguf")

CPU = torch.device("cpu")


def write_tiny(folder: Path, model: Any = None, name: str = "gguf-f32") -> Path:
    """A file in this format, by the way that users' files are made."""
    from bitdraft.inputs.gguf.files import gguf_of

    config = ModelConfig(model=str(save_checkpoint(folder, model or tiny_model())))
    made = gguf_of(find_checkpoint(config), name, config)
    path = folder / f"tiny-{name.removeprefix('gguf-')}.gguf"
    path.write_bytes(made.read_bytes())
    return path


def load_tiny(path: Path, name: str, **settings: Any) -> Any:
    """A model of a file."""
    from bitdraft.backends import load_model

    config = ModelConfig(model=str(path), **settings)
    return load_model(Variant(find_checkpoint(config), name), CPU, config).model
