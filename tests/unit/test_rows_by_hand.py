"""Every number of one row, traced from the raw records with plain Python."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import bitdraft
from bitdraft.schema.history import SCHEMA_VERSION


@pytest.fixture(scope="module")
def result(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("run")
    text = folder / "text.txt"
    text.write_text("".join(f"the cat and the hen number {i} sat in the barn\n" for i in range(60)))
    bitdraft.evaluate_precision(
        model=str(checkpoint),
        precisions=("fp32", "bf16"),
        dataset=f"file:{text}",
        num_prompts=3,
        max_prompt_tokens=20,
        max_new_tokens=12,
        kl_max_tokens=600,
        device="cpu",
        output=folder,
    )
    loaded: dict[str, Any] = json.loads((folder / "precision.json").read_text())
    return loaded


def value(row: dict[str, Any], group: str, name: str) -> float:
    return float(row[group][name]["value"])


def test_speed_and_memory(result: dict[str, Any]) -> None:
    for row in result["rows"]:
        raw, runs = row["raw"], row["runs"]
        [again] = row["more_runs"]
        both = [*runs, *again]
        tokens = sum(len(run["token_ids"]) for run in both)
        assert tokens == 2 * 3 * 12
        seconds = sum(run["emissions"][-1][0] - run["submit_s"] for run in both)
        decode_s = sum(run["emissions"][-1][0] - run["emissions"][0][0] for run in both)
        firsts = [[run["emissions"][0][0] - run["submit_s"] for run in own] for own in (runs, again)]
        middle = sorted((one + other) / 2 for one, other in zip(*firsts, strict=True))[1]
        assert value(row, "metrics", "throughput_tok_s") == pytest.approx(tokens / seconds)
        assert value(row, "metrics", "ttft_ms") == pytest.approx(1000 * middle)
        assert value(row, "metrics", "tpot_ms") == pytest.approx(1000 * decode_s / (tokens - 6))
        assert value(row, "metrics", "decode_tok_s") == pytest.approx((tokens - 6) / decode_s)
        decode_s = sum(run["emissions"][-1][0] - run["emissions"][0][0] for run in runs)
        # keys and values of 3 layers and 32 channels
        assert raw["kv_bytes_per_token"] == 2 * 3 * 32 * (4 if row["precision"] == "fp32" else 2)
        # Step i of 11 reads the weights once and 20 + i cached tokens.
        step_bytes = [raw["streamed_bytes"] + raw["kv_bytes_per_token"] * (20 + i) for i in range(1, 12)]
        bandwidth = result["environment"]["ceilings"]["copy_gb_s"] * 1e9
        assert value(row, "metrics", "mbu") == pytest.approx(3 * sum(step_bytes) / decode_s / bandwidth)
        assert value(row, "metrics", "peak_ram_gb") == raw["peak_bytes"]["peak_ram"] / 2**30
        assert raw["peak_bytes"]["peak_ram"] > raw["base_ram_bytes"]
        for phase, peaks in raw["peak_bytes_before"].items():
            assert value(row, "metrics", f"peak_ram_gb_{phase}") == peaks["peak_ram"] / 2**30
        assert set(raw["peak_bytes_before"]) == {"loading", "scoring", "preparing"}
        assert not any("vram" in name for name in row["metrics"])


def test_quality(result: dict[str, Any]) -> None:
    reference, row = result["rows"]
    base, own = reference["raw"]["score_blocks"], row["raw"]["score_blocks"]
    scored = sum(own["num_tokens"])
    assert scored == row["quality"]["protocol"]["num_scored_tokens"] == sum(base["num_tokens"])
    assert value(row, "metrics", "ppl") == pytest.approx(math.exp(-sum(own["log_prob"]) / scored))
    assert own["reference_log_prob"] == pytest.approx(base["log_prob"])
    delta = (sum(base["log_prob"]) - sum(own["log_prob"])) / scored
    assert value(row, "quality", "delta_ln_ppl") == pytest.approx(delta)
    ratio = value(row, "metrics", "ppl") / value(reference, "metrics", "ppl")
    assert math.exp(delta) == pytest.approx(ratio)
    assert value(row, "quality", "top1_agreement") == pytest.approx(sum(own["num_same_top1"]) / scored)
    squares = sum(own["delta_p_squared"]) / scored
    assert value(row, "quality", "delta_p_rms") == pytest.approx(math.sqrt(squares))
    kl = row["raw"]["kl_divergence"]
    assert len(kl) == 600
    assert value(row, "quality", "kl_divergence") == pytest.approx(sum(kl) / 600)
    assert value(row, "quality", "kl_max") == max(kl)
    words, size = row["quality"]["num_words"], row["quality"]["num_bytes"]
    assert value(row, "quality", "word_ppl") == pytest.approx(math.exp(-sum(own["log_prob"]) / words))
    assert value(row, "quality", "bits_per_byte") == pytest.approx(-sum(own["log_prob"]) / size / math.log(2))


def test_a_reference_has_no_difference_to_itself(result: dict[str, Any]) -> None:
    reference = result["rows"][0]
    assert "delta_ln_ppl" not in reference["quality"]
    assert "kl_divergence" not in reference["raw"]


def test_bf16_differs_from_fp32(result: dict[str, Any]) -> None:
    """If both rows came from the same arithmetic, every difference would be zero."""
    row = result["rows"][1]
    assert value(row, "quality", "delta_p_rms") > 0
    assert value(row, "quality", "kl_divergence") > 0
    assert row["raw"]["weight_bytes"] * 2 == result["rows"][0]["raw"]["weight_bytes"]


def test_the_result_tells_where_it_comes_from(result: dict[str, Any]) -> None:
    assert result["schema_version"] == SCHEMA_VERSION
    assert result["model"]["stored_dtype"] == "fp32"
    assert len(result["text"]["prompt_ids"]) == 3
    assert {"torch", "transformers", "cpu", "ceilings"} <= set(result["environment"])
    assert {"copy_gb_s", "read_gb_s", "matmul_tflop_s"} == set(result["environment"]["ceilings"])
