"""What the numbers were measured on: hardware and versions."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import psutil
import torch
import transformers

import bitdraft
from bitdraft.probes.container import memory_limit_bytes, usable_cpus
from bitdraft.probes.machine import cpu_name
from bitdraft.schema.environment import Environment


def describe(device: torch.device) -> Environment:
    """Hardware and versions as this process sees them; the ceilings are measured elsewhere."""
    found = Environment(
        time_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        bitdraft=bitdraft.__version__,
        git_commit=_git_commit(),
        python=platform.python_version(),
        torch=torch.__version__,
        transformers=transformers.__version__,
        llama_cpp_python=_version_of("llama-cpp-python"),
        torchao=_version_of("torchao"),
        system=platform.platform(),
        cpu=cpu_name(),
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
        num_cores=psutil.cpu_count(logical=False) or psutil.cpu_count(),
        num_threads=torch.get_num_threads(),
        usable_cpus=round(usable_cpus(), 2),
        ram_gb=round(psutil.virtual_memory().total / 2**30, 1),
        device=str(device),
    )
    limit = memory_limit_bytes()
    if limit < psutil.virtual_memory().total:
        found = found.model_copy(update={"memory_limit_gb": round(limit / 2**30, 1)})
    if device.type != "cuda":
        return found
    properties = torch.cuda.get_device_properties(device)
    own = {
        "gpu": properties.name,
        "gpu_memory_gb": round(properties.total_memory / 2**30, 1),
        "cuda": torch.version.cuda,
        "driver": _driver_version(),
    }
    return found.model_copy(update=own)


def _version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _output_of(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _git_commit() -> str | None:
    """The commit of the checkout that bitdraft runs from; None for an installed package."""
    root = Path(bitdraft.__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    return _output_of(["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"])


def _driver_version() -> str | None:
    return _output_of(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"])
