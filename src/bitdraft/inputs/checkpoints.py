"""From a model name to a checkpoint folder that is known to be readable, without loading weights.

A name is `demo/NAME` (embedded), a local folder, or a hub id; with random weights, a shape. Only
safetensors are accepted unless pickle is allowed: unpickling runs code that the file brings.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bitdraft.config import ModelConfig
from bitdraft.errors import UserError, one_line
from bitdraft.inputs.shapes import SHAPES, find_shape
from bitdraft.schema.environment import ModelRecord

DEMO_FOLDER = Path(__file__).parents[1] / "demo"

DEMO_MODELS = ("target", "draft-medium", "draft-small")

DEFAULT_CONTEXT = 2048

_CAUSAL_ENDINGS = ("ForCausalLM", "LMHeadModel")


_SIDE_FILES = ("*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja", "*.py")

_PICKLE_FILES = ("*.bin",)
_CONTENT = (
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    *_PICKLE_FILES,
    *("tok*.json", "vocab*", "merges.txt", "*.model", "*.tiktoken", "*.jinja", "*.py"),
)


RANDOM = " (random weights)"


@dataclass(frozen=True)
class Checkpoint:
    """A readable checkpoint. `stored_dtypes` counts elements by the dtype they are stored in; with
    random weights nothing is stored."""

    name: str
    folder: Path
    revision: str | None
    architecture: str
    context_tokens: int | None
    vocab_size: int
    stored_dtypes: dict[str, int]
    stored_bytes: int
    random_weights: bool = False

    @property
    def stored_dtype(self) -> str:
        """The dtype that most elements are stored in; `unknown` for pickles, `none` without a file."""
        if self.random_weights:
            return "none"
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
        is_folder = not asked.startswith("demo/") and Path(asked).expanduser().is_dir()
        own = self.folder.resolve().name if is_folder else asked
        return f"{own}{RANDOM}" if self.random_weights else own

    def record(self) -> ModelRecord:
        """What a result says of it, without the folder's place on this machine; `content` tells it from
        others of the same name."""
        kept = {key: value for key, value in asdict(self).items() if key not in ("folder", "name")}
        return ModelRecord(**kept, name=self.label, content=content_id(self), stored_dtype=self.stored_dtype)


def content_id(checkpoint: Checkpoint) -> str:
    """A hash of all that a checkpoint holds; with random weights, of the shape. The hub's cache names large
    files by their hashes, so that those need no reading; a local folder is read at a gigabyte or two a
    second."""
    digest = hashlib.sha256(checkpoint.architecture.encode())
    patterns = ("config.json",) if checkpoint.random_weights else _CONTENT
    files = sorted(
        {path for pattern in patterns for path in checkpoint.folder.glob(pattern) if path.is_file()}
    )
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
    shape = config.random_weights
    folder, revision = (find_shape(config, field), None) if shape else _find_folder(config, field)
    settings = _read_config(folder, config.model, field)
    architecture = _check_architecture(settings, config, field)
    dtypes, num_bytes = ({}, 0) if shape else _check_weights(folder, config, field)
    text_settings = settings.get("text_config") or settings
    if shape and not text_settings.get("vocab_size"):
        raise UserError(field, config.model, "its config.json names no vocab_size", "Add it there")
    return Checkpoint(
        name=f"{config.model}{RANDOM}" if shape else config.model,
        folder=folder,
        revision=revision,
        architecture=architecture,
        context_tokens=_context_tokens(text_settings),
        vocab_size=int(text_settings.get("vocab_size", 0)),
        stored_dtypes=dtypes,
        stored_bytes=num_bytes,
        random_weights=shape,
    )


def _find_folder(config: ModelConfig, field: str) -> tuple[Path, str | None]:
    name = config.model
    if name.startswith("demo/"):
        if name.removeprefix("demo/") not in DEMO_MODELS:
            known = ", ".join(f"demo/{demo}" for demo in DEMO_MODELS)
            raise UserError(field, name, "no such embedded model", f"Choose from {known}")
        return DEMO_FOLDER / name.removeprefix("demo/"), None
    path = Path(name).expanduser()
    if path.is_dir():
        return path, None
    if path.exists():
        raise UserError(field, name, "is a file", "Name the folder that holds config.json and the weights")
    if name.startswith((".", "/", "~")) or (name.count("/") != 1 and "/" in name) or os.sep == "\\" in name:
        raise UserError(field, name, "no such folder", "Name an existing checkpoint folder or a hub id")
    if name in SHAPES:
        remedy = f"Add --random-weights, or name EleutherAI/{name}"
        raise UserError(field, name, "is a shape without weights", remedy)
    return _download(config, field)


def _download(config: ModelConfig, field: str) -> tuple[Path, str | None]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name = config.model
    patterns = [*_SIDE_FILES, "*.safetensors", *(_PICKLE_FILES if config.allow_pickle else ())]
    try:
        folder = Path(snapshot_download(name, revision=config.revision, allow_patterns=patterns))
    except GatedRepoError as error:
        remedy = "Accept its terms on the hub and log in with: hf auth login"
        raise UserError(field, name, "is gated on the hub", remedy) from error
    except RevisionNotFoundError as error:
        raise UserError("revision", config.revision, f"{name} has no such revision", "Check it") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        remedy = "Check the spelling, log in for a private model, or use demo/target or a local folder"
        raise UserError(field, name, "no such model on the hub or folder here", remedy) from error
    except LocalEntryNotFoundError as error:
        remedy = "Check the network and HF_ENDPOINT, or use demo/target or a local folder"
        raise UserError(field, name, "the hub cannot be reached and nothing is cached", remedy) from error
    except OSError as error:
        remedy = "Try again: finished files are kept"
        raise UserError(field, name, f"download failed ({one_line(error)})", remedy) from error
    return folder, folder.name


def _read_config(folder: Path, name: str, field: str) -> dict[str, Any]:
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        remedy = "Name a folder saved by save_pretrained"
        raise UserError(field, name, "holds no config.json", remedy) from error
    except (OSError, ValueError) as error:
        remedy = "Download or save the checkpoint again"
        raise UserError(field, name, f"config.json cannot be read ({one_line(error)})", remedy) from error
    if not isinstance(settings, dict):
        raise UserError(field, name, "config.json is no object", "Download or save the checkpoint again")
    return settings


def _check_architecture(settings: dict[str, Any], config: ModelConfig, field: str) -> str:
    architectures = settings.get("architectures")
    architecture = str(architectures[0]) if architectures else _default_architecture(settings, config)
    if not architecture.endswith(_CAUSAL_ENDINGS):
        problem = f"is not a causal language model (its architecture is {architecture})"
        raise UserError(field, config.model, problem, "Choose a decoder-only model (…ForCausalLM)")
    if settings.get("auto_map") and "AutoModelForCausalLM" in settings["auto_map"]:
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

        if settings.get("model_type") not in CONFIG_MAPPING_NAMES and not config.trust_remote_code:
            remedy = "Read that code, then pass --trust-remote-code"
            raise UserError(field, config.model, "needs Python code from its checkpoint", remedy)
    return architecture


def _default_architecture(settings: dict[str, Any], config: ModelConfig) -> str:
    """Of a config.json that names none: what a shape's kind of model is built as."""
    if not config.random_weights:
        return "unknown"
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return str(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(settings.get("model_type"), "unknown"))


def _check_weights(folder: Path, config: ModelConfig, field: str) -> tuple[dict[str, int], int]:
    """Element counts by stored dtype and the weight files' bytes, from the headers alone."""
    from safetensors import SafetensorError, safe_open

    files = _weight_files(folder, config, field)
    counts: Counter[str] = Counter()
    for path in files:
        try:
            with safe_open(path, framework="numpy") as tensors:
                for key in tensors.keys():  # noqa: SIM118 - safe_open is no mapping
                    piece = tensors.get_slice(key)
                    num_elements = 1
                    for size in piece.get_shape():
                        num_elements *= size
                    dtype = piece.get_dtype()
                    counts[_stored_name(dtype)] += num_elements
        except (SafetensorError, OSError) as error:
            problem = f"{path.name} is truncated or corrupt ({one_line(error)})"
            raise UserError(field, config.model, problem, "Download or save the checkpoint again") from error
    return dict(counts), sum(path.stat().st_size for path in files)


def _stored_name(dtype: str) -> str:
    """`fp32` for safetensors' `F32`, `bf16` for `BF16`."""
    return f"fp{dtype[1:]}".lower() if dtype.startswith("F") else dtype.lower()


def _weight_files(folder: Path, config: ModelConfig, field: str) -> list[Path]:
    files = sorted(folder.glob("*.safetensors"))
    index = folder / "model.safetensors.index.json"
    if index.exists():
        try:
            named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError) as error:
            problem = f"{index.name} cannot be read"
            raise UserError(field, config.model, problem, "Download the checkpoint again") from error
        missing = sorted(named - {path.name for path in files})
        if missing:
            problem = f"weight file {missing[0]} is missing"
            raise UserError(field, config.model, problem, "Download the checkpoint again")
        return [folder / name for name in sorted(named)]
    if (folder / "model.safetensors").exists():
        return [folder / "model.safetensors"]
    if files:
        problem = f"has {files[0].name} but neither model.safetensors nor its index"
        raise UserError(field, config.model, problem, "Download the checkpoint again")
    has_pickle = any(path for pattern in _PICKLE_FILES for path in folder.glob(pattern))
    if has_pickle and config.allow_pickle:
        return []
    remedy = "Convert it to safetensors, or pass --allow-pickle if you trust its author"
    what = "has its weights as pickle only" if has_pickle else "has no safetensors weights"
    raise UserError(field, config.model, what, remedy)


def _context_tokens(settings: dict[str, Any]) -> int | None:
    for key in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        if isinstance(settings.get(key), int):
            return int(settings[key])
    return None
