"""A Ray cluster of two nodes, one of which is lost while it computes."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import bitdraft
from bitdraft.config.running import RunOptions
from bitdraft.runs.cell import Cell, Event
from bitdraft.runs.executors import make_executor
from bitdraft.runs.schedule import run_cells
from bitdraft.runs.store import Run
from bitdraft.schema.manifest import read_manifest
from toy_cells import HERE

pytest.importorskip("ray", reason="install the ray extra: pip install 'bitdraft[ray]'")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield found
    ray.shutdown()
    found.shutdown()


def test_cells_of_a_lost_node_are_computed_on_another(cluster: Any, tmp_path: Path) -> None:
    second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    options = RunOptions(executor="ray", ray_address=cluster.address, cell_timeout_s=60)
    executor = make_executor(options)
    assert executor.slots == 2
    file = tmp_path / "go"
    cells = [Cell(f"cell {n}", f"{HERE}:wait_for", {"file": str(file)}, {"n": n}) for n in range(2)]
    seen: dict[str, list[Event]] = {cell.name: [] for cell in cells}
    started: dict[str, list[Event]] = {cell.name: [] for cell in cells}
    lost = threading.Event()

    def lose() -> None:
        cluster.remove_node(second, allow_graceful=False)
        # its processes end a moment after it: one that still ran would go on when the file is there
        pids = [events[-1]["pid"] for events in started.values()]
        deadline_s = time.monotonic() + 30
        while all(psutil.pid_exists(pid) for pid in pids) and time.monotonic() < deadline_s:
            time.sleep(0.05)
        file.write_text("")

    def take(cell: Cell, event: Event) -> None:
        seen[cell.name].append(event)
        if event["event"] == "first":
            started[cell.name].append(event)
        if all(started.values()) and not lost.is_set():
            lost.set()
            threading.Thread(target=lose).start()

    with Run("toy", {}, tmp_path / "run", options) as run:
        ended = run_cells(run, cells, executor, take)
        run.finish([])
    assert ended == {"cell 0": None, "cell 1": None}
    for events in seen.values():
        kinds = [event["event"] for event in events if event["event"] in ("first", "second")]
        assert kinds == ["first", "second"], "nothing is computed twice, and nothing is missing"
    tries = {name: sum(event["event"] == "machine" for event in events) for name, events in seen.items()}
    assert sorted(tries.values()) == [1, 2]
    manifest = read_manifest(tmp_path / "run")
    assert manifest is not None
    assert len({entry.machines[-1] for entry in manifest.cells}) == 1, "both ended on the node that stayed"


def test_a_sweep_of_precisions_runs_on_a_cluster(
    cluster: Any, checkpoint: Path, text_file: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "model": str(checkpoint),
        "precisions": ("fp32",),
        "dataset": f"file:{text_file}",
        "num_prompts": 2,
        "max_prompt_tokens": 16,
        "max_new_tokens": 6,
        "ppl_max_tokens": 300,
        "device": "cpu",
    }
    far = bitdraft.evaluate_precision(
        **settings, executor="ray", ray_address=cluster.address, output=tmp_path / "ray"
    )
    near = bitdraft.evaluate_precision(**settings, output=tmp_path / "local")
    assert [row.status for row in far.rows] == ["ok"]
    assert [run.token_ids for run in far.rows[0].runs] == [run.token_ids for run in near.rows[0].runs]
    assert far.rows[0].metrics["ppl"] == near.rows[0].metrics["ppl"]
    assert far.environment.node is not None or far.environment.cpu == near.environment.cpu


def test_without_an_address_a_cluster_is_its_own(cluster: Any) -> None:
    """Ray itself takes any cluster that runs on the machine, and loses its cells with it."""
    import ray

    make_executor(RunOptions(executor="ray", cell_timeout_s=60))
    assert ray.get_runtime_context().gcs_address != cluster.address


def test_a_cluster_that_is_not_there_is_one_line() -> None:
    with pytest.raises(bitdraft.UserError) as caught:
        make_executor(RunOptions(executor="ray", ray_address="127.0.0.1:9"))
    assert caught.value.field == "ray_address"
