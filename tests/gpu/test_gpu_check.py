"""`scripts/gpu_check` without a GPU: what it says, what it drops first, and all of it once at tiny shapes."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def budget() -> Any:
    spec = importlib.util.spec_from_file_location("gpu_budget", SCRIPTS / "gpu_budget.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_budget"] = module
    spec.loader.exec_module(module)
    return module


def check(*arguments: str) -> subprocess.CompletedProcess[str]:
    """With no PATH, so that nothing is compiled."""
    command = [sys.executable, str(SCRIPTS / "gpu_check.py"), *arguments]
    environment = os.environ | {"PATH": "", "CXX": "", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_it_says_so_and_exits_with_2(tmp_path: Path) -> None:
    done = check("--output", str(tmp_path))
    assert done.returncode == 2
    assert "no CUDA device" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_dry_run_goes_through_all_parts(tmp_path: Path) -> None:
    done = check("--dry-run", "--skip-tests", "--budget-s", "300", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "gpu_check.json").read_text())
    assert json.loads(done.stdout.splitlines()[-1]) == record
    assert record["not_run"] == ["tests: left out by --skip-tests"]
    lines = record["parts"]["sweep"]["lines"]
    assert len(lines) == 2 * 5 * 3
    assert [(line["batch"], line["k"]) for line in record["parts"]["batches"]] == [
        (size, k) for size in (1, 2, 4) for k in (0, 4)
    ]
    assert "no number here means anything" in (tmp_path / "gpu_check.md").read_text()


def test_without_time_it_names_what_was_dropped(tmp_path: Path) -> None:
    done = check("--dry-run", "--skip-tests", "--budget-s", "1.5", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    left_out = json.loads((tmp_path / "gpu_check.json").read_text())["not_run"]
    assert any("assisted generation: no time left" in entry for entry in left_out)


def test_the_least_important_points_are_dropped_first(budget: Any) -> None:
    points = budget.by_importance(("small", "large"), (0.5, 0.8, 0.9), (1, 4, 10))
    assert points[0] == ("small", 0.8, 4)
    assert points[-1] == ("large", 0.5, 10)
    assert len(set(points)) == 18
    seconds = dict.fromkeys(points[:10], 2.0)
    assert budget.affordable(points, seconds, 7.0) == (points[:3], points[3:])
    # what the warm-up did not reach has no time and is not run
    assert budget.affordable(points, seconds, 1000.0) == (points[:10], points[10:])
    assert budget.affordable(points, {}, 1000.0) == ([], points)


def test_dropped_points_are_named_by_draft_and_acceptance(budget: Any) -> None:
    dropped = [budget.Point("small", 0.5, 10), budget.Point("small", 0.5, 9), budget.Point("large", 0.9, 1)]
    assert budget.dropped_text(dropped) == "large: K = 1 at α = 0.9; small: K = 9, 10 at α = 0.5"


def test_weights_of_a_shape(budget: Any) -> None:
    """pythia-2.8b has 2.775 billion."""
    shape = {"hidden_size": 2560, "num_hidden_layers": 32, "vocab_size": 50304, "intermediate_size": 10240}
    assert budget.model_bytes(shape, 2) == pytest.approx(2 * 2.775e9, rel=0.01)
