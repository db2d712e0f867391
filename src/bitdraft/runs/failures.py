"""What went wrong with a cell, told apart from what its process raised, or from how the system ended it."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path

from bitdraft.probes.container import memory_limit_bytes
from bitdraft.runs.cell import Failure
from bitdraft.schema.records import Status

_NEARLY_ALL = 0.85
"""Of the memory there is: a process that was killed above it was most likely killed for it."""


def classify(error: BaseException) -> Status:
    """`oom`, `unsupported`, `overflow` or `failed`, from what torch and the engine raise."""
    text = str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "oom"
    if "can't allocate memory" in text or "not enough memory" in text:
        return "oom"
    if isinstance(error, NotImplementedError) or "not implemented for" in text:
        return "unsupported"
    return "overflow" if type(error).__name__.startswith("NonFinite") else "failed"


def num_oom_kills() -> int | None:
    """How many processes of this control group the kernel has killed for lack of memory so far (cgroup v2's
    `memory.events`); None where it doesn't count."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        own = Path("/proc/self/cgroup").read_text().split("::", 1)[1].strip()
        for folder in (Path("/sys/fs/cgroup") / own.lstrip("/"), Path("/sys/fs/cgroup")):
            events = folder / "memory.events"
            if events.exists():
                counts = dict(line.split() for line in events.read_text().splitlines())
                return int(counts["oom_kill"])
    return None


def ended_by(returncode: int, detail: str, *, oom_kills: int, peak_bytes: int) -> Failure | None:
    """Why a process ended with this code; None where it ended well.

    A SIGKILL is called out of memory only where the kernel counted one (`oom_kills` more than before), or
    where the process was last seen with nearly all of the memory.
    """
    if returncode == 0:
        return None
    if returncode == -signal.SIGKILL:
        if oom_kills > 0:
            return Failure("oom", "killed by the kernel for lack of memory", detail)
        if peak_bytes > _NEARLY_ALL * memory_limit_bytes():
            gib = peak_bytes / 2**30
            return Failure(
                "oom", f"killed (SIGKILL) while it held {gib:.1f} GiB, nearly all there is", detail
            )
        return Failure("failed", "killed (SIGKILL)", detail)
    how = f"exit code {returncode}"
    if returncode < 0:
        with contextlib.suppress(ValueError):
            how = signal.Signals(-returncode).name
    last = detail.strip().splitlines()[-1:] or [""]
    return Failure("failed", f"the process ended with {how}. {last[0]}".strip(), detail)
