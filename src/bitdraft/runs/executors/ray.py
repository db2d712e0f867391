"""Run cells as tasks of a Ray cluster.

A task starts the cell in a process of its own on its node, as `local` does, and streams its events back; the
driver journals them. A node that is lost takes its cells with it: each is tried once more elsewhere, behind
the events that had arrived. Prompts and configuration travel by value; a checkpoint is a hub id and revision,
or a folder that the node must have.
"""

from __future__ import annotations

import os
import platform
import queue
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bitdraft.errors import UserError, one_line
from bitdraft.runs.cell import Cell, Event, Failure
from bitdraft.runs.executors.base import TRANSIENT, OnEvent, raise_user_error
from bitdraft.runs.executors.local import Local

_TRIES = 2
_REACH_S = 5.0


class RayCluster:
    """`address` is a running cluster's; None is that of RAY_ADDRESS, and without it one is started on this
    machine, never a cluster that somebody else happens to have started here. `slots` is how many cells its
    resources hold at once: GPUs where there are any, else one a node."""

    def __init__(self, address: str | None, timeout_s: float) -> None:
        ray = _ray()
        self._ray, self.timeout_s = ray, timeout_s
        address = address or os.environ.get("RAY_ADDRESS")
        if not ray.is_initialized():
            _check_reachable(address)
            paths = [path for path in sys.path if path]
            environment = {"env_vars": {"PYTHONPATH": os.pathsep.join(paths)}} if address is None else None
            try:
                ray.init(
                    address=address or "local",
                    log_to_driver=False,
                    runtime_env=environment,
                    configure_logging=False,
                )
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise _unreachable(address, error) from error
        self._run = ray.remote(max_retries=0, num_returns="streaming")(_run_on_node)

    @property
    def slots(self) -> int:
        """As the cluster is now."""
        alive = [node for node in self._ray.nodes() if node["Alive"]]
        gpus = int(sum(node["Resources"].get("GPU", 0) for node in alive))
        return max(1, gpus or len(alive))

    def submit(self, cell: Cell, done: Sequence[Event], on_event: OnEvent) -> None:
        """See `Executor`."""
        events = list(done)

        def keep(event: Event) -> None:
            if event["event"] not in TRANSIENT:
                events.append(event)
            on_event(event)

        for attempt in range(1, _TRIES + 1):
            try:
                self._attempt(cell, list(events), keep)
                return
            except self._lost_errors() as error:
                if attempt == _TRIES:
                    reason = f"its node was lost, and so was the next one ({type(error).__name__})"
                    on_event(Failure("failed", reason, one_line(error)).as_event())

    def _attempt(self, cell: Cell, done: Sequence[Event], on_event: OnEvent) -> None:
        options: dict[str, Any] = {"num_cpus": 0 if cell.num_gpus else 1, "num_gpus": cell.num_gpus}
        stream = self._run.options(**options).remote(cell, done, self.timeout_s)
        try:
            for reference in stream:
                event: Event = self._ray.get(reference)
                if event["event"] == "user_error":
                    raise_user_error(event)
                on_event(event)
        except BaseException:
            self._ray.cancel(stream, force=True)
            raise

    def _lost_errors(self) -> tuple[type[BaseException], ...]:
        errors = self._ray.exceptions
        return (
            errors.WorkerCrashedError,
            errors.NodeDiedError,
            errors.ObjectLostError,
            errors.LocalRayletDiedError,
        )


def _check_reachable(address: str | None) -> None:
    """Ray itself would try for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_REACH_S).close()
    except OSError as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str | None, error: Exception) -> UserError:
    problem = f"cannot be reached ({one_line(error)})"
    return UserError("ray_address", address, problem, "Start a cluster with: ray start --head")


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        remedy = "Install it: pip install 'bitdraft[ray]'"
        raise UserError("executor", "ray", "Ray is not installed", remedy) from error
    return ray


def _run_on_node(cell: Cell, done: Sequence[Event], timeout_s: float) -> Iterator[Event]:
    """On the node: the machine's name, then the cell's events; a folder that isn't there is a failure."""
    node = platform.node()
    yield {"event": "machine", "name": f"{node} ({_node_id()})"}
    missing = [folder for folder in _folders(cell) if not Path(folder).is_dir()]
    if missing:
        reason = f"node {node} has no {missing[0]}: give a hub id, or put the folder there"
        yield Failure("failed", reason).as_event()
        return
    arrived: queue.SimpleQueue[Event | None] = queue.SimpleQueue()

    def run() -> None:
        try:
            Local(timeout_s=timeout_s).submit(cell, done, arrived.put)
        except UserError as error:
            arrived.put({"event": "user_error", **error.as_dict()})
        finally:
            arrived.put(None)

    threading.Thread(target=run, daemon=True).start()
    while (event := arrived.get()) is not None:
        yield event


def _node_id() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())[:8]


def _folders(cell: Cell) -> list[str]:
    """Checkpoints that the payload names by their place on the driver's disk."""
    payload = cell.payload
    named = [payload.get("config", {}).get("model"), *(payload.get("drafts") or {}).values()]
    return [name for name in named if isinstance(name, str) and Path(name).is_absolute()]
