"""What the numbers were measured on: hardware, versions, and the device's measured ceilings."""

from __future__ import annotations

import platform
import statistics
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers

import bitdraft
from bitdraft.config import Precision
from bitdraft.precisions import DTYPES
from bitdraft.timing import now, synchronize

_MIN_SECONDS = 0.2


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


def median_seconds(run: Callable[[], object], device: torch.device) -> float:
    """Median time of a call after a warm-up: at least five calls and 0.2 s, or one that takes as long."""
    times: list[float] = []
    for index in range(1000):
        synchronize(device)
        start = now()
        run()
        synchronize(device)
        if index >= 1:
            times.append(now() - start)
        if sum(times) >= _MIN_SECONDS and (len(times) >= 5 or max(times) >= _MIN_SECONDS):
            break
    return statistics.median(times)


def measure_ceilings(device: torch.device, precisions: tuple[Precision, ...]) -> dict[str, Any]:
    """Copy bandwidth (bytes read + written) and read bandwidth in GB/s (10⁹), and for each precision
    the rate of a square matrix product (the second transposed, as a linear layer's weight) in TFLOP/s."""
    num_floats = 2**26
    if device.type == "cuda":
        # both buffers together take a quarter of the free memory at most
        num_floats = min(2**30, torch.cuda.mem_get_info(device)[0] // 32)
    copy_s, read_s = _stream_seconds(num_floats, device)
    num_bytes = 4 * num_floats
    size = 8192 if device.type == "cuda" else 1024
    rates: dict[str, float] = {}
    for precision in precisions:
        left = torch.randn(size, size, device=device).to(DTYPES[precision])
        seconds = median_seconds(lambda left=left: left @ left.t(), device)  # type: ignore[misc]
        rates[precision] = round(2 * size**3 / seconds / 1e12, 4)
    return {
        "copy_gb_s": round(2 * num_bytes / copy_s / 1e9, 2),
        "read_gb_s": round(num_bytes / read_s / 1e9, 2),
        "matmul_tflop_s": rates,
    }


def _stream_seconds(num_floats: int, device: torch.device) -> tuple[float, float]:
    """Seconds to copy and to sum `num_floats` float32 numbers."""
    source = torch.ones(num_floats, device=device)
    target = torch.empty_like(source)
    return median_seconds(lambda: target.copy_(source), device), median_seconds(source.sum, device)


def calibration_s(device: torch.device) -> float:
    """Seconds of fixed work, a few ms: thirty products that all threads share, one after another.

    The same each time unless something else slows the machine down, threads that wait for one
    another included. Small enough not to move peak memory.
    """
    matrix = torch.full((256, 256), 1 / 256, device=device)
    synchronize(device)
    start = now()
    for _ in range(30):
        matrix = matrix @ matrix
    synchronize(device)
    return now() - start
