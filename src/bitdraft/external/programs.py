"""Where the programs of engines are."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from bitdraft.config import SpecDecodeConfig
from bitdraft.config.backends import LLAMA_SERVER
from bitdraft.errors import UserError

LLAMA_SERVER_VARIABLE, VLLM_VARIABLE = "BITDRAFT_LLAMA_SERVER", "BITDRAFT_VLLM_PYTHON"


def find_program(config: SpecDecodeConfig) -> Path:
    """Of a configuration's backend. Raises `UserError` where there is none."""
    is_llama = config.backend == LLAMA_SERVER
    variable = LLAMA_SERVER_VARIABLE if is_llama else VLLM_VARIABLE
    named = config.engine_program or os.environ.get(variable)
    if named:
        path = shutil.which(str(Path(named).expanduser()))
        if path is None:
            field = "engine_program" if config.engine_program else variable
            raise UserError(field, named, "is no program", f"Name one, or set {variable}")
        return Path(path)
    found = shutil.which("llama-server") if is_llama else _python_of_vllm()
    if found is None:
        what = "no llama-server is on PATH" if is_llama else "no vLLM is installed here, or on PATH"
        shown = "the program" if is_llama else "the Python that has it"
        remedy = f"Name {shown}: --engine-program PATH, or {variable} in the environment"
        raise UserError("backend", config.backend, what, remedy)
    return Path(found)


def _python_of_vllm() -> str | None:
    """This one, or that beside the `vllm` on PATH."""
    if find_spec("vllm") is not None:
        return sys.executable
    script = shutil.which("vllm")
    beside = Path(script).resolve().with_name("python") if script else None
    return str(beside) if beside is not None and beside.exists() else None
