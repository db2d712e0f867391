"""What of the machine this process may use: the processors it is bound to, and its control groups' limits."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

import psutil

from bitdraft.schema.environment import Environment
from bitdraft.schema.findings import Finding, warning

CGROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def control_groups(root: Path = CGROUPS, own: Path = _OWN) -> Iterator[Path]:
    """The folders of this process's control groups that set limits, the innermost first: each of version 2's
    hierarchy, which all hold, and the controllers of version 1."""
    with contextlib.suppress(OSError, ValueError):
        for line in own.read_text().splitlines():
            _, names, place = line.split(":", 2)
            if names == "":
                inner = root / place.lstrip("/")
                yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(root))
            else:
                for name in names.split(","):
                    yield root / name / place.lstrip("/")
                    yield root / name


def _number(path: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text())
    return None


def cpu_quota(root: Path = CGROUPS, own: Path = _OWN) -> float | None:
    """How many processors' time the control groups allow; None without a limit."""
    found = []
    for folder in control_groups(root, own):
        with contextlib.suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text().split()
            if quota != "max":
                found.append(int(quota) / int(period))
        quota_us, period_us = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        if quota_us is not None and quota_us > 0 and period_us:
            found.append(quota_us / period_us)
    return min(found, default=None)


def usable_cpus() -> float:
    """Processors that this process may run on, or fewer where a quota allows the time of fewer."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return bound if quota is None else min(bound, quota)


def memory_limit_bytes(root: Path = CGROUPS, own: Path = _OWN) -> int:
    """What this process may use: the machine's memory, or a control group's limit where that is less."""
    limits = [int(psutil.virtual_memory().total)]
    for folder in control_groups(root, own):
        for name in ("memory.max", "memory.limit_in_bytes"):
            found = _number(folder / name)
            if found is not None:
                limits.append(found)
    return min(limits)


def available_bytes() -> int:
    """What is free for this process now: of the machine, and below its control groups' limits."""
    free = [int(psutil.virtual_memory().available)]
    for folder in control_groups():
        for limit, used in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            most, now = _number(folder / limit), _number(folder / used)
            if most is not None and now is not None:
                # what only caches files gives way
                free.append(max(most - now + _file_cache(folder), 0))
    return min(free)


def _file_cache(folder: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        found = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return int(found.get("inactive_file", 0))
    return 0


def crowding_of(environment: Environment, asked: int | None = None) -> tuple[Finding, ...]:
    """A warning where models are run with more threads (torch's own number, or what was `asked`) than there
    are processors for them: they wait for each other, and speeds are those of the waiting."""
    threads, cpus = asked or environment.num_threads, environment.usable_cpus
    if not threads or not cpus or threads <= math.ceil(cpus):
        return ()
    return (warning("run.threads", n=threads, cpus=cpus),)
