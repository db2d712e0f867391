"""`bitdraft doctor`: what the machine is, what is installed, how fast it can be."""

from __future__ import annotations

import importlib.util

import pytest
from typer.testing import CliRunner

from bitdraft.cli import app
from bitdraft.cli.doctor import EXTRAS, _largest
from bitdraft.schema.environment import Environment


def test_it_says_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = {module for module, _ in EXTRAS.values()}
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in missing else find(name))
    found = CliRunner().invoke(app, ["doctor", "--device", "cpu", "--no-measure"])
    assert found.exit_code == 0, found.output
    for text in ("Machine", "memory", "torch", "fp32", "billion parameters"):
        assert text in found.output
    for extra in EXTRAS:
        assert f"pip install 'bitdraft[{extra}]'" in found.output
    assert "Ceilings" not in found.output


def test_what_fits_by_hand() -> None:
    """0.7 of 16 GiB: 12.0 billion bytes, of which an fp32 weight takes four."""
    environment = Environment(ram_gb=16.0)
    assert "about 3.0 billion" in _largest(environment, "fp32")
    assert "about 6.0 billion" in _largest(environment, "bf16")
    assert "about 30.1 billion" in _largest(environment.model_copy(update={"gpu_memory_gb": 80.0}), "bf16")


def test_an_unknown_device_is_one_line() -> None:
    found = CliRunner().invoke(app, ["doctor", "--device", "gpu"])
    assert found.exit_code == 2
    assert found.stderr.startswith("Error: --device gpu")
