"""Peak memory of this process, a phase at a time."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from pathlib import Path

import psutil
import torch

from bitdraft.probes.nvml import nvml_handle


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


def begin_phase(device: torch.device) -> bool:
    """Give back what is free, and forget the peaks so far, so that what follows has its own. Whether that is
    possible here."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    return forget_peaks(device)


def forget_peaks(device: torch.device) -> bool:
    """Elsewhere than on Linux a process's resident peak is that of its whole life (proc(5))."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _process_vram_bytes(device: torch.device) -> int | None:
    nvml = nvml_handle(device)
    if nvml is None:
        return None
    library, handle = nvml
    try:
        processes = library.nvmlDeviceGetComputeRunningProcesses(handle)
    except library.NVMLError:
        return None
    own = [p.usedGpuMemory for p in processes if p.pid == psutil.Process().pid and p.usedGpuMemory]
    return int(own[0]) if own else None
