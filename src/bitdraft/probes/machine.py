"""This machine by its description, without any library that computes."""

from __future__ import annotations

import platform
from pathlib import Path

import psutil

MachineRecord = dict[str, str | int | None]


def cpu_name() -> str:
    """As the system calls it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def describe_machine() -> MachineRecord:
    """What a machine is known by: nothing tells two equal ones apart."""
    return {
        "cpu": cpu_name(),
        "num_cores": psutil.cpu_count(logical=False) or psutil.cpu_count(),
        "ram_gb": round(psutil.virtual_memory().total / 2**30),
        "system": platform.system(),
    }
