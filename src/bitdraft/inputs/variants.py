"""A checkpoint in a format: what a row is of, and what both say before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from bitdraft import formats
from bitdraft.formats.base import Format
from bitdraft.inputs.checkpoints import Checkpoint


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
        num_weights = sum(self.checkpoint.stored_dtypes.values())
        return self.format.weight_bytes(num_weights) if num_weights else None
