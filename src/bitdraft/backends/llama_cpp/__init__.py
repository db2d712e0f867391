"""llama.cpp as a token model: its forwards and its cache, our loops."""

from __future__ import annotations

from bitdraft.backends.llama_cpp.model import LlamaModel
from bitdraft.backends.llama_cpp.rows import LlamaRows
from bitdraft.backends.llama_cpp.token_model import LlamaRunner

__all__ = ["LlamaModel", "LlamaRows", "LlamaRunner"]
