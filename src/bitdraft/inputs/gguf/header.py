"""What a GGUF file says of itself, read with the `gguf` package without loading weights."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitdraft.errors import UserError, one_line
from bitdraft.formats import gguf as gguf_family
from bitdraft.formats.gguf import GgufFormat
from bitdraft.inputs.files import AGAIN, refuse_stand_ins

INSTALL = "pip install 'bitdraft[llama-cpp]'"
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)
_MAGIC = b"GGUF"


@dataclass(frozen=True)
class Tensor:
    """`kind` is its type there: F32, Q8_0, Q4_K."""

    name: str
    kind: str
    num_elements: int
    num_bytes: int


@dataclass(frozen=True)
class GgufHeader:
    """A model in a file, or in the parts of a split one. `context_tokens` are those it was trained with."""

    files: tuple[Path, ...]
    architecture: str
    file_type: int | None
    context_tokens: int | None
    num_layers: int | None
    vocab_size: int
    num_experts: int
    num_experts_used: int
    tensors: tuple[Tensor, ...]

    @property
    def format(self) -> GgufFormat:
        """By what the file calls its mixture of tensor types."""
        return gguf_family.of_file_type(self.file_type)

    @property
    def num_parameters(self) -> int:
        return sum(tensor.num_elements for tensor in self.tensors)

    @property
    def weight_bytes(self) -> int:
        return sum(tensor.num_bytes for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Over all tensors, as llama.cpp counts it."""
        return 8 * self.weight_bytes / self.num_parameters

    @property
    def streamed_bytes(self) -> int | None:
        """Of the weights that a step of one token reads: no untied input embedding, and of experts those that
        a token takes; None where it isn't said how many those are."""
        names = {tensor.name for tensor in self.tensors}
        unread = "token_embd.weight" if "output.weight" in names else ""
        experts = sum(tensor.num_bytes for tensor in self.tensors if "_exps." in tensor.name)
        if experts and not 0 < self.num_experts_used <= self.num_experts:
            return None
        idle = experts * (self.num_experts - self.num_experts_used) // self.num_experts if experts else 0
        return sum(tensor.num_bytes for tensor in self.tensors if tensor.name != unread) - idle

    @property
    def is_sparse(self) -> bool:
        """Whether a token takes some experts of many."""
        return any("_exps." in tensor.name for tensor in self.tensors)

    @property
    def elements_by_kind(self) -> dict[str, int]:
        """How many weights are of each type."""
        found: Counter[str] = Counter()
        for tensor in self.tensors:
            found[tensor.kind] += tensor.num_elements
        return dict(found)

    @property
    def kinds_by_tensor(self) -> dict[str, dict[str, int]]:
        """Of tensors of one name over all layers, how many are of which type: {"blk.*.ffn_down.weight":
        {"Q4_K": 12, "Q6_K": 12}}."""
        found: dict[str, Counter[str]] = {}
        for tensor in self.tensors:
            name = re.sub(r"\.\d+\.", ".*.", tensor.name)
            found.setdefault(name, Counter())[tensor.kind] += 1
        return {name: dict(counts) for name, counts in found.items()}


def read_header(path: Path, name: str, field: str) -> GgufHeader:
    """Raises `UserError` for what is no whole GGUF file of a language model."""
    files = _parts(path, name, field)
    refuse_stand_ins([*files], name, field)
    state = tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    return _read(state, name, field)


def _parts(path: Path, name: str, field: str) -> list[Path]:
    """All parts of a split file, of which the first is named."""
    part = _PART.search(path.name)
    if part is None:
        return [path]
    stem, total = path.name[: part.start()], int(part[2])
    if int(part[1]) != 1:
        first = f"{stem}-00001-of-{total:05d}.gguf"
        raise UserError(field, name, f"is part {int(part[1])} of {total}", f"Name the first part, {first}")
    files = [path.with_name(f"{stem}-{number:05d}-of-{total:05d}.gguf") for number in range(1, total + 1)]
    missing = [file.name for file in files if not file.exists()]
    if missing:
        raise UserError(field, name, f"its part {missing[0]} is missing", AGAIN)
    return files


@functools.cache
def _read(state: tuple[tuple[str, int, int], ...], name: str, field: str) -> GgufHeader:
    try:
        import gguf
    except ImportError as error:
        problem = "is a GGUF file, which needs llama.cpp"
        raise UserError(field, name, problem, INSTALL) from error
    files = tuple(Path(file) for file, _, _ in state)
    problem = ""
    for file in files:
        with file.open("rb") as handle:
            if handle.read(len(_MAGIC)) != _MAGIC:
                raise UserError(field, name, f"{file.name} is no GGUF file", AGAIN)
    try:
        readers = [gguf.GGUFReader(file) for file in files]
        values = {key: _value(field) for key, field in readers[0].fields.items()}
        header = _header(files, values, [one for reader in readers for one in _tensors(reader)])
    except Exception as error:  # the reader trusts every number that it reads
        why = f"{type(error).__name__}: {one_line(error)}"
        problem = f"cannot be read as a whole GGUF file: it ends early, or is damaged ({why})"
    if problem:
        raise UserError(field, name, problem, AGAIN)
    _refuse_others(header, values, name, field)
    return header


def _value(field: Any) -> Any:
    """Of long lists, which are the tokens, the length alone."""
    from gguf import GGUFValueType

    if field.types and field.types[0] == GGUFValueType.ARRAY:
        return len(field.data)
    return field.contents()


def _tensors(reader: Any) -> Iterator[Tensor]:
    for one in reader.tensors:
        yield Tensor(one.name, one.tensor_type.name, int(one.n_elements), int(one.n_bytes))


def _header(files: tuple[Path, ...], values: dict[str, Any], tensors: list[Tensor]) -> GgufHeader:
    architecture = str(values.get("general.architecture", ""))

    def number(key: str) -> int | None:
        found = values.get(f"{architecture}.{key}")
        return int(found) if isinstance(found, int) else None

    file_type = values.get("general.file_type")
    return GgufHeader(
        files=files,
        architecture=architecture,
        file_type=int(file_type) if file_type is not None else None,
        context_tokens=number("context_length"),
        num_layers=number("block_count"),
        vocab_size=int(values.get("tokenizer.ggml.tokens") or number("vocab_size") or 0),
        num_experts=number("expert_count") or 0,
        num_experts_used=number("expert_used_count") or 0,
        tensors=tuple(tensors),
    )


def _refuse_others(header: GgufHeader, values: dict[str, Any], name: str, field: str) -> None:
    kind = str(values.get("general.type", "model"))
    if kind != "model":
        problem, remedy = f"holds no model but {kind!r} (general.type)", "Name the model's file"
    elif not header.tensors:
        problem, remedy = "holds no weights", "Name the model's own file"
    elif header.architecture == "clip":
        problem, remedy = "is a vision projector, not a language model", "Name the model's file"
    else:
        return
    raise UserError(field, name, problem, remedy)
