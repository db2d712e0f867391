"""The examples run as they stand."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = runpy.run_path(str(path))["main"]()
    assert len(result.rows) >= 2
    assert {row.status for row in result.rows} == {"ok"}
    assert result.verdict["summary"] in capsys.readouterr().out
