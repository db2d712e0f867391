"""Files of every earlier version are read, with the figures and the sentences that they hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bitdraft.compare.compare import compare_folders
from bitdraft.errors import UserError
from bitdraft.schema.io import read_result, to_json
from bitdraft.schema.precision import PrecisionResult
from bitdraft.schema.recommendation import Recommendation
from bitdraft.schema.spec_decode import SpecDecodeResult
from earlier import VERSIONS, earlier_files


def values(metrics: dict[str, Any]) -> dict[str, float]:
    return {name: figure["value"] for name, figure in metrics.items()}


@pytest.mark.parametrize("version", VERSIONS)
def test_precisions_keep_their_figures_runs_and_sentences(version: int, tmp_path: Path) -> None:
    old = earlier_files(version, tmp_path)["precision"]
    assert old["schema_version"] == version
    found = read_result(tmp_path / "precision.json", PrecisionResult)
    assert [row.precision for row in found.rows] == [row["precision"] for row in old["rows"]]
    for row, before in zip(found.rows, old["rows"], strict=True):
        assert {name: figure.value for name, figure in row.metrics.items()} == values(before["metrics"])
        assert [list(run.token_ids) for run in row.runs] == [
            run["token_ids"] for run in before["raw"]["generations"]
        ]
    assert found.summary == old["verdict"]["summary"]
    assert found.warnings == old["warnings"]
    assert found.verdict.precision == old["verdict"]["precision"]


@pytest.mark.parametrize("version", VERSIONS)
def test_sweeps_keep_their_figures_texts_and_replay(version: int, tmp_path: Path) -> None:
    old = earlier_files(version, tmp_path)["spec_decode_stdlib"]
    found = read_result(tmp_path / "spec_decode_stdlib.json", SpecDecodeResult)
    assert [(row.draft, row.k) for row in found.sweep] == [(row["draft"], row["k"]) for row in old["rows"]]
    baseline = found.baseline
    assert baseline is not None
    plain = [run["token_ids"] for run in old["baseline"]["raw"]["generations"]]
    assert [list(run.token_ids) for run in baseline.runs] == plain
    for row, before in zip(found.sweep, old["rows"], strict=True):
        assert {name: figure.value for name, figure in row.metrics.items()} == values(before["metrics"])
        for run, was, text in zip(row.runs, before["raw"]["generations"], plain, strict=True):
            assert list(run.token_ids) == was.get("token_ids", text)
            assert [list(step) for step in run.steps] == [[*step, False][:3] for step in was["steps"]]
    batches = [row for row in old.get("batches", []) if row["status"] == "ok"]
    assert [row.batch_size for row in found.batches] == [row["batch_size"] for row in batches]
    for draft, by_k in old["replay"].items():
        assert {k: one.tokens_per_step for k, one in found.replay[draft].items()} == {
            int(k): one["tokens_per_step"] for k, one in by_k.items()
        }
    assert found.summary == old["verdict"]["summary"]
    assert found.reasons == old["verdict"]["reasons"]


def test_plans_and_recommendations_keep_what_they_conclude(tmp_path: Path) -> None:
    old = earlier_files(3, tmp_path)
    plan = read_result(tmp_path / "spec_decode_plan_stdlib.json", SpecDecodeResult)
    assert plan.rows == ()
    assert plan.summary == old["spec_decode_plan_stdlib"]["verdict"]["summary"]
    for draft, entry in old["spec_decode_plan_stdlib"]["plan"].items():
        assert plan.plan[draft].best_k.replay == entry["best_k"]["replay"]
    recommended = read_result(tmp_path / "recommendation.json", Recommendation)
    before = old["recommendation"]
    assert recommended.choice.precision == before["choice"]["precision"]
    assert recommended.summary == before["verdict"]["summary"]
    assert [one.standing for one in recommended.contenders] == [
        one["standing"] for one in before["contenders"]
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_was_read_is_written_and_read_again(version: int, tmp_path: Path) -> None:
    earlier_files(version, tmp_path)
    files: list[tuple[str, Any]] = [("precision", PrecisionResult), ("spec_decode_stdlib", SpecDecodeResult)]
    for name, kind in files:
        first = read_result(tmp_path / f"{name}.json", kind)
        (tmp_path / "again.json").write_text(to_json(first))
        assert read_result(tmp_path / "again.json", kind) == first


def test_folders_of_two_versions_are_compared(tmp_path: Path) -> None:
    for version in (1, 3):
        (tmp_path / str(version)).mkdir()
        earlier_files(version, tmp_path / str(version))
    found = compare_folders(tmp_path / "1", tmp_path / "3")
    assert [sorted(row.ratios) for row in found.rows if row.ratios] != []


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    data = earlier_files(3, tmp_path)["precision"] | {"schema_version": 99}
    (tmp_path / "precision.json").write_text(json.dumps(data))
    with pytest.raises(UserError, match="schema version 99 is newer"):
        read_result(tmp_path / "precision.json", PrecisionResult)
