"""A checkpoint in a format: what a row is of, and what both say before anything is loaded."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

from bitdraft import formats
from bitdraft.errors import UserError
from bitdraft.formats import gguf as gguf_family
from bitdraft.formats.base import Format
from bitdraft.inputs.checkpoints import Checkpoint
from bitdraft.inputs.gguf.files import named_header, unmakeable_reason
from bitdraft.inputs.gguf.tokenizer import GgufTokenizer
from bitdraft.inputs.tokenizers import draft_tokenizer_problem


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
            raise UserError(field, variant.name, reason, remedy)
    elif checkpoint.header is not None:
        own = checkpoint.header.format.name
        problem = f"is no format of {checkpoint.label}, a GGUF file, which llama.cpp runs as {own}"
        raise UserError(field, variant.name, problem, f"Leave it out, or name the checkpoint of {own}")


def is_installed(package: str) -> bool:
    """Whether it can be imported."""
    return importlib.util.find_spec(package) is not None


def own_format(checkpoint: Checkpoint, asked: str, explicit: str | None) -> str:
    """The format that a draft is run in: what was asked for it; else of a GGUF file its own, and of any other
    checkpoint the target's (`asked`)."""
    if explicit is not None or checkpoint.header is None:
        return explicit or asked
    return checkpoint.header.format.name


def check_ids(variant: Variant, tokenizer: Any, sample: str) -> None:
    """Raise `UserError` for a file that was named for a format and has other ids than the checkpoint."""
    header = dict(variant.checkpoint.files).get(variant.name)
    if header is None:
        return
    file = header.files[0]
    problem = draft_tokenizer_problem(GgufTokenizer(file, file.name, "gguf"), tokenizer, sample)
    if problem is not None:
        raise UserError(
            "gguf", file.name, problem.replace("target's", "model's"), "Name a file of the same model"
        )
