"""Load a variant with the backend that runs its format, and the token model over what was loaded."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bitdraft import formats
from bitdraft.backends.llama_cpp import LlamaModel, LlamaRunner
from bitdraft.config import ModelConfig
from bitdraft.engine.runner import Runner
from bitdraft.engine.token_model import TokenModel
from bitdraft.engine.vocabulary import DraftVocabulary
from bitdraft.errors import UserError
from bitdraft.formats.gguf import LLAMA_CPP
from bitdraft.formats.kv_cache import WIDEST as WIDEST_KV
from bitdraft.formats.stored import ORIGINAL
from bitdraft.inputs import models
from bitdraft.inputs.gguf.files import gguf_of, widened
from bitdraft.inputs.gguf.header import read_header
from bitdraft.inputs.models import LoadedModel
from bitdraft.inputs.variants import Variant, original_variant
from bitdraft.probes.container import available_bytes


def load_model(variant: Variant, device: torch.device, config: ModelConfig) -> LoadedModel:
    """For inference. Raises `UserError` for a format that the checkpoint, the device or what is installed
    doesn't allow."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if variant.format is ORIGINAL:
        return _load_original(variant, device, config)
    return _BY_BACKEND.get(variant.format.backend, models.load_model)(variant, device, config)


def _load_original(variant: Variant, device: torch.device, config: ModelConfig) -> LoadedModel:
    """The checkpoint that quality is compared with, in its own numbers."""
    own = config.model_copy(update={"model": getattr(config, "original", None), "gguf": ()})
    loaded = load_model(original_variant(own), device, own)
    return replace(loaded, variant=variant)


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


def wider_model(model: Any, variant: Variant, device: torch.device, config: ModelConfig) -> Any:
    """The model of a variant again, with the same numbers but wider products: in the wider dtype of its
    format; of a GGUF model its weights as they were rounded, in fp32, over a cache in fp32. Raises
    `UserError`."""
    if isinstance(model, LlamaModel):
        _refuse_too_large(variant)
        with tempfile.TemporaryDirectory() as folder:
            path = widened(model.path, Path(folder))
            settings = config.model_copy(update={"kv_cache": WIDEST_KV, "flash_attention": "off"})
            # what is loaded stays mapped when the file's name is gone
            return LlamaModel(read_header(path, path.name, "model"), device, settings)
    widest = formats.default_reference(formats.USUAL)
    wide = load_model(Variant(variant.checkpoint, widest), device, config).model
    return wide.to(getattr(torch, variant.format.wider))


def _refuse_too_large(variant: Variant) -> None:
    num_bytes = 4 * sum(variant.checkpoint.stored_dtypes.values())
    if 2 * num_bytes > available_bytes():
        problem = f"its weights in fp32 would take {num_bytes / 2**30:.1f} GiB"
        raise UserError("precision", variant.name, problem, "Do without a control")


def token_model(model: Any, vocabulary: DraftVocabulary | None = None) -> TokenModel:
    """Over a model that `load_model` has loaded; of a draft in its target's vocabulary, where that is
    given."""
    if isinstance(model, LlamaModel):
        return LlamaRunner(model, vocabulary)
    return Runner(model, vocabulary)
