"""The GGUF file of a checkpoint in a format: the checkpoint itself, one that was named, or one that is made.

What is made is kept below the cache folder, by the checkpoint's content, and found there the next time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from bitdraft import formats
from bitdraft.config import ModelConfig
from bitdraft.config.cache import cache_folder
from bitdraft.errors import UserError
from bitdraft.formats.gguf import OTHER, WIDEST, GgufFormat
from bitdraft.inputs.checkpoints import Checkpoint, content_id
from bitdraft.inputs.gguf.header import GgufHeader, read_header
from bitdraft.inputs.gguf.library import last_errors, library
from bitdraft.inputs.gguf.writer import unwritable_reason, write_gguf
from bitdraft.inputs.weight_files import weight_files


def gguf_of(checkpoint: Checkpoint, name: str, config: ModelConfig) -> Path:
    """The file of this format, which is made where there is none. Raises `UserError` where llama.cpp makes
    none; what is impossible is known before (`unmakeable_reason`)."""
    wanted = formats.find(name)
    assert isinstance(wanted, GgufFormat)
    found, header = named_header(checkpoint, name), checkpoint.header
    if found is not None:
        return found.files[0]
    folder = cache_folder() / "gguf" / content_id(checkpoint)

    def write(path: Path) -> None:
        write_gguf(checkpoint.folder, weight_files(checkpoint.folder, config, "model"), path)

    wide = header.files[0] if header else _made(folder / f"{WIDEST.name}.gguf", write)
    if wanted is WIDEST and header is None:
        return wide
    return _made(folder / f"{name}.gguf", lambda path: _quantise(wide, path, wanted, config))


def named_header(checkpoint: Checkpoint, name: str) -> GgufHeader | None:
    """Of the file that is there in this format; None where one is to be made."""
    named, header = dict(checkpoint.files).get(name), checkpoint.header
    if named is None and header is not None and name in (header.format.name, OTHER.name):
        return header
    return named


def unmakeable_reason(checkpoint: Checkpoint, name: str) -> str | None:
    """Why no file of this format can be made of a checkpoint; None where one is there, or can be made."""
    wanted, header = formats.find(name), checkpoint.header
    assert isinstance(wanted, GgufFormat)
    if named_header(checkpoint, name) is not None:
        return None
    if wanted is OTHER:
        return "is a format of files that are named alone"
    if header is not None and not header.format.is_float:
        return f"cannot be made of a file that is {header.format.name} already"
    if header is None:
        reason = unwritable_reason(checkpoint.folder)
        if reason is not None:
            return reason
    if wanted.needs_importance:
        return "needs an importance matrix"
    return None


def _made(path: Path, make: Callable[[Path], None]) -> Path:
    """Made once, whoever asks at the same time; half a file is never found, and a damaged one made anew."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not _is_whole(path):
            half = path.with_suffix(".part")
            make(half)
            half.replace(path)
    return path


def _is_whole(path: Path) -> bool:
    try:
        return path.exists() and bool(read_header(path, path.name, "gguf").tensors)
    except UserError:
        return False


def _quantise(source: Path, path: Path, wanted: GgufFormat, config: ModelConfig) -> None:
    llama_cpp = library(config.model)
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = wanted.file_type
    parameters.nthread = config.threads or 0
    if llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(path), parameters) != 0:
        path.unlink(missing_ok=True)
        problem = f"llama.cpp cannot make it of {source.name} ({last_errors()})"
        raise UserError("precisions", wanted.name, problem, "Choose another format")


def widened(path: Path, folder: Path) -> Path:
    """The same weights in fp32, what was rounded staying so: for a control that rounds no more."""
    llama_cpp = library()
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype, parameters.allow_requantize = WIDEST.file_type, True
    found = folder / f"{path.stem}-widened.gguf"
    if llama_cpp.llama_model_quantize(os.fsencode(path), os.fsencode(found), parameters) != 0:
        problem = f"cannot be widened ({last_errors()})"
        raise UserError("precision", path.stem, problem, "Do without a control")
    return found
