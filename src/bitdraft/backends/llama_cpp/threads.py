"""A pool of ggml's threads that stays. Without one, ggml sets one up and takes it down around every forward;
its own tools attach theirs, which `llama-cpp-python` doesn't bind. A build that hasn't these functions goes
without.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any

_MOST_THREADS = 512  # ggml.h: GGML_MAX_N_THREADS


class _Parameters(ctypes.Structure):
    """ggml.h: `ggml_threadpool_params`."""

    _fields_ = (
        ("cpumask", ctypes.c_bool * _MOST_THREADS),
        ("n_threads", ctypes.c_int),
        ("prio", ctypes.c_int),
        ("poll", ctypes.c_uint32),
        ("strict_cpu", ctypes.c_bool),
        ("paused", ctypes.c_bool),
    )


def attach_pool(llama_cpp: Any, context: Any, num_threads: int) -> None:
    """Let a context compute with the pool of so many threads, which all contexts share."""
    pool = _pool(str(Path(llama_cpp.__file__).parent), num_threads)
    attach = _function(llama_cpp.llama_cpp._lib, "llama_attach_threadpool")
    if pool and attach is not None:
        attach.argtypes = (ctypes.c_void_p,) * 3
        attach(context, pool, pool)


@functools.cache
def _pool(folder: str, num_threads: int) -> int | None:
    try:
        base, cpu = (ctypes.CDLL(str(_shared(folder, name))) for name in ("ggml-base", "ggml-cpu"))
    except OSError:
        return None
    default, make = _function(base, "ggml_threadpool_params_default"), _function(cpu, "ggml_threadpool_new")
    if default is None or make is None:
        return None
    default.restype, default.argtypes = _Parameters, (ctypes.c_int,)
    make.restype, make.argtypes = ctypes.c_void_p, (ctypes.POINTER(_Parameters),)
    parameters = default(num_threads)
    if parameters.n_threads != num_threads:  # another layout than is known here
        return None
    found: int | None = make(ctypes.byref(parameters))
    return found


def _shared(folder: str, name: str) -> Path:
    """The library that is loaded already, in whatever file it lies on this system."""
    patterns = (f"lib{name}.so", f"lib{name}.dylib", f"{name}.dll")
    found = [path for pattern in patterns for path in Path(folder).rglob(pattern)]
    return found[0] if found else Path(folder) / patterns[0]


def _function(library: Any, name: str) -> Any:
    try:
        found = getattr(library, name)
    except AttributeError:
        return None
    found.restype = None
    return found
