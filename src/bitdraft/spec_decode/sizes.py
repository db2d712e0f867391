"""What loading a model showed of its size, as a `ModelRecord` has it."""

from __future__ import annotations

from typing import Any

from bitdraft.inputs.models import LoadedModel


def sizes_of(loaded: LoadedModel) -> dict[str, Any]:
    """Weights in numbers and bytes, and the format that they are in."""
    sizes = {name: getattr(loaded, name) for name in ("num_parameters", "weight_bytes", "streamed_bytes")}
    if loaded.is_sparse:
        sizes["streamed_bytes"] = None  # a verification takes more experts than a step of one token
    return sizes | {
        "precision": loaded.variant.name,
        "backend": loaded.variant.format.backend,
        "bits_per_weight": round(loaded.bits_per_weight, 4),
        "tensor_types": loaded.tensor_types,
    }
