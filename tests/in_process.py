"""Cells in this process instead of their own: seconds less each, and open to patches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bitdraft.runs.executors.inline import Inline
from bitdraft.schema.environment import Ceilings


@contextmanager
def jobs_in_process() -> Iterator[pytest.MonkeyPatch]:
    """The machine's ceilings are made up: nothing here is about them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bitdraft.runs.conduct.make_executor", lambda _: Inline())
        for module in ("precision", "spec_decode"):
            patch.setattr(f"bitdraft.{module}.cells.measure_ceilings", lambda *_: Ceilings(copy_gb_s=10.0))
        yield patch


def full_after(num_writes: int, code: int = 28) -> Callable[[int], None]:
    """A stand-in for `os.fsync` on a disk that fills up."""
    left = [num_writes]

    def fsync(_: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(code, os.strerror(code))

    return fsync


def files_of(folder: Path) -> set[str]:
    """A run's results, without what it keeps for itself, and its page."""
    return {path.name for path in folder.iterdir()} - {"run.json", "cells", ".lock", "report.html"}
