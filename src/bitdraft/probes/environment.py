"""What the numbers were measured on: hardware and versions."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers

import bitdraft


def describe(device: torch.device) -> dict[str, Any]:
    record: dict[str, Any] = {
        "time_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "bitdraft": bitdraft.__version__,
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "system": platform.platform(),
        "cpu": _cpu_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "num_cores": psutil.cpu_count(logical=False) or psutil.cpu_count(),
        "num_threads": torch.get_num_threads(),
        "ram_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "device": str(device),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        record["gpu"] = properties.name
        record["gpu_memory_gb"] = round(properties.total_memory / 2**30, 1)
        record["cuda"] = torch.version.cuda
        record["driver"] = _driver_version()
    return record


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


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
