"""Load a checkpoint in a format on a device, or draw a shape's weights, and count what there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.initialization import no_init_weights
from transformers.utils import logging as transformers_logging

from bitdraft import formats
from bitdraft.config import ModelConfig
from bitdraft.errors import Unsupported, UserError, one_line
from bitdraft.formats import dtype as dtype_family
from bitdraft.formats import stored as stored_family
from bitdraft.formats import torchao as torchao_family
from bitdraft.inputs.checkpoints import Checkpoint
from bitdraft.inputs.files import AGAIN
from bitdraft.inputs.quantised import num_bytes, num_elements, quantise, quiet, unsupported_reason
from bitdraft.inputs.variants import Variant

WEIGHT_STD = 0.02

_MOST_TIMES_STORED = 2  # a tied embedding is stored once, and missing weights are named one by one

_NUM_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
_EXPERTS_A_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts")

NOISE_LENGTH = 1_048_573  # a prime, so that no two rows of a matrix begin at the same place of the noise


@dataclass(frozen=True)
class LoadedModel:
    """A model in inference mode. Bytes and parameters count tied weights once.

    `streamed_bytes` are the weights that one decode step of one token reads: all but an untied input
    embedding, of which it reads a row, and of a mixture of experts those that one token takes; None where
    that isn't known. Of an `is_sparse` model several tokens read more, and how much depends on them.
    """

    model: Any
    variant: Variant
    device: torch.device
    num_parameters: int
    weight_bytes: int
    streamed_bytes: int | None
    is_sparse: bool = False
    tensor_types: dict[str, dict[str, int]] | None = None

    @property
    def bits_per_weight(self) -> float:
        """Of all there is, embeddings and norms included."""
        return 8 * self.weight_bytes / self.num_parameters


def torch_dtype(name: str) -> torch.dtype:
    """What a format's products are computed in."""
    found: torch.dtype = getattr(torch, formats.find(name).torch_dtype)
    return found


def resolve_device(name: str) -> torch.device:
    """`auto` is the first of CUDA, MPS and CPU that is there; a missing device is a `UserError`."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda:0")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            remedy = "Choose auto, cpu" + (f" or cuda:0 to cuda:{count - 1}" if count else "")
            raise UserError("device", name, f"this machine has {count} usable CUDA devices", remedy)
        return torch.device("cuda", device.index or 0)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("device", name, "this machine has no usable Metal device", "Choose auto or cpu")
    return device


def load_model(variant: Variant, device: torch.device, config: ModelConfig) -> LoadedModel:
    """For inference, as the format's family loads it."""
    transformers_logging.disable_progress_bar()
    return _LOADERS[variant.format.family](variant, device, config)


def _load_dtype(variant: Variant, device: torch.device, config: ModelConfig) -> LoadedModel:
    """Every floating-point parameter is verified to have the format's dtype."""
    dtype, checkpoint = torch_dtype(variant.name), variant.checkpoint
    make = _draw if checkpoint.random_weights else _read
    model = make(checkpoint, dtype, device, config).eval().requires_grad_(False)
    wrong = {p.dtype for p in model.parameters() if p.is_floating_point() and p.dtype != dtype}
    assert not wrong, f"parameters loaded as {wrong}, not {dtype}"
    return _counted(model, variant, device)


def _load_quantised(variant: Variant, device: torch.device, config: ModelConfig) -> LoadedModel:
    """Read in the dtype that is left of it, then quantised. Raises `Unsupported`."""
    reason = unsupported_reason(variant.format, device)
    if reason is not None:
        raise Unsupported(reason)
    plain = next(name for name in formats.USUAL if torch_dtype(name) == torch_dtype(variant.name))
    loaded = _load_dtype(Variant(variant.checkpoint, plain), device, config)
    quantise(loaded.model, variant.format)
    return _counted(loaded.model, variant, device)


def _load_stored(variant: Variant, device: torch.device, config: ModelConfig) -> LoadedModel:
    """As it is, by what transformers has for its method. Raises `Unsupported`."""
    checkpoint = variant.checkpoint
    if checkpoint.quantised_by in stored_family.NEEDS_GPU and device.type != "cuda":
        raise Unsupported(
            f"{checkpoint.quantised_by} has products on a GPU alone: here it would become bfloat16"
        )
    try:
        with quiet():
            model, found = AutoModelForCausalLM.from_pretrained(
                checkpoint.folder,
                dtype="auto",
                device_map={"": device},
                trust_remote_code=config.trust_remote_code,
                local_files_only=True,
                output_loading_info=True,
            )
    except (ImportError, NotImplementedError, ValueError) as error:
        raise Unsupported(f"transformers does not load it here ({one_line(error)})") from error
    _refuse_gaps(checkpoint, found | {"mismatched_keys": ()})
    loaded = _counted(model.eval().requires_grad_(False), variant, device)
    # a packed weight stands for several: they are counted where there is one for each
    outline = _empty(checkpoint, config, torch.device("meta"))
    return replace(loaded, num_parameters=int(outline.num_parameters()))


def _counted(model: Any, variant: Variant, device: torch.device) -> LoadedModel:
    parameters = list(model.parameters())
    weight_bytes = sum(map(num_bytes, parameters)) + _packed_bytes(model)
    idle = _idle_expert_bytes(model)
    return LoadedModel(
        model=model,
        variant=variant,
        device=device,
        num_parameters=sum(map(num_elements, parameters)),
        weight_bytes=weight_bytes,
        streamed_bytes=None if idle is None else weight_bytes - _unread_embedding_bytes(model) - idle,
        is_sparse=idle != 0,
    )


def _packed_bytes(model: Any) -> int:
    """Of weights that a method keeps as buffers beside the parameters."""
    return sum(
        buffer.numel() * buffer.element_size()
        for module in model.modules()
        if hasattr(module, "qweight")
        for buffer in module.buffers(recurse=False)
    )


_LOADERS: dict[str, Callable[[Variant, torch.device, ModelConfig], LoadedModel]] = {
    dtype_family.FAMILY: _load_dtype,
    torchao_family.FAMILY: _load_quantised,
    stored_family.FAMILY: _load_stored,
}


def _read(checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device, config: ModelConfig) -> Any:
    _check_outline(checkpoint, config)
    model, found = AutoModelForCausalLM.from_pretrained(
        checkpoint.folder,
        dtype=dtype,
        use_safetensors=None if config.allow_pickle else True,
        trust_remote_code=config.trust_remote_code,
        local_files_only=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # reported, and refused just below
    )
    _refuse_gaps(checkpoint, found)
    return model.to(device)


def _draw(checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device, config: ModelConfig) -> Any:
    """A model of the shape with weights drawn from the seed: the same ones, rounded, at every precision
    and on every device."""
    _check_outline(checkpoint, config)
    model = _empty(checkpoint, config, device, dtype)
    model.tie_weights()  # left out with the initialisation
    _fill(model, dtype, device, config.seed)
    return model


def _empty(
    checkpoint: Checkpoint, config: ModelConfig, device: torch.device, dtype: torch.dtype | None = None
) -> Any:
    """A model as config.json says, its weights being whatever is in memory."""
    trusted = config.trust_remote_code
    shape = AutoConfig.from_pretrained(checkpoint.folder, trust_remote_code=trusted, local_files_only=True)
    with quiet(), no_init_weights(), device:  # transformers imports torchao here
        return AutoModelForCausalLM.from_config(shape, dtype=dtype, trust_remote_code=trusted)


def _check_outline(checkpoint: Checkpoint, config: ModelConfig) -> None:
    """Build the model without memory for weights, so that a configuration that makes none, or one far larger
    than what is stored, is found before anything is loaded."""
    problem = ""
    try:
        outline = _empty(checkpoint, config, torch.device("meta"))
    except Exception as error:
        problem = f"no model can be built by its config.json ({type(error).__name__}: {one_line(error)})"
    else:
        num_asked, num_stored = outline.num_parameters(), sum(checkpoint.stored_dtypes.values())
        if 0 < _MOST_TIMES_STORED * num_stored < num_asked:
            problem = f"its config.json asks for {num_asked} parameters, its files hold {num_stored}"
    if problem:
        raise UserError("model", checkpoint.name, problem, "Correct config.json, or install what it needs")


@torch.no_grad()
def _fill(model: Any, dtype: torch.dtype, device: torch.device, seed: int) -> None:
    """Each matrix from a stretch of normal noise, repeated: copying is several times as fast as drawing.
    Biases are zero and norms one."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            parameter.fill_(0 if name.endswith("bias") else 1)
            continue
        flat = parameter.view(-1)
        drawn = torch.randn(min(len(flat), NOISE_LENGTH), generator=generator)
        noise = (WEIGHT_STD * drawn).to(device, dtype)
        num_whole, num_left = divmod(len(flat), len(noise))
        flat[num_left:].view(num_whole, -1).copy_(noise)
        flat[:num_left] = noise[len(noise) - num_left :]


def _refuse_gaps(checkpoint: Checkpoint, found: dict[str, Any]) -> None:
    """transformers fills a weight that is missing or of another shape with random numbers."""
    missing = sorted(found["missing_keys"])
    misshapen = sorted(str(entry[0]) for entry in found["mismatched_keys"])
    for names, what in ((missing, "is missing"), (misshapen, "has another shape than config.json says")):
        if names:
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            raise UserError("model", checkpoint.name, f"weight {names[0]}{more} {what}", AGAIN)


def _unread_embedding_bytes(model: Any) -> int:
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if embedding is None or (head is not None and head.weight is embedding.weight):
        return 0
    return num_bytes(embedding.weight)


def _idle_expert_bytes(model: Any) -> int | None:
    """Of the experts that one token does not take; 0 without any, None where it isn't known how many those
    are. An expert is a module of its own, or a slice of a tensor that holds all of them."""
    text = model.config.get_text_config()
    total = next((n for n in (getattr(text, key, None) for key in _NUM_EXPERTS) if n), 0)
    taken = next((n for n in (getattr(text, key, None) for key in _EXPERTS_A_TOKEN) if n), None)
    own = [p for name, p in model.named_parameters() if ".experts." in name]
    if not own:
        return None if total and total > 1 else 0
    if not total or taken is None:
        return None
    all_bytes = sum(map(num_bytes, own))
    return all_bytes * (int(total) - min(int(taken), int(total))) // int(total)
