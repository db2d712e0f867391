"""`bitdraft spec-decode --backend llama-server` from flags to files, over a stub whose answers are those of
our own sweep over the same files: what is counted must come out the same. The real servers are in
`scripts/peers`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import bitdraft
import stub_llama_server
from bitdraft.cli import app
from bitdraft.config import SpecDecodeConfig, make_config
from bitdraft.schema.findings import codes, of_code
from bitdraft.schema.io import read_result
from bitdraft.schema.spec_decode import SpecDecodeResult
from bitdraft.spec_decode.workload import prepare
from in_process import jobs_in_process

pytest.importorskip("llama_cpp")
KS = (1, 3)
SETTINGS: dict[str, Any] = {"num_prompts": 5, "max_prompt_tokens": 24, "max_new_tokens": 16, "device": "cpu"}
FLAGS = ["--num-prompts", "5", "--max-prompt-tokens", "24", "--max-new-tokens", "16", "--device", "cpu"]
DRAFT = "demo/draft-medium"


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BITDRAFT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _in_process() -> Iterator[None]:
    with jobs_in_process():
        yield


@pytest.fixture(scope="module")
def own() -> SpecDecodeResult:
    """Our own sweep over llama.cpp."""
    with jobs_in_process():
        return bitdraft.evaluate_spec_decode(precision="gguf-f32", drafts=(DRAFT,), k=KS, **SETTINGS)


@pytest.fixture(autouse=True)
def _program(own: SpecDecodeResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stub as a program, with what our own sweep measured."""
    config = make_config(SpecDecodeConfig, {"precision": "gguf-f32", "drafts": (DRAFT,), "k": KS, **SETTINGS})
    prompts = [prompt.token_ids for prompt in prepare(config).prompts]
    runs = {
        row.k: [
            {"prompt": list(prompt), "token_ids": list(run.token_ids), "steps": [list(s) for s in run.steps]}
            for prompt, run in zip(prompts, row.runs, strict=True)
        ]
        for row in own.rows
    }
    (tmp_path / "runs.json").write_text(json.dumps(runs))
    program = tmp_path / "llama-server"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {stub_llama_server.__file__} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("STUB_RUNS", str(tmp_path / "runs.json"))
    monkeypatch.setenv("BITDRAFT_LLAMA_SERVER", str(program))


def sweep(folder: Path, *more: str) -> tuple[SpecDecodeResult, Result]:
    words = ["spec-decode", "--draft", DRAFT, "--k", "1,3", "--backend", "llama-server", *FLAGS]
    found = CliRunner().invoke(app, [*words, "-o", str(folder), *more])
    assert found.exit_code == 0, found.output
    return read_result(folder / "spec_decode_stdlib.json", SpecDecodeResult), found


def test_what_the_engine_counted_is_what_the_replay_says(own: SpecDecodeResult, tmp_path: Path) -> None:
    found, printed = sweep(tmp_path / "run")
    assert found.config.precision == "gguf-f32"
    assert found.model.backend == "llama-server stub-1"
    for mine, theirs in zip(own.rows, found.rows, strict=True):
        assert (theirs.k, theirs.status, theirs.backend) == (mine.k, "ok", "llama-server")
        if mine.k:
            for name in ("tokens_per_step", "acceptance_rate", "draft_acceptance"):
                assert theirs.metrics[name].value == pytest.approx(mine.metrics[name].value)
            assert theirs.acceptance_by_position == mine.acceptance_by_position
            assert theirs.lossless is not None
            assert theirs.lossless.identical == 5
            assert theirs.replay_check is not None
            assert theirs.replay_check.agrees
    # every K from one replay
    assert {k: row.acceptance_rate for k, row in found.replay["draft-medium"].items()} == pytest.approx(
        {k: row.acceptance_rate for k, row in own.replay["draft-medium"].items()}
    )
    assert "peak_ram_gb" in found.rows[0].metrics
    assert (tmp_path / "run" / "speculative_comparison_stdlib.png").exists()
    assert (tmp_path / "run" / "engines" / "K-0.log").read_text() == "ready\n"
    assert "Replay: the steps of 10 of 10 runs were compared" in " ".join(printed.output.split())


def test_one_at_a_time_and_the_same_command_asks_nothing_again(tmp_path: Path) -> None:
    found, _ = sweep(tmp_path / "run", "--one-at-a-time")
    assert "deployed.in_turn" in codes(found.findings)
    base, one, three = found.rows
    # prompts 0 and 1 first, by K = 0 first; 2 to 4 in reversed order
    starts = [[run.submit_s for run in row.runs] for row in (base, one, three)]
    assert max(starts[0][:2]) < min(starts[1][:2])
    assert max(starts[1][:2]) < min(starts[2][:2])
    assert max(starts[2][2:]) < min(starts[1][2:])
    assert max(starts[1][2:]) < min(starts[0][2:])
    again, _ = sweep(tmp_path / "run", "--one-at-a-time")
    assert [row.runs for row in again.rows] == [row.runs for row in found.rows]


def test_sampled_drafts_of_an_engine_are_not_replayed(tmp_path: Path) -> None:
    """Ours are drawn and kept by the draft's distribution, which engines do otherwise."""
    found, _ = sweep(tmp_path / "run", "--temperature", "0.8")
    assert found.replay == {}
    assert "spec.no_replay" in codes(found.findings)
    assert all("tokens_per_step" in row.metrics for row in found.rows if row.k)


def test_an_engine_that_dies_is_a_row_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_FAULT", "dies 3 4")
    found, _ = sweep(tmp_path / "run")
    base, one, three = found.rows
    assert (base.status, one.status) == ("ok", "ok")
    assert len(one.runs) == 5
    assert three.status != "ok"
    assert "ggml_abort: out of memory" in str(three.reason)
    assert str(three.reason).startswith("llama-server broke off")


def test_an_engine_that_does_not_start_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_FAULT", "no-start 1")
    found, _ = sweep(tmp_path / "run")
    assert [row.status for row in found.rows] == ["ok", "failed", "ok"]
    assert "failed to load the draft model" in str(found.rows[1].reason)


@pytest.mark.parametrize("fault", ["no-start 1", "dies 3 4"])
def test_what_was_lost_is_measured_again_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: SpecDecodeResult, fault: str
) -> None:
    monkeypatch.setenv("STUB_FAULT", fault)
    before, _ = sweep(tmp_path / "run")
    monkeypatch.delenv("STUB_FAULT")
    shown, _ = sweep(tmp_path / "run")
    assert [row.status for row in shown.rows] == [row.status for row in before.rows]
    found, _ = sweep(tmp_path / "run", "--retry-failed")
    assert [len(row.runs) for row in found.rows] == [5, 5, 5]
    assert [run.token_ids for row in found.rows for run in row.runs] == [
        run.token_ids for row in own.rows for run in row.runs
    ]
    assert found.rows[0].runs == before.rows[0].runs
    assert found.replay.keys() == own.replay.keys()
    (note,) = of_code(found.findings, "deployed.retried")
    assert note.subject == f"draft-medium, K = {1 if fault.startswith('no') else 3}"


def test_a_sweep_goes_on_where_its_baseline_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_FAULT", "dies 0 3")
    words = ["spec-decode", "--draft", DRAFT, "--k", "1,3", "--backend", "llama-server", *FLAGS]
    printed = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "run")])
    assert "out of memory" in " ".join(printed.output.split())
    monkeypatch.delenv("STUB_FAULT")
    found, _ = sweep(tmp_path / "run", "--retry-failed")
    assert [len(row.runs) for row in found.rows] == [5, 5, 5]


def test_an_engine_that_lies_is_recommended_by_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_FAULT", "lies 3")
    found, _ = sweep(tmp_path / "run")
    check = found.rows[2].lossless
    assert check is not None
    assert (check.identical, check.num_unexplained) == (0, 5)
    assert {one.kind for one in check.divergences} == {"unexplained"}
    assert [one.subject for one in of_code(found.findings, "spec.not_lossless")] == ["draft-medium, K = 3"]


def test_an_engine_that_leaves_its_own_text_is_noisy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_FAULT", "noisy")
    runs = json.loads(Path(os.environ["STUB_RUNS"]).read_text())
    for run in runs["3"]:
        run["token_ids"][8] = stub_llama_server.ANOTHER
    Path(os.environ["STUB_RUNS"]).write_text(json.dumps(runs))
    found, _ = sweep(tmp_path / "run")
    check = found.rows[2].lossless
    assert check is not None
    assert "engine noise" in {one.kind for one in check.divergences}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--backend", "native", "--engine-args", "x"], "processes of their own"),
        (["--backend", "llama-server", "--plan"], "single steps"),
        (["--backend", "llama-server", "--engine-args", "'x"], "are no words"),
        (["--backend", "llama-server", "--engine-args", "--port=9 -c 4"], "has --port, which bitdraft sets"),
        (["--backend", "llama-server", "--engine-args", "--spec-draft-n-max 7"], "bitdraft sets itself"),
        (["--backend", "vllm", "--engine-args", "--speculative-config {}"], "bitdraft sets itself"),
        (["--backend", "llama-server", "--draft", "ngram"], "prompt lookup"),
        (["--backend", "llama-server", "--batch-size", "4"], "one prompt alone"),
        (["--backend", "llama-server", "--pairs", "Q8_0"], "native engine"),
        (["--backend", "llama-server", "--precision", "int8"], "GGUF files"),
        (["--backend", "llama-server", "--synthetic-acceptance", "0.5"], "needs the native engine"),
        (["--backend", "vllm", "--precision", "Q8_0"], "runs no Q8_0"),
        (["--backend", "vllm", "--draft-precision", "bf16"], "target's precision"),
        (["--backend", "llama-server", "--random-weights"], "drawn"),
    ],
)
def test_what_an_engine_cannot_do_is_refused(words: list[str], expected: str) -> None:
    found = CliRunner().invoke(app, ["spec-decode", "--draft", DRAFT, "--k", "1", *FLAGS, *words])
    assert found.exit_code == 2, found.output
    assert expected in " ".join(found.output.split())
