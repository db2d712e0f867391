"""Energy counters."""

from __future__ import annotations

from pathlib import Path

import torch

from bitdraft.probes.nvml import nvml_handle


def energy_joules(device: torch.device) -> float | None:
    """The device's energy counter, J: NVML for CUDA, RAPL packages for the CPU; None without one."""
    if device.type == "cuda":
        nvml = nvml_handle(device)
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
