"""Clocks, peak memory and energy of this process.

Times are `time.perf_counter()` seconds taken when token ids have reached the host, so the device
is synchronised by the transfer itself and nowhere else.
"""

from __future__ import annotations

import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import torch

now = time.perf_counter


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class PhaseClock:
    """Divides a device's time among named phases. On CUDA by events in its stream, which need no
    synchronisation while the work runs; elsewhere by the host's clock."""

    def __init__(self, device: torch.device) -> None:
        self._on_cuda = device.type == "cuda"
        self._marks: list[tuple[str, Any]] = []

    def mark(self, phase: str) -> None:
        """The time since the last mark belongs to `phase`; the first mark starts the clock."""
        if self._on_cuda:
            event: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            self._marks.append((phase, event))
        else:
            self._marks.append((phase, now()))

    def seconds(self) -> dict[str, float]:
        if self._on_cuda and self._marks:
            self._marks[-1][1].synchronize()
        totals: dict[str, float] = {}
        for (_, before), (phase, after) in pairwise(self._marks):
            spent = before.elapsed_time(after) / 1000 if self._on_cuda else after - before
            totals[phase] = totals.get(phase, 0.0) + spent
        return totals


def peak_resident_bytes() -> int:
    """Peak resident set of this process since it began to run its program.

    Not `ru_maxrss` on Linux: a child inherits there what its parent held when it forked.
    """
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    memory = psutil.Process().memory_info()
    if sys.platform == "win32":
        return int(memory.peak_wset)
    import resource

    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def peak_memory_bytes(device: torch.device) -> dict[str, int]:
    """CUDA: the allocator's peaks as `peak_vram` and `reserved_vram`; every device: `peak_ram`."""
    peaks = {"peak_ram": peak_resident_bytes()}
    if device.type == "cuda":
        peaks["peak_vram"] = torch.cuda.max_memory_allocated(device)
        peaks["reserved_vram"] = torch.cuda.max_memory_reserved(device)
        in_use = _process_vram_bytes(device)
        if in_use is not None:
            peaks["process_vram"] = in_use
    return peaks


def _nvml_handle(device: torch.device) -> tuple[Any, Any] | None:
    """NVML and this device's handle by its UUID; None without the nvidia extra or the driver."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        return pynvml, pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except pynvml.NVMLError:
        return None


def _process_vram_bytes(device: torch.device) -> int | None:
    nvml = _nvml_handle(device)
    if nvml is None:
        return None
    library, handle = nvml
    try:
        processes = library.nvmlDeviceGetComputeRunningProcesses(handle)
    except library.NVMLError:
        return None
    own = [p.usedGpuMemory for p in processes if p.pid == psutil.Process().pid and p.usedGpuMemory]
    return int(own[0]) if own else None


def energy_joules(device: torch.device) -> float | None:
    """The device's energy counter, J: NVML for CUDA, RAPL packages for the CPU; None without one."""
    if device.type == "cuda":
        nvml = _nvml_handle(device)
        if nvml is None:
            return None
        library, handle = nvml
        try:
            return float(library.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
        except library.NVMLError:
            return None
    if device.type != "cpu":
        return None
    try:
        packages = Path("/sys/class/powercap").glob("intel-rapl:?")
        counters = [int((package / "energy_uj").read_text()) for package in packages]
    except (OSError, ValueError):
        return None
    return sum(counters) / 1e6 if counters else None
