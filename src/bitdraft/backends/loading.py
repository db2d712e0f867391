"""Load a variant with the backend that runs its format, and the token model over what was loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from bitdraft.backends.llama_cpp import LlamaModel, LlamaRunner
from bitdraft.config import ModelConfig
from bitdraft.engine.runner import Runner
from bitdraft.engine.token_model import TokenModel
from bitdraft.engine.vocabulary import DraftVocabulary
from bitdraft.formats.gguf import LLAMA_CPP
from bitdraft.inputs import models
from bitdraft.inputs.gguf.files import gguf_of
from bitdraft.inputs.gguf.header import read_header
from bitdraft.inputs.models import LoadedModel
from bitdraft.inputs.variants import Variant


def load_model(variant: Variant, device: torch.device, config: ModelConfig) -> LoadedModel:
    """For inference. Raises `UserError` for a format that the checkpoint, the device or what is installed
    doesn't allow."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    return _BY_BACKEND.get(variant.format.backend, models.load_model)(variant, device, config)


def _load_gguf(variant: Variant, device: torch.device, config: ModelConfig) -> LoadedModel:
    path = gguf_of(variant.checkpoint, variant.name, config)
    header = read_header(path, variant.checkpoint.name, "model")
    return LoadedModel(
        model=LlamaModel(header, device, config),
        variant=variant,
        device=device,
        num_parameters=header.num_parameters,
        weight_bytes=header.weight_bytes,
        streamed_bytes=header.streamed_bytes,
        is_sparse=header.is_sparse,
        tensor_types=header.kinds_by_tensor,
    )


_BY_BACKEND: dict[str, Callable[[Variant, torch.device, ModelConfig], LoadedModel]] = {LLAMA_CPP: _load_gguf}


def token_model(model: Any, vocabulary: DraftVocabulary | None = None) -> TokenModel:
    """Over a model that `load_model` has loaded; of a draft in its target's vocabulary, where that is
    given."""
    if isinstance(model, LlamaModel):
        return LlamaRunner(model, vocabulary)
    return Runner(model, vocabulary)
