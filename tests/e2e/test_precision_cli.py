"""The command line from flags to files, as a user meets it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

import bitdraft
from bitdraft.cli import app
from bitdraft.inputs.models import load_model
from bitdraft.inputs.variants import Variant
from bitdraft.schema.io import read_result
from bitdraft.schema.precision import PrecisionResult
from bitdraft.schema.records import Overflow
from in_process import files_of, full_after, jobs_in_process
from tiny import save_checkpoint, tiny_model

FILES = {
    *("precision.json", "precision.csv", "precision.md", "precision_benchmark_2rows.png"),
    "precision_formats.csv",
}
SMALL = ["--num-prompts", "2", "--max-prompt-tokens", "24", "--max-new-tokens", "6", "--device", "cpu"]


@pytest.fixture(autouse=True)
def _in_process(request: pytest.FixtureRequest) -> Iterator[None]:
    """Seconds less a cell; one test has a process each all the same."""
    with contextlib.nullcontext() if "own_processes" in request.keywords else jobs_in_process():
        yield


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.own_processes
def test_a_run_leaves_table_verdict_and_files(checkpoint: Path, text_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    result = invoke("precision", checkpoint, "--dataset", f"file:{text_file}", *SMALL, "--output", output)
    assert result.exit_code == 0, result.output
    assert files_of(output) == FILES
    for expected in ("fp32", "fp16", "bf16", "Tok/s", "RAM GiB", "Page: "):
        assert expected in result.output
    assert "VRAM" not in result.output
    loaded = read_result(output / "precision.json", PrecisionResult)
    assert [row.status for row in loaded.rows] == ["ok"] * 3
    assert str(tmp_path) not in loaded.environment.model_dump_json()


def test_plot_draws_the_same_picture_from_the_json(checkpoint: Path, text_file: Path, tmp_path: Path) -> None:
    bitdraft.evaluate_precision(
        model=str(checkpoint),
        precisions=("bf16",),
        dataset=f"file:{text_file}",
        num_prompts=2,
        max_prompt_tokens=24,
        max_new_tokens=4,
        device="cpu",
        output=tmp_path,
    )
    chart = tmp_path / "precision_benchmark_2rows.png"
    before = chart.read_bytes()
    chart.unlink()
    assert invoke("plot", tmp_path).exit_code == 0
    assert chart.read_bytes() == before


def test_the_transformers_backend_generates_the_same_tokens(
    checkpoint: Path, text_file: Path, tmp_path: Path
) -> None:
    tokens = []
    for backend in ("native", "transformers"):
        output = tmp_path / backend
        flags = ["--precisions", "fp32", "--backend", backend, "--output", output]
        result = invoke("precision", checkpoint, "--dataset", f"file:{text_file}", *SMALL, *flags)
        assert result.exit_code == 0, result.output
        row = read_result(output / "precision.json", PrecisionResult).rows[0]
        tokens.append([run.token_ids for run in row.runs])
    assert tokens[0] == tokens[1]


def test_an_overflowing_precision_is_a_finding_and_the_others_go_on(text_file: Path, tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "model", tiny_model())
    weights = load_file(folder / "model.safetensors")
    weights["gpt_neox.layers.1.mlp.dense_4h_to_h.bias"] = torch.full(
        (32,), 1e5
    )  # finite in fp32 and bf16 alone
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    output = tmp_path / "out"
    result = invoke("precision", folder, "--dataset", f"file:{text_file}", *SMALL, "--output", output)
    assert result.exit_code == 0, result.output
    rows = {row.precision: row for row in read_result(output / "precision.json", PrecisionResult).rows}
    assert {name: row.status for name, row in rows.items()} == {
        "fp32": "ok",
        "fp16": "overflow",
        "bf16": "ok",
    }
    place = rows["fp16"].quality.overflow
    assert place == Overflow(layer="gpt_neox.layers.1.mlp.dense_4h_to_h", window=0, position=0)
    assert "ppl" not in rows["fp16"].metrics
    assert "throughput_tok_s" in rows["fp16"].metrics
    assert "overflow" in result.output


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--precisions", "fp32,int3"], "--precisions int3: "),
        (["--dataset", "nowhere"], "--dataset nowhere: no such dataset"),
        (["--dataset", "file:/no/such/file"], "dataset file:/no/such/file: cannot be read"),
        (["--device", "tpu"], "--device tpu: "),
        (["--device", "cuda:77"], "--device cuda:77: this machine has"),
        (["--num-prompts", "500"], "--num-prompts 500: file-text has not so many windows"),
        (["--max-new-tokens", "250"], "exceed the model's context of 256 tokens"),
        (["--max-ppl-increase", "little"], "--max-ppl-increase little: "),
        (["--output", "/proc/nothing"], "output /proc/nothing: cannot be written"),
        (["--reference", "fp64"], "--reference fp64: "),
        (["--ppl-protocol", "gptq"], "dataset file-text: too short"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    checkpoint: Path, tmp_path: Path, flags: list[str], message: str
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("".join(f"row {i:02d}: pqzx kvbw\n" for i in range(12)))  # about 200 tokens
    output = tmp_path / "out"
    common = ["--dataset", f"file:{text}", *SMALL, "--output", output]
    result = invoke("precision", checkpoint, *common, *flags)
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in result.output
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["precision", "--num-prompts", "many"], "Invalid value for '--num-prompts'"),
        (["precision", "--number"], "No such option: --number"),
        (["measure"], "No such command 'measure'"),
    ],
)
def test_unreadable_flags_are_one_line_too(arguments: list[str], message: str) -> None:
    command = [sys.executable, "-m", "bitdraft", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert message in done.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = invoke("precision", "demo/none", "--debug", "--output", tmp_path)
    assert isinstance(result.exception, bitdraft.UserError)


def test_an_interrupt_keeps_finished_rows(checkpoint: Path, text_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    command = [sys.executable, "-m", "bitdraft", "precision", str(checkpoint), "--output", str(output)]
    process = subprocess.Popen(
        [*command, "--dataset", f"file:{text_file}", *SMALL],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while len(list((output / "cells").glob("*.jsonl"))) < 3:  # the machine's, fp32's and the next one's
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted. What was finished is shown above" in errors
    result = read_result(output / "precision.json", PrecisionResult)
    assert result.summary == (
        "Not finished: this is what was measured so far. Give the same command again to go on. "
        f"Measured so far: {' and '.join(row.precision for row in result.rows)}. Nothing is recommended yet."
    )
    assert result.verdict.precision is None
    rows = result.rows
    assert [row.precision for row in rows][:1] == ["fp32"]
    assert len(rows) < 3
    assert files_of(output) - {"precision_formats.csv"} == FILES - {"precision_formats.csv"}


def test_a_disk_that_fills_up_loses_no_measurement(
    checkpoint: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", full_after(2))
    output = tmp_path / "out"
    flags = ["--dataset", f"file:{text_file}", "--precisions", "fp32,bf16", "--output", output]
    result = invoke("precision", checkpoint, *SMALL, *flags)
    assert result.exit_code == 2
    assert "Tok/s" in result.stdout
    assert "cannot be written (No space left on device)" in result.stderr
    assert files_of(output) == set()


def test_module_defaults_are_pythia_on_wikitext(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import runpy

    seen: list[bitdraft.PrecisionConfig] = []

    def stop(config: bitdraft.PrecisionConfig, **_: object) -> None:
        seen.append(config)
        raise bitdraft.UserError("model", "x", "stopped", "by the test")

    monkeypatch.setattr("bitdraft.api.evaluate_precision", stop)
    for arguments in ([], ["demo/target", "--dataset", "stdlib"]):
        monkeypatch.setattr(sys, "argv", ["precision", *arguments, "--output", str(tmp_path)])
        with pytest.raises(SystemExit):
            runpy.run_module("bitdraft.precision", run_name="__main__")
    assert (seen[0].model, seen[0].dataset) == ("EleutherAI/pythia-2.8b", "wikitext")
    assert (seen[1].model, seen[1].dataset) == ("demo/target", "stdlib")


def test_models_lists_the_embedded_ones() -> None:
    result = invoke("models")
    assert result.exit_code == 0
    for name in ("demo/target", "demo/draft-medium", "demo/draft-small"):
        assert name in result.output


def test_version() -> None:
    assert invoke("--version").output.strip() == f"bitdraft {bitdraft.__version__}"


def test_a_reference_without_room_leaves_the_gate_on(
    checkpoint: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_room(variant: Variant, *rest: Any) -> Any:
        if variant.name == "fp32":
            raise torch.OutOfMemoryError("no room")
        return load_model(variant, *rest)

    monkeypatch.setattr("bitdraft.precision.cells.load_model", without_room)
    command = ["precision", checkpoint, "--dataset", f"file:{text_file}", *SMALL]
    found = invoke(*command, "--output", tmp_path / "three")
    alone = invoke(*command, "--precisions", "fp32,bf16", "--output", tmp_path / "two")
    result = read_result(tmp_path / "three" / "precision.json", PrecisionResult)
    lost, base, other = result.rows
    assert (lost.status, base.status, other.status) == ("oom", "ok", "ok")
    assert result.summary.startswith(
        "fp32 could not be the reference: quality is compared with that of fp16."
    )
    assert base.quality.delta_ln_ppl is None
    assert other.quality.delta_ln_ppl is not None
    assert found.exit_code == 0
    assert alone.exit_code == 1
    assert "No precision is recommended." in " ".join(alone.stdout.split())
