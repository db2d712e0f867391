"""Every number of a sweep's rows, traced from the raw records with plain Python."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import bitdraft
from in_process import jobs_in_process
from tiny import noisy_copy, save_checkpoint

PROMPTS, NEW, K = 6, 20, 3


@pytest.fixture(scope="module")
def result(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("run")
    draft = save_checkpoint(folder / "draft", noisy_copy("gpt_neox", 0, 0.05))
    text = folder / "text.txt"
    text.write_text("".join(f"the cat and the hen number {i} sat in the barn\n" for i in range(80)))
    with jobs_in_process():
        bitdraft.evaluate_spec_decode(
            model=str(checkpoint),
            drafts=(f"cheap={draft}", "ngram"),
            k=K,
            dataset=f"file:{text}",
            num_prompts=PROMPTS,
            max_prompt_tokens=20,
            max_new_tokens=NEW,
            device="cpu",
            output=folder / "out",
        )
    loaded: dict[str, Any] = json.loads((folder / "out" / "spec_decode_file-text.json").read_text())
    return loaded


def rows(result: dict[str, Any]) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each (draft, K) with its runs."""
    return [(row, row["runs"]) for row in result["rows"] if row["k"]]


def seconds(runs: list[dict[str, Any]]) -> float:
    return float(sum(run["emissions"][-1][0] - run["submit_s"] for run in runs))


def test_speed_and_speedup(result: dict[str, Any]) -> None:
    baseline = result["rows"][0]["runs"]
    base = result["rows"][0]["metrics"]["throughput_tok_s"]["value"]
    assert base == pytest.approx(PROMPTS * NEW / seconds(baseline))
    for row, runs in rows(result):
        metrics = row["metrics"]
        assert metrics["throughput_tok_s"]["value"] == pytest.approx(PROMPTS * NEW / seconds(runs))
        assert metrics["speedup"]["value"] == pytest.approx(seconds(baseline) / seconds(runs))
        assert metrics["speedup"]["low"] < metrics["speedup"]["value"] < metrics["speedup"]["high"]
        firsts = [1000 * (run["emissions"][0][0] - run["submit_s"]) for run in runs]
        assert metrics["ttft_ms"]["value"] == pytest.approx(statistics.median(firsts))
        spans = [run["emissions"][-1][0] - run["emissions"][0][0] for run in runs]
        assert metrics["tpot_ms"]["value"] == pytest.approx(1000 * sum(spans) / (PROMPTS * (NEW - 1)))
        base_spans = [run["emissions"][-1][0] - run["emissions"][0][0] for run in baseline]
        assert metrics["decode_speedup"]["value"] == pytest.approx(sum(base_spans) / sum(spans))
        assert metrics["peak_ram_gb"]["value"] > 0.05


def test_acceptance(result: dict[str, Any]) -> None:
    for row, runs in rows(result):
        steps = [step for run in runs for step in run["steps"]]
        tau = PROMPTS * (NEW - 1) / len(steps)
        assert row["metrics"]["tokens_per_step"]["value"] == pytest.approx(tau)
        assert row["metrics"]["acceptance_rate"]["value"] == pytest.approx((tau - 1) / K)
        drafted, kept = (sum(step[place] for step in steps) for place in (0, 1))
        assert row["metrics"]["draft_acceptance"]["value"] == pytest.approx(kept / drafted)
        whole = [step for step in steps if not step[2]]
        assert row["realised_k"] == {str(k): n for k, n in sorted(Counter(s[0] for s in whole).items())}
        assert row["num_truncated_steps"] == len(steps) - len(whole)
        for place, entry in enumerate(row["acceptance_by_position"], 1):
            there = [step for step in steps if step[0] >= place]
            before = sum(step[1] >= place - 1 for step in there)
            reached = sum(step[1] >= place for step in there)
            assert entry == {
                "position": place,
                "n": len(there),
                "share": pytest.approx(reached / len(there)),
                "conditional": pytest.approx(reached / before) if before else None,
            }
        assert len(row["acceptance_by_position"]) == K


def test_predictions_from_the_costs(result: dict[str, Any]) -> None:
    costs = result["costs"]
    decode_ms = costs["target_forward_ms"]["1"]["value"]
    for row, runs in rows(result):
        draft = row["draft"]
        # medians of prompts' medians, and medians over all: the same but for what the machine does meanwhile
        ratio = costs["draft_forward_ms"][draft]["value"] / decode_ms
        assert 1 / 3 < costs["draft_cost"][draft] / ratio < 3
        step = row["predicted"]["step"]
        num_steps = sum(len(run["steps"]) for run in runs)
        for phase in ("draft", "verify", "host"):
            total = sum(run["phase_s"][phase] for run in runs)
            assert step[f"{phase}_ms"] == pytest.approx(1000 * total / num_steps)
            gap = step[f"{phase}_ms"] - step.get(f"{phase}_predicted_ms", 0.0)
            assert step[f"{phase}_gap_ms"] == pytest.approx(gap)
        # tokens per step for the time of a step, in units of a plain one
        tau = row["metrics"]["tokens_per_step"]["value"]
        step_ms = step["draft_predicted_ms"] + step["verify_predicted_ms"]
        share = step_ms * row["predicted"]["replay"] / tau
        assert share == pytest.approx(decode_ms, rel=0.25)  # a median of prompts' medians beside one of all
    cheap = result["rows"][1]
    assert cheap["predicted"]["leviathan"] > 0
    assert result["rows"][2]["predicted"]["leviathan"] is None


def test_replay_counts_from_agreement(result: dict[str, Any]) -> None:
    """K = 32 drafts what still fits: every step but those of short texts is truncated."""
    replayed = result["replay"]["cheap"]["32"]
    assert replayed["realised_k"] == {}
    assert replayed["num_truncated_steps"] == replayed["num_steps"]
    row = result["rows"][1]
    steps = sum(len(run["steps"]) for run in row["runs"])
    assert result["replay"]["cheap"]["3"]["num_steps"] == steps
