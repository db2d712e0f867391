from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bitdraft import formats
from bitdraft.config import PRECISIONS, PrecisionConfig, make_config
from bitdraft.errors import UserError
from bitdraft.inputs.models import torch_dtype
from bitdraft.schema.environment import ModelRecord
from bitdraft.schema.io import prepare_output, read_result, to_json, write_atomically
from bitdraft.schema.precision import PrecisionResult, PrecisionRow
from bitdraft.schema.records import Figure


def test_every_format_is_a_precision_with_a_dtype_of_its_own() -> None:
    assert formats.USUAL == PRECISIONS
    assert set(PRECISIONS) < set(formats.NAMES)
    assert [torch_dtype(name) for name in PRECISIONS] == [torch.float32, torch.float16, torch.bfloat16]
    assert len({formats.find(name).style_index for name in formats.NAMES}) == len(formats.NAMES)
    assert len({name.lower() for name in formats.NAMES}) == len(formats.NAMES)
    assert formats.find("from another version").title == ""


@pytest.mark.parametrize(
    ("settings", "field", "message"),
    [
        ({"precisions": ("fp32", "fp64")}, "precisions", "Choose from fp32, fp16, bf16"),
        ({"precisions": ()}, "precisions", "no precision is named"),
        ({"precisions": ("fp32", "fp32")}, "precisions", "named twice"),
        ({"precisions": ("fp16",), "reference": "fp32"}, "reference", "not among the measured"),
        ({"num_prompts": 0}, "num_prompts", "num_prompts: 0: too small. Give a number of at least 1"),
        ({"num_prompts": 1.5}, "num_prompts", "1.5: no whole number. Give a whole number"),
        ({"max_ppl_increase": 2}, "max_ppl_increase", "2: too large. Give a share from 0 to 1"),
        ({"max_ppl_increase": float("nan")}, "max_ppl_increase", "nan: no number. Give a share"),
        ({"device": "gpu"}, "device", "Choose auto, cpu"),
        ({"backend": "vllm"}, "backend", "Choose from native, transformers"),
        ({"sample": "middle"}, "sample", "middle: unknown. Choose from stratified, first"),
        ({"ppl_protocol": "strided"}, "ppl_protocol", "Choose from sliding"),
        ({"max_tokens": 3}, "max_tokens", "no such setting"),
    ],
)
def test_bad_settings_name_field_and_remedy(settings: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        make_config(PrecisionConfig, settings)
    assert caught.value.field == field


def test_reference_is_fp32_where_it_is_measured() -> None:
    assert PrecisionConfig(precisions=("bf16", "fp32")).reference_precision == "fp32"
    assert PrecisionConfig(precisions=("bf16", "fp16")).reference_precision == "bf16"
    assert PrecisionConfig(reference="fp16").reference_precision == "fp16"


def result() -> PrecisionResult:
    return PrecisionResult(config=PrecisionConfig(), model=ModelRecord(name="m"), rows=())


def _row(**changes: Any) -> dict[str, Any]:
    run = {
        "prompt_tokens": 3,
        "submit_s": 1.0,
        "emissions": [[1.5, 1], [2.0, 1]],
        "token_ids": [4, 5],
        "finish_reason": "length",
    }
    blocks = {"num_tokens": [256, 20], "log_prob": [-700.0, -60.0]}
    raw = {"reference_work_s": [0.01, 0.02], "score_blocks": blocks | changes.pop("blocks", {})}
    raw |= changes.pop("raw", {})
    return {"precision": "fp32", "status": "ok", "runs": [run | changes], "raw": raw}


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([_row()], None),
        ([_row(emissions=[[1.0, 1], [1.0, 1]])], "a request that took no time"),
        ([_row(emissions=[[1.5, 1], [1.2, 1]])], "times that go backwards"),
        ([_row(blocks={"log_prob": [-700.0, 0.1]})], "log-probabilities above 0"),
        ([_row(blocks={"reference_log_prob": [-700.0, 3.0]})], "log-probabilities above 0"),
        ([_row(blocks={"num_tokens": [256, -20]})], "a block of no token"),
        ([_row(blocks={"log_prob": [-700.0]})], "sums of other blocks"),
        ([_row(raw={"reference_work_s": [0.01, 0.0]})], "reference_work_s.1: Input should be greater than 0"),
        ([_row(), _row()], "2 rows of fp32"),
        ([_row(emissions=[], token_ids=[])], "gave no token"),
        ([_row(blocks={"num_same_top1": [257, 1]})], "more tokens that agree than there are"),
        ([_row() | {"more_runs": [[]]}], "rounds of different numbers of requests"),
    ],
)
def test_what_cannot_have_been_measured_is_refused(
    tmp_path: Path, rows: list[dict[str, Any]], problem: str | None
) -> None:
    path = tmp_path / "precision.json"
    path.write_text(json.dumps(json.loads(to_json(result())) | {"rows": rows}))
    if problem is None:
        assert len(read_result(path, PrecisionResult).rows) == len(rows)
        return
    with pytest.raises(UserError, match=problem):
        read_result(path, PrecisionResult)


def test_results_survive_json(tmp_path: Path) -> None:
    path = tmp_path / "precision.json"
    write_atomically(path, to_json(result()))
    assert read_result(path, PrecisionResult) == result()
    assert [p.name for p in tmp_path.iterdir()] == ["precision.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "not a precision result"), ("[]", "not a precision result"), ('{"schema_version": 99}', "newer")],
)
def test_damaged_results_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "precision.json"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_result(path, PrecisionResult)


def test_missing_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"precision\.json"):
        read_result(tmp_path / "precision.json", PrecisionResult)


def test_not_a_number_never_reaches_json() -> None:
    with pytest.raises(ValueError, match=r"not JSON compliant|Out of range"):
        to_json(Figure(value=float("nan")))


def test_failed_write_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "precision.json"
    write_atomically(path, "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_unwritable_output_is_found_before_the_run(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        prepare_output(blocker / "below")
    with pytest.raises(UserError, match="cannot be written"):
        prepare_output(blocker)


def test_a_format_that_cannot_be_a_reference_is_never_one(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = formats.find("fp32")
    monkeypatch.setitem(formats.FORMATS, "fp32", replace(whole, can_be_reference=False))
    assert PrecisionConfig(precisions=("fp32", "bf16")).reference_precision == "bf16"
    for settings in ({"precisions": ("fp32",)}, {"reference": "fp32"}):
        with pytest.raises(UserError, match="what quality is compared with"):
            make_config(PrecisionConfig, settings)


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ('"value": 31.5', '"value": NaN', "rows.0.metrics.ttft_ms.value: nan"),
        ('"value": 31.5', '"value": -31.5', "rows.0.metrics: Value error, ttft_ms is negative"),
        ('"low": 30.0', '"low": 33.0', "rows.0.metrics.ttft_ms: Value error, an interval whose low end"),
        ('"low": 30.0', '"low": null', "rows.0.metrics.ttft_ms: Value error, an interval with one end"),
    ],
)
def test_a_file_of_nonsense_is_refused_by_its_field(tmp_path: Path, old: str, new: str, where: str) -> None:
    row = PrecisionRow(
        precision="fp32", status="ok", metrics={"ttft_ms": Figure(value=31.5, low=30.0, high=32.0, n=5)}
    )
    text = to_json(result().model_copy(update={"rows": (row,)}))
    path = tmp_path / "precision.json"
    path.write_text(text)
    read_result(path, PrecisionResult)
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(UserError, match=where) as caught:
        read_result(path, PrecisionResult)
    assert caught.value.value == path
