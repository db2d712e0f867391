"""The examples run as they stand."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

import bitdraft
from in_process import jobs_in_process

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with jobs_in_process():
        result = runpy.run_path(str(path))["main"]()
    printed = capsys.readouterr().out
    assert result.summary in printed
    if isinstance(result, bitdraft.Recommendation):
        measured = [row for row in result.contenders if row.throughput_tok_s is not None]
        assert {row.precision for row in measured} == {"fp32", "bf16"}
        assert [row.standing for row in measured].count("chosen") == 1
        assert set(result.snippets) == {"transformers", "vllm", "native"}
        assert all(snippet in printed for snippet in result.snippets.values())
    else:
        assert len(result.rows) >= 2
        assert {row.status for row in result.rows} == {"ok"}
