"""`bitdraft recommend` from flags to files and to code that runs, and the decoder that its code calls."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import bitdraft
from bitdraft.cli import app, main
from bitdraft.config import ModelConfig, RecommendConfig, make_config
from bitdraft.inputs.checkpoints import find_checkpoint
from bitdraft.recommend.snippets import (
    Setting,
    has_generation_defaults,
    native_snippet,
    transformers_snippet,
)
from bitdraft.schema.io import read_result
from bitdraft.schema.precision import PrecisionResult
from bitdraft.schema.recommendation import Recommendation
from bitdraft.schema.spec_decode import SpecDecodeResult
from in_process import jobs_in_process
from tiny import VOCAB, noisy_copy, save_checkpoint, tiny_model

SMALL = ["--num-prompts", "5", "--max-prompt-tokens", "24", "--max-new-tokens", "14", "--device", "cpu"]
QUALITY = ["--ppl-max-tokens", "600", "--kl-max-tokens", "0"]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["recommend", *(str(argument) for argument in arguments)])


@pytest.fixture
def in_process() -> Iterator[None]:
    """Seconds less a cell."""
    with jobs_in_process():
        yield


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "story.txt"
    lines = [f"the cat and the hen number {i} sat in the barn and heard the rain\n" for i in range(120)]
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="module")
def draft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("draft") / "cheap", noisy_copy("gpt_neox", 0, 0.05))


@pytest.fixture(scope="module")
def run(checkpoint: Path, draft: Path, story: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("recommend")
    precisions = ["--precisions", "fp32,bf16", "--draft", draft, "--draft", "ngram", "--k", "1-4"]
    text = ["--dataset", f"file:{story}", "--output", folder]
    with jobs_in_process():
        found = invoke(checkpoint, *precisions, *text, *SMALL, *QUALITY, "--max-ppl-increase", "50%")
    return found, folder


def test_files_and_screen_say_the_same(run: Any) -> None:
    found, folder = run
    assert found.exit_code == 0, found.output
    result = read_result(folder / "recommendation.json", Recommendation)
    screen = " ".join(found.output.split())
    assert " ".join(result.summary.split()) in screen
    assert result.choice.precision in ("fp32", "bf16")
    assert {stage.stage for stage in result.stages} >= {"precision", "plan"}
    precision = read_result(folder / "precision" / "precision.json", PrecisionResult)
    assert [row.precision for row in precision.rows] == ["fp32", "bf16"]
    assert (folder / "precision" / "precision_benchmark_2rows.png").exists()
    assert read_result(folder / "plan-fp32" / "spec_decode_plan_file-story.json", SpecDecodeResult).plan
    assert result.summary in (folder / "recommendation.md").read_text()
    for name in ("transformers", "vllm", "native"):
        assert result.snippets[name].strip() in (folder / "recommendation.md").read_text()
    # what was measured is what a sweep of those arms alone holds
    for row in result.contenders:
        if row.k and row.standing in ("chosen", "slower", "indistinguishable"):
            below = f"sweep-{row.precision}"
            sweep = read_result(folder / below / "spec_decode_file-story.json", SpecDecodeResult)
            assert (row.draft, row.k) in {(one.draft, one.k) for one in sweep.sweep}


@pytest.mark.parametrize("defaults", [False, True])
@pytest.mark.parametrize("asked", ["plain", "ngram", "model"])
def test_the_code_runs_as_it_stands(  # noqa: PLR0917
    asked: str,
    defaults: bool,
    checkpoint: Path,
    draft: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And says what was measured, also where the checkpoint would have `generate` sample and punish."""
    if defaults:
        checkpoint = shutil.copytree(checkpoint, tmp_path / "own")
        own = {
            "do_sample": True,
            "temperature": 0.7,
            "top_k": 20,
            "repetition_penalty": 1.3,
            "max_length": 20,
        }
        (checkpoint / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 5], **own}))
    found = find_checkpoint(ModelConfig(model=str(checkpoint)))
    assert has_generation_defaults(found) == defaults
    config = make_config(RecommendConfig, {"max_new_tokens": 12})
    name = {"plain": None, "ngram": "ngram", "model": str(draft)}[asked]
    k = 3 if name else 0
    setting = Setting(str(checkpoint), str(checkpoint), "fp32", name, name, k, has_defaults=defaults)
    texts = []
    for code in (transformers_snippet(setting, config), native_snippet(setting, config)):
        exec(compile(code, "snippet", "exec"), {})
        texts.append(capsys.readouterr().out.strip("\n"))
    assert texts[0]
    # transformers' text begins with the prompt
    assert texts[0].endswith(texts[1])


def test_the_decoder_speculates_and_says_how(checkpoint: Path, draft: Path) -> None:
    plain = bitdraft.Decoder(str(checkpoint), device="cpu").generate("the cat", max_new_tokens=20)
    for settings in ({"draft": "ngram", "k": 4}, {"draft": str(draft), "k": 3}):
        found = bitdraft.Decoder(str(checkpoint), device="cpu", **settings).generate(
            "the cat", max_new_tokens=20
        )
        assert found.token_ids == plain.token_ids
        assert found.text == plain.text
        assert len(found.generation.steps) < 20
    ids = bitdraft.Decoder(str(checkpoint), device="cpu").generate([5, 9, 3], max_new_tokens=4)
    assert len(ids.token_ids) == 4


@pytest.mark.parametrize(
    ("settings", "prompt", "message"),
    [
        ({"draft": "ngram"}, "the", "a draft needs a number of tokens"),
        ({"precision": "fp8"}, "the", "precision"),
        ({}, "", "it has no token"),
        ({}, [VOCAB + 5], "its embedding has"),
        ({}, "the cat " * 200, "exceed the context"),
    ],
)
def test_what_the_decoder_cannot_do_is_said(
    settings: dict[str, Any], prompt: Any, message: str, checkpoint: Path
) -> None:
    with pytest.raises(bitdraft.UserError, match=message):
        bitdraft.Decoder(str(checkpoint), device="cpu", **settings).generate(prompt, max_new_tokens=8)


def test_a_decoders_draft_must_fit_its_target(checkpoint: Path, tmp_path: Path) -> None:
    short = save_checkpoint(tmp_path / "short", tiny_model("gpt_neox", 0, max_position_embeddings=16))
    decoder = bitdraft.Decoder(str(checkpoint), device="cpu", draft=str(short), k=3)
    with pytest.raises(bitdraft.UserError, match="exceed the context of 16"):
        decoder.generate("the cat", max_new_tokens=20)
    file = short / "tokenizer.json"
    settings = json.loads(file.read_text())
    split = {"type": "Split", "pattern": {"String": "o"}, "behavior": "Isolated", "invert": False}
    file.write_text(json.dumps(settings | {"pre_tokenizer": split}))
    with pytest.raises(bitdraft.UserError, match="splits text differently"):
        bitdraft.Decoder(str(checkpoint), device="cpu", draft=str(short), k=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget", "soon"], "--budget soon: no time. Give at least 30 seconds, as 90s, 10m or 1h."),
        (["--budget", "1s"], "--budget 1s:"),
        (["--max-ppl-increase", "much"], "Give a share from 0 to 1, as 0.5% or 0.005."),
        (["--max-ppl-increase", "-1%"], "--max-ppl-increase -1%:"),
        (["--max-ppl-increase", "50"], "--max-ppl-increase 50:"),
        (["--num-prompts", "0"], "Give a number of at least 1."),
        (["--max-new-tokens", "100000"], "--max-new-tokens 100000:"),
        (["--dataset", "file:/no/such"], "--dataset file:/no/such:"),
        (["--max-vram-gb", "0"], "--max-vram-gb 0"),
        (["--min-speedup", "0.5"], "--min-speedup 0.5"),
        (["--precisions", "fp32,fp7"], "--precisions"),
        (["--draft", "no/such/draft"], "--draft"),
        (["--k", "40"], "--k 40"),
    ],
)
def test_bad_flags_are_one_line_before_anything_runs(
    arguments: list[str], message: str, checkpoint: Path, tmp_path: Path
) -> None:
    found = invoke(checkpoint, *arguments, "--output", tmp_path / "out")
    assert found.exit_code == 2
    [line] = [line for line in found.stderr.splitlines() if line]
    assert message in line


def test_an_unknown_flag_points_to_its_own_commands_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["recommend", "--zzz"], prog_name="bitdraft")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "Error: No such option: --zzz. See: bitdraft recommend --help\n"


@pytest.mark.usefixtures("in_process")
def test_limits_that_nothing_keeps_end_with_code_1(checkpoint: Path, story: Path, tmp_path: Path) -> None:
    text = ["--dataset", f"file:{story}", "--output", tmp_path, "--precisions", "fp32"]
    found = invoke(checkpoint, *text, *SMALL, *QUALITY, "--max-vram-gb", "0.001")
    assert found.exit_code == 1
    result = read_result(tmp_path / "recommendation.json", Recommendation)
    assert result.choice.precision is None
    assert result.snippets == {}
    assert "above the limit of 0.001 GiB" in " ".join(found.output.split())


@pytest.mark.usefixtures("in_process")
def test_a_budget_names_what_it_left_out(
    checkpoint: Path, story: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that runs away behind the precisions: no plan fits any more."""
    from bitdraft.precision import evaluate as module
    from bitdraft.recommend import search

    spent_s, real = [0.0], module.measure_precision

    def measure(*given: Any, **settings: Any) -> PrecisionResult:
        found: PrecisionResult = real(*given, **settings)
        spent_s.append(10_000.0 if len(spent_s) == 2 else 5.0)  # behind the pilot's
        return found

    monkeypatch.setattr(module, "measure_precision", measure)
    monkeypatch.setattr(search, "monotonic", lambda: spent_s[-1])
    text = ["--dataset", f"file:{story}", "--output", tmp_path, "--precisions", "fp32"]
    found = invoke(checkpoint, *text, *SMALL, *QUALITY, "--budget", "60s", "-v")
    assert found.exit_code == 0, found.output
    result = read_result(tmp_path / "recommendation.json", Recommendation)
    assert [stage.stage for stage in result.stages] == ["pilot", "precision"]
    assert any("no plan at fp32" in text for text in result.skipped)
    assert "no draft was examined" in result.summary
    assert result.choice.speculate is None
    screen = " ".join(found.output.split())
    assert "Skipped for the budget" in screen
    assert "The budget of 60 s was exceeded: 10000 s were used" in screen
    assert "a folder for each precision" not in screen, "there is none"


@pytest.mark.usefixtures("in_process")
def test_an_interrupt_keeps_what_is_finished(
    checkpoint: Path, story: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bitdraft.spec_decode import evaluate

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate, "measure_spec_decode", interrupted)
    text = ["--dataset", f"file:{story}", "--output", tmp_path, "--precisions", "fp32"]
    found = invoke(checkpoint, *text, *SMALL, *QUALITY)
    assert found.exit_code == 130
    assert "What was finished is shown above" in found.stderr
    result = read_result(tmp_path / "recommendation.json", Recommendation)
    assert result.choice.precision is None
    assert result.snippets == {}
    assert [one.standing for one in result.contenders] == ["ahead"]
    assert result.summary.startswith("Not finished: this is what was measured so far.")
    assert "So far fp32, plain" in result.summary
    assert any("interrupted" in text for text in result.skipped)
    assert "from_pretrained" not in found.stdout


def test_random_weights_are_refused() -> None:
    with pytest.raises(bitdraft.UserError, match="trained checkpoint"):
        bitdraft.recommend_deployment(model="pythia-70m", random_weights=True)


@pytest.mark.usefixtures("in_process")
def test_the_target_alone_gets_prompt_lookup(checkpoint: Path, story: Path, tmp_path: Path) -> None:
    result = bitdraft.recommend_deployment(
        model=str(checkpoint),
        precisions=("fp32",),
        k="2-3",
        dataset=f"file:{story}",
        num_prompts=5,
        max_prompt_tokens=24,
        max_new_tokens=14,
        ppl_max_tokens=600,
        kl_max_tokens=0,
        device="cpu",
    )
    assert {row.draft for row in result.contenders} == {None, "ngram"}
    assert not list(tmp_path.iterdir())
