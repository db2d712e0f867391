"""Jobs in this process instead of their own: seconds less each, and open to patches."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import pytest


def run_job(target: str, payload: Any, on_event: Callable[[dict[str, Any]], None]) -> None:
    """As executors.local.run_job, events through JSON all the same."""
    module, _, function = target.partition(":")

    def emit(kind: str, **fields: Any) -> None:
        on_event(json.loads(json.dumps({"event": kind, **fields})))

    getattr(import_module(module), function)(json.loads(json.dumps(payload)), emit)


@contextmanager
def jobs_in_process() -> Iterator[pytest.MonkeyPatch]:
    """The machine's ceilings are made up: nothing here is about them."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("precision", "spec_decode"):
            patch.setattr(f"bitdraft.{module}.evaluate.run_job", run_job)
            patch.setattr(f"bitdraft.{module}.cell.measure_ceilings", lambda *_: {"copy_gb_s": 10.0})
        yield patch
