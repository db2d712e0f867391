"""NVIDIA's management library, where it is installed."""

from __future__ import annotations

from typing import Any

import torch


def nvml_handle(device: torch.device) -> tuple[Any, Any] | None:
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
