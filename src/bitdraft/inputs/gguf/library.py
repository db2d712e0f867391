"""llama.cpp's library, by `llama-cpp-python`'s bindings of its C interface: found, quiet, and its models."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

from bitdraft.errors import UserError
from bitdraft.inputs.gguf.header import INSTALL

_last_lines: list[str] = []
_MOST_LINES = 6
_ERROR = 4  # ggml_log_level


def library(name: str = "llama.cpp", field: str = "model") -> Any:
    """The module `llama_cpp`. Raises `UserError` where it isn't installed."""
    try:
        return _library()
    except ImportError as error:
        raise UserError(field, name, "needs llama.cpp, which is not installed", INSTALL) from error


@functools.cache
def _library() -> Any:
    import llama_cpp

    llama_cpp.llama_log_set(_log(llama_cpp), ctypes.c_void_p())
    llama_cpp.llama_backend_init()
    return llama_cpp


@functools.cache
def _log(llama_cpp: Any) -> Any:
    """Nothing is written to the terminal; errors are kept for who meets them. Held for good: the library
    keeps a pointer to it."""

    def take(level: int, text: bytes, _: Any) -> None:
        if level >= _ERROR:
            line = text.decode(errors="replace").strip(" .\n")
            _last_lines[:] = [*_last_lines[1 - _MOST_LINES :], line]

    return llama_cpp.llama_log_callback(take)


def last_errors() -> str:
    """What the library last complained of, in a line."""
    found = "; ".join(line for line in _last_lines if line)
    _last_lines.clear()
    return found or "it doesn't say why"


def load(path: str, **settings: Any) -> Any:
    """A pointer to a model, which the caller frees. Raises `OSError` where the library refuses the file."""
    llama_cpp = _library()
    parameters = llama_cpp.llama_model_default_params()
    for name, value in settings.items():
        setattr(parameters, name, value)
    found = llama_cpp.llama_model_load_from_file(path.encode(), parameters)
    if not found:
        raise OSError(f"llama.cpp cannot load {path}: {last_errors()}")
    return found
