"""Cells that measure nothing, for tests of runs and executors."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from bitdraft.errors import UserError
from bitdraft.runs.cell import Cell
from bitdraft.runs.executors.base import Emit

HERE = "toy_cells"


def counting(name: str = "count", to: int = 3, **more: Any) -> Cell:
    """Counts to `to`, an event a number."""
    return Cell(name, f"{HERE}:count", {"to": to, **more}, {"to": to})


def count(payload: dict[str, Any], emit: Emit) -> None:
    done = {event["n"] for event in payload["done"] if event["event"] == "number"}
    for n in range(payload["to"]):
        if n in done:
            continue
        if n == payload.get("fail_at"):
            raise ValueError(f"cannot count {n}")
        if n == payload.get("kill_at"):
            os.kill(os.getpid(), signal.SIGKILL)
        emit("progress", stage="count", done=n, total=payload["to"])
        emit("number", n=n, pid=os.getpid())


def ask_badly(_: dict[str, Any], __: Emit) -> None:
    raise UserError("device", "cuda:9", "no such device", "Choose cpu")


def print_much(payload: dict[str, Any], emit: Emit) -> None:
    print("noise on standard output")
    os.write(1, b"{broken json\n")
    emit("number", n=payload["to"])


def wait(payload: dict[str, Any], emit: Emit) -> None:
    """Tells its process, then sleeps; with `beats` it gives signs of life meanwhile."""
    emit("started", pid=os.getpid())
    if payload.get("beats"):
        with emit.slow():
            time.sleep(payload["seconds"])
    else:
        time.sleep(payload["seconds"])
    emit("woke")


def wait_for(payload: dict[str, Any], emit: Emit) -> None:
    """One event, then waits for a file; where the file is there already, for nothing."""
    if not any(event["event"] == "first" for event in payload["done"]):
        emit("first", pid=os.getpid())
    while not Path(payload["file"]).exists():
        emit("progress", stage="wait", done=0, total=1)
        time.sleep(0.1)
    if not any(event["event"] == "second" for event in payload["done"]):
        emit("second", behind=len(payload["done"]))


def which_device(_: dict[str, Any], emit: Emit) -> None:
    emit("device", visible=os.environ.get("CUDA_VISIBLE_DEVICES"), start_s=time.time())
    time.sleep(0.3)
    emit("end", end_s=time.time())
