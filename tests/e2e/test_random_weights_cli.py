"""Both commands with `--random-weights`, as a user meets them."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bitdraft.cli import app
from bitdraft.schema.io import read_result
from bitdraft.schema.precision import PrecisionResult, Quality
from bitdraft.schema.spec_decode import SpecDecodeResult
from tiny import save_shape

SMALL = ["--num-prompts", "2", "--max-prompt-tokens", "24", "--max-new-tokens", "6", "--device", "cpu"]


@pytest.fixture
def shape(tmp_path: Path) -> Path:
    return save_shape(tmp_path / "small-shape")


def invoke(command: str, *arguments: object) -> Result:
    return CliRunner().invoke(app, [command, *map(str, arguments), "--random-weights", *SMALL])


def one_line(text: str) -> str:
    return " ".join(text.split())


def test_precision_measures_speed_and_memory_alone(shape: Path, text_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    flags = ["--precisions", "fp16", "--dataset", f"file:{text_file}", "--output", output]
    result = invoke("precision", shape, *flags)
    assert result.exit_code == 0, result.output
    assert "Random weights: quality not measured." in one_line(result.output)
    assert "PPL" not in result.output
    assert "NaN" not in result.output
    loaded = read_result(output / "precision.json", PrecisionResult)
    assert loaded.model.name == f"{shape.name} (random weights)"
    assert loaded.model.random_weights
    assert loaded.config.random_weights
    for row in loaded.rows:
        assert row.status == "ok", row.reason
        assert {"throughput_tok_s", "ttft_ms", "peak_ram_gb", "mbu"} <= set(row.metrics)
        assert row.quality == Quality(not_measured="random weights")
    assert "small-shape (random weights)" in (output / "precision.md").read_text().splitlines()[0]
    chart = output / "precision_benchmark_2rows.png"
    before = chart.read_bytes()
    assert CliRunner().invoke(app, ["plot", str(output)]).exit_code == 0
    assert chart.read_bytes() == before


def test_spec_decode_plans_for_shapes(shape: Path, text_file: Path, tmp_path: Path) -> None:
    draft = save_shape(tmp_path / "draft-shape", num_hidden_layers=1, vocab_size=2100)
    flags = ["--draft", draft, "--draft", "ngram", "--k", "2", "--plan", "--dataset", f"file:{text_file}"]
    result = invoke("spec-decode", shape, *flags, "--output", tmp_path)
    assert result.exit_code == 0, result.output
    assert "Random weights: acceptance, and so speedup, says nothing" in one_line(result.output)
    assert "no smaller than the target" not in result.output
    loaded = read_result(tmp_path / "spec_decode_plan_file-story.json", SpecDecodeResult)
    assert loaded.model.name == f"{shape.name} (random weights)"
    assert loaded.drafts["draft-shape"].random_weights
    assert set(loaded.plan) == {"draft-shape", "ngram"}
    assert "(random weights)" in (tmp_path / "spec_decode_plan_file-story.md").read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["precision"], "MODEL demo/target: is an embedded model with trained weights, no shape."),
        (["precision", "pythia-70m", "--revision", "main"], "--revision main: means nothing for random"),
        (["precision", "{shape}", "--max-new-tokens", "250"], "exceed the model's context of 256 tokens"),
        (["precision", "{small}"], "(random weights): the embedded tokenizer gives id "),
        (["spec-decode", "pythia-70m"], "--draft none: no draft is named for pythia-70m"),
        (["spec-decode", "pythia-70m", "--draft", "demo/draft-small"], "--draft demo/draft-small: is an emb"),
        (["spec-decode", "pythia-70m", "--draft", "pythia-7b"], "--draft pythia-7b: no such shape or folder"),
        (["spec-decode", "pythia-70m", "--draft", "{shape}", "--allow-pickle"], "--allow-pickle True: means"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    shape: Path, text_file: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    small = save_shape(tmp_path / "small", vocab_size=50)
    named = [argument.format(shape=shape, small=small) for argument in arguments]
    if arguments[0] == "spec-decode":
        named += ["--k", "2"]
    size = ["--max-new-tokens", "6"] if "--max-new-tokens" not in named else []
    common = ["--num-prompts", "2", "--max-prompt-tokens", "24", "--device", "cpu", *size]
    output = ["--dataset", f"file:{text_file}", "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*named, "--random-weights", *common, *output])
    assert result.exit_code == 2, result.output
    assert len(result.stderr.strip().splitlines()) == 1
    assert message in result.stderr
    assert not (tmp_path / "out").exists()
