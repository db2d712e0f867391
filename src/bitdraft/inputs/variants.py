"""A checkpoint in a format: what a row is of, and what both say before anything is loaded."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from bitdraft import formats
from bitdraft.config import ModelConfig
from bitdraft.config.backends import LLAMA_SERVER, TRANSFORMERS, VLLM
from bitdraft.config.cache import refuse_unwritable_cache
from bitdraft.config.commands import flag_of
from bitdraft.errors import UserError, one_line
from bitdraft.formats import dtype as dtype_family
from bitdraft.formats import gguf as gguf_family
from bitdraft.formats import kv_cache
from bitdraft.formats import stored as stored_family
from bitdraft.formats.base import TORCH, Format
from bitdraft.inputs.checkpoints import Checkpoint, find_checkpoint
from bitdraft.inputs.files import ORIGINAL, read_object
from bitdraft.inputs.gguf.files import named_header, unmakeable_reason
from bitdraft.inputs.gguf.header import GgufHeader
from bitdraft.inputs.gguf.tokenizer import GgufTokenizer
from bitdraft.inputs.tokenizers import refuse_other_ids

MOST_PADDING = 0.5
"""Share of weights: embeddings that a file has tied or untied, or for ids that nothing uses"""


@dataclass(frozen=True)
class Variant:
    """`name` is the format's."""

    checkpoint: Checkpoint
    name: str

    @property
    def format(self) -> Format:
        """What the format answers."""
        return formats.find(self.name)

    @property
    def weight_bytes(self) -> int | None:
        """By the checkpoint's headers; None where there are none."""
        header = named_header(self.checkpoint, self.name)
        if header is not None:
            return header.weight_bytes
        num_weights = sum(self.checkpoint.stored_dtypes.values())
        return self.format.weight_bytes(num_weights) if num_weights else None


def check_variant(variant: Variant, field: str) -> None:
    """Raise `UserError` for a format that no device could run this checkpoint in: a package that is missing,
    or a file that isn't there and can't be made. Nothing is loaded."""
    wanted, checkpoint = variant.format, variant.checkpoint
    if wanted.package and not is_installed(wanted.package):
        remedy = f"pip install 'bitdraft[{wanted.extra}]'"
        raise UserError(field, variant.name, f"needs {wanted.package}, which is not installed", remedy)
    if wanted.family == gguf_family.FAMILY:
        reason = unmakeable_reason(checkpoint, variant.name)
        if reason is not None:
            remedy = f"Convert the model with llama.cpp's tools and name the file: --gguf {variant.name}=FILE"
            if wanted is gguf_family.OTHER:
                remedy = "Name the format, or a file: --gguf FILE"
            raise UserError(field, variant.name, reason, remedy)
        if named_header(checkpoint, variant.name) is None:
            refuse_unwritable_cache()
    elif wanted.family == stored_family.FAMILY:
        _check_stored(variant, field)
    elif checkpoint.quantised_by:
        how = f"is quantised already (by {checkpoint.quantised_by})"
        problem = f"{checkpoint.label} {how}: no other precision is left"
        remedy = f"Measure it as it is ({flag_of(field)} stored). {ORIGINAL}"
        raise UserError(field, variant.name, problem, remedy)
    elif checkpoint.header is not None:
        own = checkpoint.header.format.name
        problem = f"is no format of {checkpoint.label}, a GGUF file, which llama.cpp runs as {own}"
        raise UserError(field, variant.name, problem, f"Leave it out, or name the checkpoint of {own}")


def is_installed(package: str) -> bool:
    """Whether it can be imported."""
    return importlib.util.find_spec(package) is not None


def _check_stored(variant: Variant, field: str) -> None:
    """Of a checkpoint that is quantised already, by what loads it."""
    checkpoint = variant.checkpoint
    if variant.format is stored_family.ORIGINAL:
        return
    if not checkpoint.quantised_by:
        problem = f"is for checkpoints that are quantised already, which {checkpoint.label} is not"
        raise UserError(field, variant.name, problem, "Leave it out")
    reason = unloadable_reason(checkpoint)
    if reason is not None:
        raise UserError(field, variant.name, reason, "Install what it needs, or name the original")


def unloadable_reason(checkpoint: Checkpoint) -> str | None:
    """Why transformers can't load a quantised checkpoint here, by its method; None where it can."""
    from transformers.quantizers.auto import AutoHfQuantizer

    settings = read_object(checkpoint.folder / "config.json", checkpoint.name, "model")
    found = settings.get("quantization_config") or settings.get("compression_config")
    if not isinstance(found, dict):
        return f"its weights are quantised by {checkpoint.quantised_by} within a larger model"
    try:
        AutoHfQuantizer.from_config(found, pre_quantized=True).validate_environment(device_map={"": "cpu"})
    except Exception as error:  # of many kinds, each of them that something is missing
        return f"{checkpoint.label} is quantised by {checkpoint.quantised_by}: {one_line(error)}".rstrip(".")
    return None


def check_llama_cpps_settings(config: ModelConfig, names: Collection[str]) -> None:
    """Raise `UserError` for settings of llama.cpp where it runs none of these formats, for torch's where it
    runs none, and for files beside random weights."""
    if config.random_weights and config.gguf:
        problem = "holds weights, and these are random"
        raise UserError("gguf", config.gguf[0], problem, "Leave it out, or leave --random-weights out")
    is_llama_cpps = [formats.find(name).family == gguf_family.FAMILY for name in names]
    execution = getattr(config, "execution", "auto")
    if all(is_llama_cpps) and execution in ("static", "compiled"):
        problem = f"is a way of torch's, and llama.cpp runs {', '.join(dict.fromkeys(names))}"
        raise UserError("execution", execution, problem, "Leave it out")
    if any(is_llama_cpps):
        if config.flash_attention == "off" and config.kv_cache in kv_cache.QUANTISED:
            problem = f"a {config.kv_cache} cache needs flash attention in llama.cpp"
            raise UserError("flash_attention", "off", problem, "Leave one of the two out")
        return
    for field in ("kv_cache", "flash_attention"):
        value = getattr(config, field)
        if value != "auto":
            problem = f"is a setting of llama.cpp, which runs none of {', '.join(dict.fromkeys(names))}"
            raise UserError(field, value, problem, "Leave it out, or name a format of GGUF files")


def refuse_other_engines(backend: str, names: Collection[str]) -> None:
    """Raise `UserError` for formats that an engine of another library has no way to run."""
    for name in names:
        own = formats.find(name)
        if backend == LLAMA_SERVER and own.backend != gguf_family.LLAMA_CPP:
            problem, remedy = f"reads GGUF files, and {name} is none", "Name a format of GGUF files, as Q8_0"
            raise UserError("backend", backend, problem, remedy)
        if backend == VLLM and own.family not in (dtype_family.FAMILY, stored_family.FAMILY):
            raise UserError("backend", backend, f"runs no {name}", f"Use {', '.join(formats.USUAL)}")
        if backend == TRANSFORMERS and own.backend != TORCH:
            raise UserError("backend", backend, f"runs no {name}", "Use --backend native")


def draft_format(target: Variant, draft: Checkpoint, explicit: str | None) -> str:
    """The format that a draft is run in: what was asked for it; else of a GGUF file and of a checkpoint that
    is quantised already its own, and of any other the target's. That of a file whose name says nothing is
    what its header says."""
    if explicit is not None:
        return explicit
    if draft.header is not None:
        return draft.header.format.name
    if draft.quantised_by:
        return stored_family.STORED.name
    header = target.checkpoint.header
    return header.format.name if header is not None and target.name == gguf_family.OTHER.name else target.name


def original_variant(config: ModelConfig) -> Variant:
    """A checkpoint in the numbers that it is stored in. Raises `UserError`, also for one that is quantised
    itself."""
    checkpoint = find_checkpoint(config, "reference")
    name = checkpoint.stored_dtype if checkpoint.stored_dtype in formats.NAMES else formats.USUAL[0]
    check_variant(Variant(checkpoint, name), "reference")
    return Variant(checkpoint, name)


def check_ids(variant: Variant, tokenizer: Any, sample: str) -> None:
    """Raise `UserError` for a file that was named for a format and has other ids than the checkpoint."""
    header = dict(variant.checkpoint.files).get(variant.name)
    if header is None:
        return
    file = header.files[0]
    _refuse_another_model(variant.checkpoint, header)
    own = GgufTokenizer(file, file.name, "gguf")
    refuse_other_ids(own, tokenizer, sample, ("gguf", file.name), "Name a file of the same model")


def _refuse_another_model(checkpoint: Checkpoint, header: GgufHeader) -> None:
    """By layers and weights, of which a padded vocabulary may add some."""
    layers = checkpoint.num_layers
    weights = 0 if checkpoint.quantised_by else sum(checkpoint.stored_dtypes.values())
    is_other = layers is not None and header.num_layers is not None and layers != header.num_layers
    most = max(weights, header.num_parameters)
    if is_other or (weights and abs(weights - header.num_parameters) > MOST_PADDING * most):
        problem = (
            f"has {header.num_layers} layers and {header.num_parameters:,} weights, {checkpoint.label} "
            f"{layers} and {weights:,}: it is another model"
        )
        raise UserError("gguf", header.files[0].name, problem, "Name the file that was made of this model")
