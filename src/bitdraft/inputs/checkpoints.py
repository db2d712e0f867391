"""From a model name to a checkpoint folder that is known to be readable, without loading weights.

A name is `demo/NAME` (embedded), a local folder, or a hub id; with random weights, a shape. Only
safetensors are accepted unless pickle is allowed: unpickling runs code that the file brings.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from bitdraft.config import ModelConfig
from bitdraft.config.model import gguf_tag, is_gguf
from bitdraft.errors import UserError
from bitdraft.formats.gguf import OTHER
from bitdraft.inputs.architectures import Architecture, read_settings, recognise
from bitdraft.inputs.gguf.header import GgufHeader, read_header
from bitdraft.inputs.hub import Snapshot, download, download_gguf
from bitdraft.inputs.shapes import SHAPES, find_shape
from bitdraft.inputs.weight_files import StoredWeights, read_headers, weight_files
from bitdraft.schema.environment import ModelRecord

DEMO_FOLDER = Path(__file__).parents[1] / "demo"

DEMO_MODELS = ("target", "draft-medium", "draft-small")

DEFAULT_CONTEXT = 2048
MOST_LAYERS = 10_000

_CONTENT = (
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "*.bin",
    *("tok*.json", "vocab*", "merges.txt", "*.model", "*.tiktoken", "*.jinja", "*.py"),
)


RANDOM = " (random weights)"
_UNTOLD = ("folder", "name", "rope_switch", "rope_always_changes", "header", "files")


@dataclass(frozen=True)
class Checkpoint:
    """A readable checkpoint. `stored_dtypes` counts elements by the dtype they are stored in; with
    random weights nothing is stored. A GGUF file has a `header`, and `folder` is the file; `files` are those
    that were named for formats of any checkpoint. One that is `quantised_by` a method has no other format."""

    name: str
    folder: Path
    revision: str | None
    architecture: str
    context_tokens: int | None
    vocab_size: int
    stored_dtypes: dict[str, int]
    stored_bytes: int
    random_weights: bool = False
    rope_switch: int | None = None
    rope_always_changes: bool = False
    quantised_by: str = ""
    num_layers: int | None = None
    header: GgufHeader | None = None
    files: tuple[tuple[str, GgufHeader], ...] = ()

    @property
    def stored_dtype(self) -> str:
        """The dtype that most elements are stored in; `unknown` for pickles, `none` without a file. Of a GGUF
        file its format."""
        if self.random_weights:
            return "none"
        if self.header is not None:
            return self.header.format.name
        if not self.stored_dtypes:
            return "unknown"
        return max(self.stored_dtypes, key=lambda name: self.stored_dtypes[name])

    @property
    def context(self) -> int:
        """Tokens that fit, also where the configuration doesn't say."""
        return self.context_tokens or DEFAULT_CONTEXT

    @property
    def label(self) -> str:
        """A folder is called by its own name, whatever lies above it."""
        asked = self.name.removesuffix(RANDOM)
        if self.header is not None:
            return self.folder.name if Path(asked).expanduser().exists() else asked
        is_folder = not asked.startswith("demo/") and Path(asked).expanduser().is_dir()
        own = self.folder.resolve().name if is_folder else asked
        return f"{own}{RANDOM}" if self.random_weights else own

    def record(self) -> ModelRecord:
        """What a result says of it, without the folder's place on this machine; `content` tells it from
        others of the same name."""
        own = {one.name for one in fields(self)} - {*_UNTOLD}
        kept = {key: getattr(self, key) for key in own}
        if self.header is not None:
            kept["bits_per_weight"] = round(self.header.bits_per_weight, 4)
            kept["tensor_types"] = self.header.kinds_by_tensor
        return ModelRecord(**kept, name=self.label, content=content_id(self), stored_dtype=self.stored_dtype)

    def settings_here(self) -> dict[str, object]:
        """What a configuration says of it where its process needs no hub: places of files."""
        files = tuple(f"{name}={header.files[0]}" for name, header in self.files)
        return {"model": str(self.folder), "gguf": files}

    @property
    def files_content(self) -> dict[str, str]:
        """Hashes of the files that were named for formats."""
        return {name: _content_of(header.files, header.architecture) for name, header in self.files}


def content_id(checkpoint: Checkpoint) -> str:
    """A hash of all that a checkpoint holds; with random weights, of the shape. The hub's cache names large
    files by their hashes, so that those need no reading; a local folder is read at a gigabyte or two a
    second."""
    if checkpoint.header is not None:
        return _content_of(checkpoint.header.files, checkpoint.architecture)
    patterns = ("config.json",) if checkpoint.random_weights else _CONTENT
    found = {path for pattern in patterns for path in checkpoint.folder.glob(pattern) if path.is_file()}
    return _content_of(sorted(found), checkpoint.architecture)


def _content_of(files: Sequence[Path], architecture: str) -> str:
    digest = hashlib.sha256(architecture.encode())
    for path in files:
        digest.update(f"{path.name} {_sha256(path)}".encode())
    return digest.hexdigest()[:32]


def _sha256(path: Path) -> str:
    named = path.resolve().name
    if path.is_symlink() and re.fullmatch(r"[0-9a-f]{64}", named):
        return named
    state = path.stat()
    return _sha256_of(path.resolve(), state.st_size, state.st_mtime_ns)


@functools.cache
def _sha256_of(path: Path, _size: int, _mtime_ns: int) -> str:
    """Read once a process as long as the file stays as it is: every stage of a search asks for it."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def find_checkpoint(config: ModelConfig, field: str = "model") -> Checkpoint:
    """Resolve and check; raises `UserError` with what is wrong and what to do."""
    found = _find_gguf(config, field) if is_gguf(config.model) else _find_whole(config, field)
    files = tuple((name, _find_file(name, config)) for name in config.gguf_formats)
    return replace(found, files=files) if files else found


def _find_gguf(config: ModelConfig, field: str) -> Checkpoint:
    name = config.model
    if config.random_weights:
        raise UserError(field, name, "is a GGUF file, which has weights of its own", "Name a shape")
    path = Path(name).expanduser()
    is_local = path.exists() or (gguf_tag(name) is None and name.count("/") != 2)
    found = Snapshot(path, "") if is_local else download_gguf(config, field)
    if not found.folder.is_file():
        problem = "is a folder" if found.folder.is_dir() else "no such file"
        remedy = "Name an existing GGUF file, hub/repo/FILE.gguf or hub/repo:Q4_K_M"
        raise UserError(field, name, problem, remedy)
    if is_local and config.revision is not None:
        _refuse_revision(config, "a file")
    header = read_header(found.folder, name, field)
    return Checkpoint(
        name=name,
        folder=found.folder,
        revision=found.revision or None,
        architecture=header.architecture,
        context_tokens=header.context_tokens,
        vocab_size=header.vocab_size,
        num_layers=header.num_layers,
        stored_dtypes=header.elements_by_kind,
        stored_bytes=sum(file.stat().st_size for file in header.files),
        header=header,
    )


def _find_file(name: str, config: ModelConfig) -> GgufHeader:
    """Of a file that was named for a format, which it must have."""
    file = config.gguf_file(name) or ""
    own = config.model_copy(update={"model": file, "gguf": (), "random_weights": False, "revision": None})
    header = _find_gguf(own, "gguf").header
    assert header is not None
    if name not in (header.format.name, OTHER.name):
        problem = f"is {header.format.name}, not {name}"
        raise UserError("gguf", file, problem, f"Name it as {header.format.name}={Path(file).name}")
    return header


def _find_whole(config: ModelConfig, field: str) -> Checkpoint:
    """A folder of transformers' layout, or a shape."""
    shape = config.random_weights
    found = Snapshot(find_shape(config, field), "") if shape else _find_folder(config, field)
    settings = read_settings(found.folder, config, field)
    kind = recognise(found.folder, settings, config, field)
    stored = StoredWeights() if shape else _check_weights(found, config, field, kind)
    _check_layers(kind, stored, config, field)
    if shape and not settings.get("vocab_size"):
        raise UserError(field, config.model, "its config.json names no vocab_size", "Add it there")
    return Checkpoint(
        name=f"{config.model}{RANDOM}" if shape else config.model,
        folder=found.folder,
        revision=found.revision or None,
        architecture=kind.name,
        context_tokens=kind.context_tokens,
        vocab_size=kind.vocab_size,
        stored_dtypes=stored.by_dtype,
        stored_bytes=stored.num_bytes,
        random_weights=shape,
        rope_switch=kind.rope_switch,
        rope_always_changes=kind.at_every_length,
        quantised_by=kind.quantised_by,
        num_layers=kind.num_layers,
    )


def _find_folder(config: ModelConfig, field: str) -> Snapshot:
    name = config.model
    embedded = embedded_folder(name, field)
    if embedded is not None:
        return _own_folder(embedded, config)
    path = Path(name).expanduser()
    if path.is_dir():
        return _own_folder(path, config)
    if path.exists():
        remedy = "Name the folder that holds config.json and the weights"
        raise UserError(field, name, "is a file", remedy)
    if name.startswith((".", "/", "~")) or (name.count("/") != 1 and "/" in name) or os.sep == "\\" in name:
        raise UserError(field, name, "no such folder", "Name an existing checkpoint folder or a hub id")
    if name in SHAPES:
        remedy = f"Add --random-weights, or name EleutherAI/{name}"
        raise UserError(field, name, "is a shape without weights", remedy)
    return download(config, field)


def embedded_folder(name: str, field: str) -> Path | None:
    """Of `demo/NAME`; None of another name. Raises `UserError` for one that isn't embedded."""
    if not name.startswith("demo/"):
        return None
    own = name.removeprefix("demo/")
    if own not in DEMO_MODELS:
        known = ", ".join(f"demo/{demo}" for demo in DEMO_MODELS)
        raise UserError(field, name, "no such embedded model", f"Choose from {known}")
    return DEMO_FOLDER / own


def _own_folder(path: Path, config: ModelConfig) -> Snapshot:
    if config.revision is not None:
        _refuse_revision(config, "a folder")
    return Snapshot(path, "")


def _refuse_revision(config: ModelConfig, what: str) -> None:
    problem = f"means nothing for {config.model}, which is {what} and no repository of the hub"
    raise UserError("revision", config.revision, problem, "Leave it out")


def _check_layers(kind: Architecture, stored: StoredWeights, config: ModelConfig, field: str) -> None:
    """So many that building them would not end are a slip."""
    most = stored.num_tensors or MOST_LAYERS
    if kind.num_layers is not None and not 1 <= kind.num_layers <= most:
        held = f", its files hold {stored.num_tensors} weights" if stored.num_tensors else ""
        problem = f"its config.json says {kind.num_layers} layers{held}"
        raise UserError(field, config.model, problem, "Correct num_hidden_layers")


def _check_weights(found: Snapshot, config: ModelConfig, field: str, kind: Architecture) -> StoredWeights:
    """Of what is cached only in part, what there is and what isn't."""
    try:
        files = weight_files(found.folder, config, field)
    except UserError as error:
        if found.offline is None:
            raise
        problem = f"is cached only in part ({error.problem}), and the hub cannot be reached ({found.offline})"
        remedy = f"Fetch it where there is a network: hf download {config.model}"
        raise UserError(field, config.model, problem, remedy) from error
    return read_headers(files, config.model, field, any_dtype=bool(kind.quantised_by))
