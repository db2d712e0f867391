"""Linear layers of a loaded model in fewer bits: by torchao, or bitsandbytes' nf4."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from bitdraft import formats
from bitdraft.errors import Unsupported, one_line
from bitdraft.formats.base import Format
from bitdraft.formats.torchao import GROUP_SIZE

FP8_CAPABILITY = (8, 9)
INT4_CAPABILITY = (8, 0)


def unsupported_reason(wanted: Format, device: torch.device) -> str | None:
    """Why a device has no products of this format; None where it has."""
    kind = device.type
    if wanted.name == "int4" and (kind != "cuda" or _capability(device) < INT4_CAPABILITY):
        return "torchao's int4 needs a CUDA GPU of compute capability 8.0; on a CPU use Q4_K_M or Q4_0"
    if wanted.name == "fp8" and (kind != "cuda" or _capability(device) < FP8_CAPABILITY):
        return "fp8 products need a CUDA GPU of compute capability 8.9"
    if kind == "mps":
        return f"{wanted.package} has no products on this device"
    return None


def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


def quantise(model: Any, wanted: Format) -> None:
    """Replace the weights of its linear layers, in place. Raises `Unsupported` where the package doesn't do
    it on the model's device."""
    reason = unsupported_reason(wanted, model.device)
    if reason is not None:
        raise Unsupported(reason)
    try:
        with quiet():
            (_to_nf4 if wanted.name == "nf4" else _by_torchao)(model, wanted)
    except (AssertionError, ImportError, NotImplementedError, RuntimeError, ValueError) as error:
        raise Unsupported(f"{wanted.package} does not make it here ({one_line(error)})") from error


def quantise_as(model: Any, name: str) -> None:
    """The same by the format's name."""
    quantise(model, formats.find(name))


def _by_torchao(model: Any, wanted: Format) -> None:
    from torchao import quantization

    makers: dict[str, Any] = {
        "int8": quantization.Int8WeightOnlyConfig,
        "int8-dynamic": quantization.Int8DynamicActivationInt8WeightConfig,
        "int4": lambda: quantization.Int4WeightOnlyConfig(
            group_size=GROUP_SIZE, int4_packing_format="tile_packed_to_4d"
        ),
        "fp8": lambda: quantization.Float8DynamicActivationFloat8WeightConfig(
            granularity=quantization.PerRow()
        ),
    }
    quantization.quantize_(model, makers[wanted.name]())


def _to_nf4(model: Any, _: Format) -> None:
    import bitsandbytes

    for parent in [*model.modules()]:
        for name, layer in [*parent.named_children()]:
            if type(layer) is torch.nn.Linear and layer is not model.get_output_embeddings():
                own = bitsandbytes.nn.LinearNF4(
                    layer.in_features,
                    layer.out_features,
                    bias=layer.bias is not None,
                    compute_dtype=layer.weight.dtype,
                    device="meta",
                )
                own.weight = bitsandbytes.nn.Params4bit(
                    layer.weight.data.cpu(), requires_grad=False, quant_type="nf4", module=own
                )
                own.bias = layer.bias
                setattr(parent, name, own.to(model.device))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the packages' remarks on what they lack."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def num_bytes(weight: torch.Tensor) -> int:
    """What a weight takes in memory: of one that is made of several tensors theirs."""
    state = getattr(weight, "quant_state", None)
    if state is not None:  # bitsandbytes
        inner = [own for own in (state.absmax, state.code) if isinstance(own, torch.Tensor)]
        return sum(own.nbytes for own in (weight.data, *inner))
    if not hasattr(weight, "__tensor_flatten__"):
        return weight.numel() * weight.element_size()
    names, _ = weight.__tensor_flatten__()
    return sum(num_bytes(getattr(weight, name)) for name in names)


def num_elements(weight: torch.Tensor) -> int:
    """How many numbers a weight stands for."""
    state = getattr(weight, "quant_state", None)
    return weight.numel() if state is None else int(torch.Size(state.shape).numel())


def has_plain_linears(model: Any) -> bool:
    """Whether the weights of all linear layers are tensors and nothing else."""
    layers = (module for module in model.modules() if isinstance(module, torch.nn.Linear))
    return all(type(getattr(layer, "weight", None)) in (torch.Tensor, torch.nn.Parameter) for layer in layers)
