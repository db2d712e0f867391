"""Engines that people deploy, run for a sweep: each configuration a process of its own, whose settings are
fixed at its start. No torch here: it is theirs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

from bitdraft.config.backends import LLAMA_SERVER, VLLM
from bitdraft.external.base import EngineDied, EngineProcess, EngineSetup
from bitdraft.external.llama_server import OWN_ARGUMENTS as _OF_LLAMA_SERVER
from bitdraft.external.llama_server import llama_server
from bitdraft.external.vllm import OWN_ARGUMENTS as _OF_VLLM
from bitdraft.external.vllm import vllm

START: dict[str, Callable[[EngineSetup], AbstractContextManager[EngineProcess]]] = {
    LLAMA_SERVER: llama_server,
    VLLM: vllm,
}
"""By backend: a context manager that starts an engine, and ends it"""
OWN_ARGUMENTS: Mapping[str, Sequence[str]] = {LLAMA_SERVER: _OF_LLAMA_SERVER, VLLM: _OF_VLLM}
"""By backend, what a sweep sets itself"""

__all__ = ["OWN_ARGUMENTS", "START", "EngineDied", "EngineProcess", "EngineSetup"]
