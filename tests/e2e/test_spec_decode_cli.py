"""`bitdraft spec-decode` from flags to files, as a user meets it."""

from __future__ import annotations

import csv
import json
import math
import os
import runpy
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
from tokenizers import Tokenizer
from typer.testing import CliRunner, Result

import bitdraft
from bitdraft.cli import app
from bitdraft.schema.io import read_result
from bitdraft.schema.records import Generation
from bitdraft.schema.spec_decode import LosslessCheck, SpecDecodeResult
from in_process import files_of, full_after, jobs_in_process
from tiny import VOCAB, noisy_copy, save_checkpoint, tiny_model

SMALL = ["--num-prompts", "5", "--max-prompt-tokens", "24", "--max-new-tokens", "14", "--device", "cpu"]
SWEEP = {
    "spec_decode_file-story.json",
    "spec_decode_file-story.csv",
    "spec_decode_file-story.md",
    "speculative_comparison_file-story.png",
    "speculation_anatomy_file-story.png",
}


@pytest.fixture(autouse=True)
def _in_process() -> Iterator[None]:
    """Seconds less a cell; the module's one `sweep`, which is measured before, has a process each."""
    with jobs_in_process():
        yield


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["spec-decode", *(str(argument) for argument in arguments)])


@pytest.fixture(scope="module")
def draft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Agrees with the target now and then; its embedding is padded differently."""
    model = noisy_copy("gpt_neox", 0, 0.05)
    model.resize_token_embeddings(VOCAB + 16)
    return save_checkpoint(tmp_path_factory.mktemp("draft") / "cheap", model)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "story.txt"
    lines = [f"the cat and the hen number {i} sat in the barn and heard the rain\n" for i in range(120)]
    path.write_text("".join(lines))
    return path


def load(folder: Path) -> SpecDecodeResult:
    return read_result(folder / "spec_decode_file-story.json", SpecDecodeResult)


def runs_of(result: SpecDecodeResult) -> tuple[Generation, ...]:
    """The baseline's."""
    assert result.baseline is not None
    return result.baseline.runs


@pytest.fixture(scope="module")
def sweep(
    checkpoint: Path, draft: Path, story: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Result, Path]:
    output = tmp_path_factory.mktemp("sweep")
    flags = ["--draft", draft, "--draft", "ngram", "--k", "1-3,6", "--dataset", f"file:{story}"]
    result = invoke(checkpoint, *flags, *SMALL, "--output", output)
    assert result.exit_code == 0, result.output
    return result, output


def test_a_sweep_leaves_table_verdict_and_files(sweep: tuple[Result, Path]) -> None:
    result, output = sweep
    assert files_of(output) == SWEEP
    for expected in (
        "Speedup",
        "Accept",
        "cheap",
        "ngram",
        "peculate",
        "Page: ",
    ):
        assert expected in result.output
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in output.glob("*.png"))
    with (output / "spec_decode_file-story.csv").open() as handle:
        lines = list(csv.DictReader(handle))
    assert [(line["draft"], line["k"]) for line in lines] == [
        ("", "0"),
        *((name, str(k)) for name in ("cheap", "ngram") for k in (1, 2, 3, 6)),
    ]
    assert all(float(line["throughput_tok_s"]) > 0 for line in lines)
    assert "| cheap | 3 | " in (output / "spec_decode_file-story.md").read_text()


def test_every_row_of_a_sweep_is_lossless_has_its_k_and_is_the_replays(sweep: tuple[Result, Path]) -> None:
    loaded = load(sweep[1])
    assert [(row.draft, row.k) for row in loaded.sweep] == [
        (name, k) for name in ("cheap", "ngram") for k in (1, 2, 3, 6)
    ]
    for row in loaded.sweep:
        assert row.status == "ok", row.reason
        assert row.lossless == LosslessCheck(identical=5, num_prompts=5)
        assert row.replay_check is not None
        assert (row.replay_check.num_compared, row.replay_check.num_identical) == (5, 5)
        allowed = {str(row.k)} if row.draft == "cheap" else {"0", str(row.k)}
        assert set(row.realised_k) <= allowed
        replayed = loaded.replay[row.draft or ""][row.k]
        for name in ("tokens_per_step", "acceptance_rate"):
            assert row.metrics[name].value == pytest.approx(getattr(replayed, name)), (row.draft, row.k, name)
        assert replayed.realised_k == row.realised_k
        assert row.metrics["speedup"].n == 5
    assert set(loaded.replay["cheap"]) == set(range(1, 33))
    assert loaded.model.execution == "static, recorded"
    assert 0 < (loaded.model.preparation_s or 0) < 30
    assert set(loaded.costs.verify_cost) == {0, 1, 2, 3, 6}
    assert {"cheap", "ngram"} == set(loaded.costs.draft_cost)


def test_plot_draws_the_same_pictures_from_the_json(sweep: tuple[Result, Path], tmp_path: Path) -> None:
    source = sweep[1]
    (tmp_path / "spec_decode_file-story.json").write_bytes(
        (source / "spec_decode_file-story.json").read_bytes()
    )
    assert CliRunner().invoke(app, ["plot", str(tmp_path)]).exit_code == 0
    for name in ("speculative_comparison_file-story.png", "speculation_anatomy_file-story.png"):
        assert (tmp_path / name).read_bytes() == (source / name).read_bytes()


def test_both_backends_write_the_same_tokens_at_a_true_k(
    checkpoint: Path, story: Path, tmp_path: Path
) -> None:
    draft = save_checkpoint(tmp_path / "draft", noisy_copy("gpt_neox", 0, 0.05))
    found: dict[str, Any] = {}
    for backend in ("native", "transformers"):
        output = tmp_path / backend
        flags = ["--draft", draft, "--k", "2,4", "--dataset", f"file:{story}", "--backend", backend]
        result = invoke(checkpoint, *flags, *SMALL, "--output", output)
        assert result.exit_code == 0, result.output
        loaded = load(output)
        found[backend] = [run.token_ids for run in runs_of(loaded)]
        for row in loaded.sweep:
            assert row.status == "ok", row.reason
            assert row.lossless is not None
            assert row.lossless.identical == 5
            assert set(row.realised_k) == {str(row.k)}
            assert row.replay_check is not None
            assert row.replay_check.num_identical == 5
    assert found["native"] == found["transformers"]


def test_a_plan_stands_beside_the_sweep(checkpoint: Path, draft: Path, story: Path, tmp_path: Path) -> None:
    flags = ["--draft", f"small={draft}", "--draft", "ngram", "--k", "1-4", "--dataset", f"file:{story}"]
    result = invoke(checkpoint, *flags, *SMALL, "--plan", "--output", tmp_path)
    assert result.exit_code == 0, result.output
    assert files_of(tmp_path) == {
        "spec_decode_plan_file-story.json",
        "spec_decode_plan_file-story.csv",
        "spec_decode_plan_file-story.md",
        "speculation_plan_file-story.png",
    }
    loaded = read_result(tmp_path / "spec_decode_plan_file-story.json", SpecDecodeResult)
    assert loaded.rows == ()
    assert set(loaded.plan) == {"small", "ngram"}
    assert set(loaded.plan["small"].by_k) == {1, 2, 3, 4}
    assert "nothing was swept" in result.output


def test_a_plan_replays_what_a_sweep_measures(
    sweep: tuple[Result, Path], checkpoint: Path, draft: Path, story: Path, tmp_path: Path
) -> None:
    flags = ["--draft", draft, "--draft", "ngram", "--k", "1-3,6", "--dataset", f"file:{story}"]
    assert invoke(checkpoint, *flags, *SMALL, "--plan", "--output", tmp_path).exit_code == 0
    planned = read_result(tmp_path / "spec_decode_plan_file-story.json", SpecDecodeResult)
    assert planned.replay == load(sweep[1]).replay


def test_sampling_is_compared_with_its_expectation(
    checkpoint: Path, draft: Path, story: Path, tmp_path: Path
) -> None:
    flags = ["--draft", draft, "--draft", "ngram", "--k", "2", "--dataset", f"file:{story}"]
    sampling = ["--temperature", "0.8", "--top-k", "20", "--top-p", "0.9"]
    result = invoke(checkpoint, *flags, *sampling, *SMALL, "--num-prompts", "8", "--output", tmp_path)
    assert result.exit_code == 0, result.output
    for row in load(tmp_path).sweep:
        assert row.status == "ok", row.reason
        assert row.lossless is None
        assert row.replay_check is not None
        assert row.replay_check.measured_over_expected is not None
        assert 0.3 < row.replay_check.measured_over_expected.value < 3
    assert "Same ids" in result.output


def test_a_draft_that_breaks_loses_its_rows_alone(
    checkpoint: Path, draft: Path, story: Path, tmp_path: Path
) -> None:
    broken = save_checkpoint(tmp_path / "broken", tiny_model("gpt_neox", 1))
    weights = load_file(broken / "model.safetensors")
    weights["embed_out.weight"][5] = math.nan
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    output = tmp_path / "out"
    flags = ["--draft", broken, "--draft", draft, "--k", "1,2", "--dataset", f"file:{story}"]
    result = invoke(checkpoint, *flags, *SMALL, "--output", output)
    assert result.exit_code == 0, result.output
    loaded = load(output)
    assert {(row.draft, row.status) for row in loaded.sweep} == {("broken", "overflow"), ("cheap", "ok")}
    assert "broken, K = 1 and 2: overflow (the draft model's logits are not finite" in result.output.replace(
        "\n", " "
    )


def test_a_run_without_any_row_says_so_and_fails(checkpoint: Path, story: Path, tmp_path: Path) -> None:
    broken = save_checkpoint(tmp_path / "broken", tiny_model("gpt_neox", 1))
    weights = load_file(broken / "model.safetensors")
    weights["embed_out.weight"][5] = math.nan
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    for plan in ([], ["--plan"]):
        flags = ["--draft", broken, "--k", "2", "--dataset", f"file:{story}", *plan]
        result = invoke(checkpoint, *flags, *SMALL, "--output", tmp_path / f"out{len(plan)}")
        assert result.exit_code == 1, result.output
        assert "not finite" in result.output


@pytest.mark.parametrize("backend", ["native", "transformers"])
def test_texts_that_end_at_once_are_measured(story: Path, tmp_path: Path, backend: str) -> None:
    """EOS after a few tokens, shorter than K: nothing of the costs may reach behind the prompt."""
    target = tiny_model()
    prompt = target.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=30, do_sample=False, eos_token_id=None)
    target.generation_config.eos_token_id = sorted(set(prompt[0, 3:].tolist()))
    folder = save_checkpoint(tmp_path / "target", target)
    draft = save_checkpoint(tmp_path / "draft", noisy_copy("gpt_neox", 0, 0.02))
    output = tmp_path / "out"
    flags = ["--draft", draft, "--k", "1,2,9", "--dataset", f"file:{story}", "--stop-at-eos"]
    if backend == "native":
        flags += ["--draft", "ngram"]
    result = invoke(folder, *flags, *SMALL, "--backend", backend, "--output", output)
    assert result.exit_code == 0, result.output
    loaded = load(output)
    runs = runs_of(loaded)
    assert min(len(run.token_ids) for run in runs) < 5
    for row in loaded.sweep:
        assert row.status == "ok", row.reason
        assert row.lossless is not None
        assert row.lossless.identical == 5
        assert row.replay_check is not None
        assert row.replay_check.agrees, (row.draft, row.k, row.replay_check)
    if backend == "native":
        planned = invoke(folder, *flags, *SMALL, "--plan", "--output", tmp_path / "plan")
        assert planned.exit_code == 0, planned.output


@pytest.mark.parametrize("size", [("1", "3", "1"), ("24", "3", "1"), ("24", "4", "2")], ids="/".join)
def test_the_smallest_requests_are_measured(
    checkpoint: Path, draft: Path, story: Path, tmp_path: Path, size: tuple[str, str, str]
) -> None:
    prompt_tokens, new_tokens, k = size
    flags = ["--draft", draft, "--draft", "ngram", "--k", k, "--dataset", f"file:{story}", *SMALL]
    short = ["--max-prompt-tokens", prompt_tokens, "--max-new-tokens", new_tokens]
    result = invoke(checkpoint, *flags, *short, "--output", tmp_path)
    assert result.exit_code == 0, result.output
    assert [row.status for row in load(tmp_path).sweep] == ["ok", "ok"]
    assert all(cost > 0 for cost in load(tmp_path).costs.draft_cost.values())


def test_a_draft_as_large_as_the_target_is_warned_about(
    checkpoint: Path, story: Path, tmp_path: Path
) -> None:
    flags = ["--draft", f"itself={checkpoint}", "--k", "2", "--dataset", f"file:{story}"]
    result = invoke(checkpoint, *flags, *SMALL, "--output", tmp_path)
    assert result.exit_code == 0, result.output
    assert "Draft itself is no smaller than the target" in result.output.replace("\n", " ")
    assert load(tmp_path).sweep[0].metrics["draft_acceptance"].value == 1


@pytest.fixture
def workload(checkpoint: Path, story: Path) -> tuple[Path, Path]:
    return checkpoint, story


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Drafts that cannot be used: other tokens, other splits, a short context."""
    root = tmp_path_factory.mktemp("strangers")
    found = {name: save_checkpoint(root / name, tiny_model("gpt_neox", 1)) for name in ("other", "splits")}
    found["short"] = save_checkpoint(
        root / "short", tiny_model("gpt_neox", 1, max_position_embeddings=32, num_hidden_layers=1)
    )
    for name in ("other", "splits"):
        path = found[name] / "tokenizer.json"
        data = json.loads(path.read_text())
        if name == "splits":
            data["model"]["merges"] = data["model"]["merges"][:1]
        else:
            vocab = data["model"]["vocab"]
            one, two = sorted(vocab, key=vocab.get)[40:42]
            vocab[one], vocab[two] = vocab[two], vocab[one]
        path.write_text(json.dumps(data))
        Tokenizer.from_file(str(path))
    return found


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--k", "0"], "--k 0: K = 0 is outside 1 to 32. Give numbers from 1 to 32"),
        (["--k", "-3"], "--k -3: '-3' is neither a number nor a range"),
        (["--k", "9-3"], "--k 9-3: the range 9-3 is reversed"),
        (["--k", ""], "--k"),
        (["--k", "3-99"], "K = 99 is outside 1 to 32"),
        (["--k", "13"], "--k 13: 14 new tokens never have room for 13 drafted ones"),
        (["--draft", "{other}"], "--draft other: its vocabulary is another one than the target's"),
        (["--draft", "{splits}"], "--draft splits: its tokenizer has the target's tokens but splits text"),
        (["--draft", "{short}"], "exceed draft short's context of 32 tokens"),
        (["--draft", "no/where"], "--draft no/where: "),
        (["--draft", "demo/none"], "--draft demo/none: "),
        (["--draft", "ngram", "--draft", "ngram"], "--draft ngram: two drafts have this name"),
        (["--draft", "ngram", "--draft-precision", "bf16"], "--draft-precision bf16: prompt lookup has no"),
        (
            ["--draft", "ngram", "--backend", "transformers"],
            "--draft ngram: the prompt lookup of",
        ),
        (["--draft", "{short}", "--backend", "transformers", "--plan"], "--backend transformers: the plan"),
        ([], "--draft none: no draft is named for"),
        (
            ["--draft", "ngram", "--batch-size", "4,x"],
            "--batch-size 4,x: 'x' is neither a number nor a range. Give numbers from",
        ),
        (
            ["--draft", "ngram", "--batch-size", "65"],
            "--batch-size 65: batch size = 65 is outside 1 to 64. Give numbers from",
        ),
        (
            ["--draft", "ngram", "--batch-size", "2,6"],
            "--batch-size 6: there are only 5 prompts to decode at",
        ),
        (
            ["--draft", "ngram", "--batch-size", "2", "--plan"],
            "--batch-size 1,2: the plan predicts one prompt",
        ),
        (
            ["--draft", "ngram", "--batch-size", "2", "--execution", "eager"],
            "--batch-size 1,2: eager execution",
        ),
        (
            ["--draft", "{short}", "--backend", "transformers", "--batch-size", "2"],
            "--batch-size 1,2: transformers takes a draft model for one prompt alone. Use",
        ),
        (["--draft", "ngram", "--top-k", "5"], "--top-k 5: means nothing for greedy decoding"),
        (["--draft", "ngram", "--top-p", "0.5"], "--top-p 0.5: means nothing for greedy decoding"),
        (["--draft", "ngram", "--temperature", "-1"], "--temperature -1: "),
        (["--draft", "ngram", "--temperature", "1", "--top-p", "1.5"], "--top-p 1.5: "),
        (["--draft", "ngram", "--precision", "int3"], "--precision int3: "),
        (["--draft", "ngram", "--max-new-tokens", "250"], "exceed the target's context of 256 tokens"),
        (
            ["--draft", "ngram", "--num-prompts", "500"],
            "--num-prompts 500: file-story has not so many windows",
        ),
        (["--draft", "ngram", "--output", "/proc/nothing"], "output /proc/nothing: cannot be written"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    workload: tuple[Path, Path], strangers: dict[str, Path], tmp_path: Path, flags: list[str], message: str
) -> None:
    checkpoint, story = workload
    named = [flag.format(**strangers) if flag.startswith("{") else flag for flag in flags]
    output = tmp_path / "out"
    if "--k" not in flags:
        named += ["--k", "2"]
    elif "--draft" not in flags:
        named += ["--draft", "ngram"]
    result = invoke(checkpoint, "--dataset", f"file:{story}", *SMALL, "--output", output, *named)
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert not output.exists()


def test_an_interrupt_keeps_the_finished_prompts(
    checkpoint: Path, draft: Path, story: Path, tmp_path: Path
) -> None:
    flags = ["--draft", draft, "--k", "1-10", "--dataset", f"file:{story}", "--device", "cpu"]
    size = ["--num-prompts", "40", "--max-prompt-tokens", "24", "--max-new-tokens", "200"]
    command = [sys.executable, "-m", "bitdraft", "spec-decode", checkpoint, *flags, *size]
    process = subprocess.Popen(
        [str(part) for part in (*command, "--output", tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("sweep"):
            break
    time.sleep(4)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted. What was finished is shown above" in errors
    loaded = load(tmp_path)
    num_finished = len(runs_of(loaded))
    assert 0 < num_finished < 40
    assert all(row.status == "ok" for row in loaded.sweep)
    assert any(f"Ended after {num_finished} of 40 prompts: interrupted" in note for note in loaded.warnings)
    assert files_of(tmp_path) == SWEEP


def test_a_disk_that_fills_up_loses_no_measurement(
    checkpoint: Path, story: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", full_after(2))
    flags = ["--draft", "ngram", "--k", "2", "--dataset", f"file:{story}"]
    result = invoke(checkpoint, *flags, *SMALL, "--output", tmp_path)
    assert result.exit_code == 2
    assert "Speedup" in result.stdout
    assert "cannot be written (No space left on device)" in result.stderr


@pytest.mark.parametrize(
    ("module", "dataset"),
    [("pg_19_eval", "pg19"), ("wikitext_eval", "wikitext"), ("__main__", "wikitext")],
)
def test_module_defaults_are_the_published_comparison(
    module: str, dataset: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[bitdraft.SpecDecodeConfig] = []

    def stop(config: bitdraft.SpecDecodeConfig, **_: object) -> None:
        seen.append(config)
        raise bitdraft.UserError("model", "x", "stopped", "by the test")

    monkeypatch.setattr("bitdraft.api.evaluate_spec_decode", stop)
    other = ["demo/target", "--draft", "ngram", "--k", "2", "--dataset", "stdlib"]
    for arguments in ([], other):
        monkeypatch.delitem(sys.modules, f"bitdraft.spec_decode.{module}", raising=False)
        monkeypatch.setattr(sys, "argv", [module, *arguments, "--output", str(tmp_path)])
        with pytest.raises(SystemExit):
            runpy.run_module(f"bitdraft.spec_decode.{module}", run_name="__main__")
    default, overridden = seen
    assert (default.model, default.dataset) == ("EleutherAI/pythia-2.8b", dataset)
    assert default.drafts == ("70M=EleutherAI/pythia-70m", "160M=EleutherAI/pythia-160m")
    assert default.k == tuple(range(3, 11))
    assert (overridden.model, overridden.drafts, overridden.k) == ("demo/target", ("ngram",), (2,))
    assert overridden.dataset == "stdlib"
