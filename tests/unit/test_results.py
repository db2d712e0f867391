"""What a result is in Python: three lines, tidy figures, what was chosen; and how it is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import bitdraft
from bitdraft.errors import UserError
from bitdraft.schema.io import to_json
from bitdraft.schema.precision import PrecisionResult
from bitdraft.schema.recommendation import Recommendation
from bitdraft.schema.spec_decode import SpecDecodeResult
from report_results import precision_result, recommendation, sweep_result


def written(folder: Path) -> dict[str, Any]:
    results = {
        "precision.json": precision_result(),
        "spec_decode_stdlib.json": sweep_result(),
        "recommendation.json": recommendation(),
    }
    for name, result in results.items():
        (folder / name).write_text(to_json(result))
    return results


def test_a_result_is_three_lines() -> None:
    for result in (precision_result(), sweep_result(), recommendation()):
        lines = repr(result).splitlines()
        assert len(lines) <= 3
        assert lines[0].startswith(f"{type(result).__name__}: ")
        assert all(len(line) <= 240 for line in lines)
        assert str(result) == repr(result)
    assert repr(sweep_result()).splitlines()[1].startswith("plain decoding 100.0; a, K = 2 140.0;")


def test_figures_are_tidy() -> None:
    result = precision_result()
    records = result.to_records()
    assert {one["precision"] for one in records} == {row.precision for row in result.rows if row.metrics}
    row = next(row for row in result.rows if row.status == "ok")
    figure = row.metrics["throughput_tok_s"]
    own = [one for one in records if one["precision"] == row.precision]
    [found] = [one for one in own if one["metric"] == "throughput_tok_s"]
    assert found == {
        "precision": row.precision,
        "metric": "throughput_tok_s",
        "value": figure.value,
        "low": figure.low,
        "high": figure.high,
        "n": figure.n,
    }
    sweep = sweep_result().to_records()
    assert list(sweep[0])[:3] == ["draft", "k", "batch_size"]


def test_a_data_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = pytest.importorskip("pandas")
    frame = sweep_result().to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == ["draft", "k", "batch_size", "metric", "value", "low", "high", "n"]
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(UserError, match="pip install pandas"):
        sweep_result().to_pandas()


def test_results_are_loaded_by_file_and_folder(tmp_path: Path) -> None:
    results = written(tmp_path)
    for name, result in results.items():
        assert bitdraft.load_result(tmp_path / name) == result
    assert isinstance(bitdraft.load_result(tmp_path), Recommendation)
    (tmp_path / "recommendation.json").unlink()
    assert isinstance(bitdraft.load_result(str(tmp_path)), PrecisionResult)
    (tmp_path / "precision.json").unlink()
    assert isinstance(bitdraft.load_result(tmp_path), SpecDecodeResult)
    (tmp_path / "spec_decode_pg19.json").write_text(to_json(results["spec_decode_stdlib.json"]))
    with pytest.raises(UserError, match="holds several results"):
        bitdraft.load_result(tmp_path)
    (tmp_path / "empty").mkdir()
    for name, message in (("other", "no result by its name"), ("empty", "holds no result")):
        with pytest.raises(UserError, match=message):
            bitdraft.load_result(tmp_path / name)


def test_what_was_chosen() -> None:
    precision, sweep, whole = precision_result(), sweep_result(), recommendation()
    assert precision.best is not None
    assert precision.best.precision == precision.verdict.precision
    named = sweep.model_copy(update={"verdict": sweep.verdict.model_copy(update={"draft": "a", "k": 3})})
    assert named.best is not None
    assert (named.best.draft, named.best.k) == ("a", 3)
    refused = sweep.model_copy(update={"verdict": sweep.verdict.model_copy(update={"speculate": False})})
    assert refused.best == sweep.baseline
    unknown = sweep.model_copy(update={"verdict": sweep.verdict.model_copy(update={"speculate": None})})
    assert unknown.best is None
    assert whole.best is not None
    assert whole.best.standing == "chosen"
