"""What a sweep asks of an engine in a process of its own, and what that is made of."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from bitdraft.config import SpecDecodeConfig
from bitdraft.errors import BitdraftError
from bitdraft.schema.records import Generation


class EngineDied(BitdraftError, RuntimeError):
    """An engine that didn't start, or that ended; the message has the last lines of its log."""


@dataclass(frozen=True)
class EngineSetup:
    """`target` and `draft` are files or folders of checkpoints, as the engine takes them; `program` is what
    runs them, `context` the longest text to come, in tokens, `folder` where its log is, `name` what that is
    called."""

    name: str
    program: Path
    target: Path
    draft: Path | None
    k: int
    context: int
    config: SpecDecodeConfig
    folder: Path


class EngineProcess(Protocol):
    """A running engine, which takes one request at a time."""

    version: str

    def awake(self) -> AbstractContextManager[None]:
        """Within, it may be asked; between, it takes no time from others."""
        ...

    def generate(self, prompt: Sequence[int], max_new_tokens: int, seed: int) -> Generation:
        """Continue a prompt, as `decode` of our own engines does. Raises `EngineDied`."""
        ...

    def next_log_probs(self, text: Sequence[int], num: int) -> dict[int, float]:
        """Log-probabilities of the most probable next tokens, by id, in nats."""
        ...

    def peak_bytes(self) -> int | None:
        """The peak resident memory of its processes together; None where the system doesn't tell."""
        ...


def tree_of(pid: int) -> list[psutil.Process]:
    """A process and all that it has started, as far as they run."""
    try:
        own = psutil.Process(pid)
        return [own, *own.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def peak_of_tree(pid: int) -> int | None:
    """`VmHWM` of a process and of all that it has started, in bytes (proc(5)). What they share is counted
    for each."""
    total = 0
    for one in tree_of(pid):
        with contextlib.suppress(OSError, IndexError, ValueError):
            for line in Path(f"/proc/{one.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    total += int(line.split()[1]) * 1024
    return total or None
