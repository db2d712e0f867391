"""Formats beside torch's own, from flags to files: llama.cpp's, torchao's, and what can't be."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

import bitdraft
from bitdraft.cli import app
from bitdraft.inputs import quantised
from bitdraft.inputs.variants import is_installed
from bitdraft.recommend.snippets import Setting, llama_cpp_command
from bitdraft.schema.io import read_result
from bitdraft.schema.precision import PrecisionResult
from bitdraft.schema.spec_decode import SpecDecodeResult
from gguf_files import needs_llama_cpp, write_tiny
from in_process import files_of, jobs_in_process
from tiny import noisy_copy, save_checkpoint, tiny_model, tiny_tokenizer

SMALL = ["--num-prompts", "3", "--max-prompt-tokens", "24", "--max-new-tokens", "12", "--device", "cpu"]
needs_torchao = pytest.mark.skipif(not is_installed("torchao"), reason="needs torchao")


@pytest.fixture(autouse=True)
def _in_process() -> Iterator[None]:
    with jobs_in_process():
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("gguf")
    draft = noisy_copy("gpt_neox", 0, 0.05)
    return {
        "target": write_tiny(root / "target", None, "Q8_0"),
        "wide": write_tiny(root / "wide"),
        "draft": write_tiny(root / "draft", draft, "Q4_0"),
    }


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def measure(*arguments: object, output: Path) -> PrecisionResult:
    result = invoke("precision", *arguments, *SMALL, "--rounds", 1, "--output", output)
    assert result.exit_code == 0, result.output
    return read_result(output / "precision.json", PrecisionResult)


@needs_llama_cpp
def test_formats_of_both_backends_stand_side_by_side(
    checkpoint: Path, text_file: Path, tmp_path: Path
) -> None:
    formats = "fp32,bf16,gguf-f32,Q8_0,Q4_0"
    flags = ["--precisions", formats, "--ppl-max-tokens", 400]
    found = measure(checkpoint, *flags, "--dataset", f"file:{text_file}", output=tmp_path)
    rows = {row.precision: row for row in found.rows}
    assert list(rows) == formats.split(",")
    assert {row.status for row in rows.values()} == {"ok"}
    kl = {name: row.quality.kl_divergence for name, row in rows.items() if name != "fp32"}
    values = {name: figure.value for name, figure in kl.items() if figure is not None}
    assert values["gguf-f32"] < values["Q8_0"] < values["Q4_0"]
    assert rows["Q8_0"].raw.tensor_types is not None
    assert rows["Q4_0"].raw.weight_bytes is not None
    assert found.floor is not None
    assert found.floor.kl_divergence is not None
    assert found.floor.kl_divergence.value < values["Q8_0"] / 10
    assert {"precision_formats.csv", "precision_formats.png"} <= files_of(tmp_path)
    with (tmp_path / "precision_formats.csv").open() as handle:
        table = {line["format"]: line for line in csv.DictReader(handle)}
    assert list(table)[-1] == "rounding alone"
    q8 = rows["Q8_0"]
    assert float(table["Q8_0"]["mean_kld"]) == values["Q8_0"]
    assert float(table["Q8_0"]["same_top_p"]) == q8.quality.figures()["top1_agreement"].value
    assert float(table["Q8_0"]["bits_per_weight"]) < 12 < float(table["fp32"]["bits_per_weight"])
    names = {"size_gib", "ppl_ratio", "median_kld", "kld_99", "kld_99.9", "maximum_kld", "rms_delta_p"}
    assert names <= table["Q8_0"].keys()


@needs_llama_cpp
def test_a_file_is_measured_as_it_is(files: dict[str, Path], text_file: Path, tmp_path: Path) -> None:
    dataset = ["--dataset", f"file:{text_file}", "--ppl-max-tokens", 200]
    own = measure(files["target"], *dataset, output=tmp_path / "own")
    assert [row.precision for row in own.rows] == ["Q8_0"]
    assert own.model.name == "tiny-Q8_0.gguf"
    assert own.model.stored_dtype == "Q8_0"
    made = measure(files["wide"], "--precisions", "gguf-f32,Q8_0", *dataset, output=tmp_path / "made")
    assert made.rows[1].metrics["ppl"].value == own.rows[0].metrics["ppl"].value
    named = ["--precisions", "fp32", "--gguf", f"Q8_0={files['target']}"]
    beside = measure(files["target"].parent, *named, *dataset, output=tmp_path / "beside")
    assert [row.precision for row in beside.rows] == ["fp32", "Q8_0"]
    assert beside.rows[1].metrics["ppl"].value == own.rows[0].metrics["ppl"].value
    text = (tmp_path / "beside" / "precision.json").read_text()
    assert str(tmp_path) not in text
    assert str(files["target"].parent) not in text


@needs_llama_cpp
def test_a_sweep_over_llama_cpp_is_lossless_and_as_replayed(
    files: dict[str, Path], text_file: Path, tmp_path: Path
) -> None:
    flags = ["--draft", files["draft"], "--draft", "ngram", "--k", "1-4", "--batch-size", "1,2"]
    result = invoke(
        *("spec-decode", files["target"], "--dataset", f"file:{text_file}", *SMALL, *flags),
        *("--output", tmp_path),
    )
    assert result.exit_code == 0, result.output
    [path] = tmp_path.glob("spec_decode_*.json")
    found = read_result(path, SpecDecodeResult)
    assert (found.config.precision, found.model.precision, found.model.backend) == (
        "Q8_0",
        "Q8_0",
        "llama.cpp",
    )
    assert found.drafts["tiny-Q4_0.gguf"].precision == "Q4_0"
    assert {row.status for row in found.rows} == {"ok"}
    for row in found.sweep:
        if row.batch_size == 1 and row.lossless is not None:
            assert row.lossless.identical == row.lossless.num_prompts
    plan = invoke(
        *("spec-decode", files["target"], "--draft", files["draft"], "--plan", "--k", "1-4"),
        *("--dataset", f"file:{text_file}", *SMALL),
    )
    assert plan.exit_code == 0, plan.output


@needs_torchao
def test_integers_of_torchao_and_what_a_cpu_cannot_do(
    checkpoint: Path, text_file: Path, tmp_path: Path
) -> None:
    flags = ["--precisions", "fp32,int8,int8-dynamic,int4,fp8", "--ppl-max-tokens", 200]
    found = measure(checkpoint, *flags, "--dataset", f"file:{text_file}", output=tmp_path / "precision")
    rows = {row.precision: row for row in found.rows}
    assert {name: row.status for name, row in rows.items()} == {
        "fp32": "ok",
        "int8": "ok",
        "int8-dynamic": "ok",
        "int4": "unsupported",
        "fp8": "unsupported",
    }
    assert "needs a CUDA GPU" in str(rows["int4"].reason)
    int8, fp32 = rows["int8"].raw, rows["fp32"].raw
    assert int8.num_parameters == fp32.num_parameters
    assert int8.weight_bytes is not None
    assert fp32.weight_bytes is not None
    # linear layers a byte a weight and a scale a row, the rest in two
    assert 0.25 < int8.weight_bytes / fp32.weight_bytes < 0.4
    kl = rows["int8"].quality.kl_divergence
    assert kl is not None
    assert 0 < kl.value < 0.01
    sweep = bitdraft.evaluate_spec_decode(
        model=str(checkpoint),
        drafts="ngram",
        k=2,
        precision="int8",
        dataset=f"file:{text_file}",
        num_prompts=2,
        max_prompt_tokens=20,
        max_new_tokens=10,
        device="cpu",
    )
    assert {row.status for row in sweep.rows} == {"ok"}


@needs_torchao
def test_a_quantiser_that_spoils_a_layer_is_found(
    checkpoint: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One layer's weights to four levels, beside the same format as it should be."""
    flags = ["--precisions", "fp32,int8", "--dataset", f"file:{text_file}", "--ppl-max-tokens", 1600]
    good = measure(checkpoint, *flags, output=tmp_path / "good").rows[1].quality.kl_divergence
    quantise = quantised.quantise

    def spoil(model: Any, wanted: Any) -> None:
        weight = model.gpt_neox.layers[1].mlp.dense_h_to_4h.weight
        level = weight.abs().max() / 2
        weight.data = (weight.data / level).round().clamp(-2, 1) * level
        quantise(model, wanted)

    monkeypatch.setattr("bitdraft.inputs.models.quantise", spoil)
    found = measure(checkpoint, *flags, output=tmp_path / "bad")
    bad = found.rows[1].quality.kl_divergence
    assert good is not None
    assert bad is not None
    assert bad.low is not None
    assert good.high is not None
    assert bad.low > 10 * good.high
    assert found.verdict.precision == "fp32"


def pairs_of(*arguments: object, output: Path) -> SpecDecodeResult:
    result = invoke("spec-decode", *SMALL, *arguments, "--output", output)
    assert result.exit_code == 0, result.output
    [path] = output.glob("spec_decode_*.json")
    return read_result(path, SpecDecodeResult)


@needs_llama_cpp
def test_pairs_of_formats_are_what_sweeps_of_them_measure(
    checkpoint: Path, text_file: Path, tmp_path: Path
) -> None:
    draft = save_checkpoint(tmp_path / "draft", noisy_copy("gpt_neox", 0, 0.05))
    common = [checkpoint, "--draft", draft, "--dataset", f"file:{text_file}", "--k", "1-4"]
    flags = ["--plan", "--pairs", "fp32,Q8_0", "--kv-caches", "auto,f32"]
    found = pairs_of(*common, *flags, output=tmp_path / "pairs")
    names = [(pair.target, pair.kv_cache, pair.draft_precision) for pair in found.pairs]
    caches = [("fp32", "auto"), ("Q8_0", "auto"), ("Q8_0", "f32")]
    assert names == [(*target, own) for target in caches for own in ("fp32", "Q8_0")]
    for target, own in (("fp32", "Q8_0"), ("Q8_0", "Q8_0"), ("Q8_0", "fp32")):
        formats = ["--precision", target, "--draft-precision", own]
        sweep = pairs_of(*common, *formats, output=tmp_path / f"{target}-{own}")
        [pair] = [
            one
            for one in found.pairs
            if (one.target, one.kv_cache, one.draft_precision) == (target, "auto", own)
        ]
        measured = {row.k: row.metrics["tokens_per_step"].value for row in sweep.sweep}
        assert pair.tokens_per_step == pytest.approx(measured)
    lines = [*csv.DictReader((tmp_path / "pairs" / "spec_decode_plan_file-story_pairs.csv").open())]
    assert len(lines) == 6
    assert (
        "Formats of target and draft" in (tmp_path / "pairs" / "spec_decode_plan_file-story.md").read_text()
    )
    assert not [one for one in found.findings if one.code in ("pairs.dead", "pairs.halved", "pairs.lost")]


@needs_torchao
def test_a_draft_that_its_format_killed_is_an_alarm(
    checkpoint: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of a draft's layers to noise, in one format alone; another format can't be run at all."""
    quantise = quantised.quantise

    def kill(model: Any, wanted: Any) -> None:
        if "draft" in model.name_or_path:
            for number, parameter in enumerate(model.parameters()):
                noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
                parameter.data.copy_(noise)
        quantise(model, wanted)

    monkeypatch.setattr("bitdraft.inputs.models.quantise", kill)
    draft = save_checkpoint(tmp_path / "draft", noisy_copy("gpt_neox", 0, 0.02))
    flags = ["--draft", draft, "--dataset", f"file:{text_file}", "--plan", "--pairs", "fp32,int8,int4"]
    found = pairs_of(checkpoint, *flags, "--k", "2", output=tmp_path / "out")
    alarms = {
        (one.code, one.figures["own"]) for one in found.findings if one.code in ("pairs.dead", "pairs.halved")
    }
    assert {own for _, own in alarms} == {"int8"}
    assert any("Look at how it was quantised" in text for text in found.warnings)
    lost = [one for one in found.findings if one.code == "pairs.lost"]
    assert {one.subject for one in lost} == {"int4", "draft in int4"}
    assert {one.figures["status"] for one in lost} == {"unsupported"}


def test_a_draft_that_agrees_with_nothing_is_said_to(
    checkpoint: Path, text_file: Path, tmp_path: Path
) -> None:
    model = tiny_model()
    head = model.get_output_embeddings()
    head.weight.data = head.weight.data.roll(1, 0)
    draft = save_checkpoint(tmp_path / "draft", model)
    flags = ["--draft", draft, "--dataset", f"file:{text_file}", "--plan", "--k", "2", "--max-new-tokens", 60]
    found = pairs_of(checkpoint, *flags, output=tmp_path / "out")
    assert [one.subject for one in found.findings if one.code == "spec.dead_draft"] == ["draft"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--temperature", "0.5"], "are compared on greedy texts"),
        (["--draft", "ngram"], "prompt lookup has no weights"),
        (["--kv-caches", "q9"], "no such numbers of a cache"),
    ],
)
def test_pairs_that_cannot_be_looked_at_are_refused(
    flags: list[str], message: str, checkpoint: Path, text_file: Path
) -> None:
    drafts = [] if "--draft" in flags else ["--draft", checkpoint]
    common = ["--dataset", f"file:{text_file}", "--plan", "--pairs", "fp32,bf16", *SMALL]
    result = invoke("spec-decode", checkpoint, *drafts, *common, *flags)
    assert result.exit_code == 2
    assert message in result.output.replace("\n", " ")


needs_bitsandbytes = pytest.mark.skipif(not is_installed("bitsandbytes"), reason="needs bitsandbytes")


@pytest.fixture(scope="module")
def original_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As wide as bitsandbytes' blocks."""
    model = tiny_model(hidden_size=64, intermediate_size=128)
    return save_checkpoint(tmp_path_factory.mktemp("original"), model)


@pytest.fixture(scope="module")
def quantised_checkpoint(original_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As transformers saves one that bitsandbytes has quantised."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    how = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    model = AutoModelForCausalLM.from_pretrained(
        original_checkpoint, quantization_config=how, dtype=torch.bfloat16
    )
    folder = tmp_path_factory.mktemp("quantised")
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@needs_bitsandbytes
def test_a_quantised_checkpoint_is_measured_as_it_is_beside_its_original(
    quantised_checkpoint: Path, original_checkpoint: Path, text_file: Path, tmp_path: Path
) -> None:
    common = ["--dataset", f"file:{text_file}", "--ppl-max-tokens", 600]
    flags = ["--precisions", "stored", "--reference", original_checkpoint]
    found = measure(quantised_checkpoint, *flags, *common, output=tmp_path / "own")
    assert [(row.precision, row.status) for row in found.rows] == [("stored", "ok"), ("original", "ok")]
    stored, original = found.rows
    assert found.model.quantised_by == "bitsandbytes"
    made = measure(original_checkpoint, "--precisions", "fp32,nf4", *common, output=tmp_path / "made")
    assert original.metrics["ppl"].value == made.rows[0].metrics["ppl"].value
    kl, of_made = stored.quality.kl_divergence, made.rows[1].quality.kl_divergence
    assert kl is not None
    assert of_made is not None
    assert kl.value == pytest.approx(of_made.value, rel=0.3), "the same method, made here"
    assert stored.raw.num_parameters == original.raw.num_parameters
    assert str(original_checkpoint) not in (tmp_path / "own" / "precision.json").read_text()
    sweep = invoke(
        *("spec-decode", quantised_checkpoint, "--precision", "stored", "--draft", "ngram", "--k", "2"),
        *common[:2],
        *SMALL,
    )
    assert sweep.exit_code == 0, sweep.output


@needs_bitsandbytes
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "is quantised already (by bitsandbytes): no other precision is left"),
        (["--precisions", "stored,fp32"], "no other precision is left"),
        (["--precisions", "stored", "--reference", "itself"], "is quantised already"),
        (["--precisions", "stored", "--reference", "/no/such/folder"], "--reference /no/such/folder"),
    ],
)
def test_what_a_quantised_checkpoint_has_not_is_refused(
    flags: list[str], message: str, quantised_checkpoint: Path, text_file: Path
) -> None:
    own = [str(quantised_checkpoint) if flag == "itself" else flag for flag in flags]
    result = invoke("precision", quantised_checkpoint, *own, "--dataset", f"file:{text_file}", *SMALL)
    assert result.exit_code == 2
    assert message in result.output.replace("\n", " ")


@needs_llama_cpp
@pytest.mark.parametrize(
    ("command", "flags", "message"),
    [
        ("precision", ["wide", "--backend", "transformers"], "--backend transformers: runs no gguf-f32"),
        (
            "precision",
            ["checkpoint", "--precisions", "fp32", "--kv-cache", "q8_0"],
            "is a setting of llama.cpp",
        ),
        ("precision", ["checkpoint", "--gguf", "Q8_0="], "no file is named for Q8_0"),
        ("precision", ["checkpoint", "--gguf", "Q8_0=a", "--gguf", "q8_0=b"], "two files are named for Q8_0"),
        ("precision", ["pythia-70m", "--random-weights", "--gguf", "Q8_0=x"], "no such file"),
        (
            "spec-decode",
            ["wide", "--draft", "ngram", "--k", "2", "--kv-caches", "q8_0"],
            "of pairs of formats",
        ),
    ],
)
def test_settings_that_mean_nothing_are_refused(  # noqa: PLR0917 - its parameters are cases and fixtures
    command: str,
    flags: list[str],
    message: str,
    files: dict[str, Path],
    checkpoint: Path,
    text_file: Path,
) -> None:
    places = {**files, "checkpoint": checkpoint}
    own = [str(places.get(flag, flag)) for flag in flags]
    result = invoke(command, *own, "--dataset", f"file:{text_file}", *SMALL)
    assert result.exit_code == 2, result.output
    assert message in result.output.replace("\n", " ")


def test_stored_is_for_quantised_checkpoints_alone(checkpoint: Path, text_file: Path) -> None:
    flags = ["--precisions", "stored", "--dataset", f"file:{text_file}"]
    result = invoke("precision", checkpoint, *flags, *SMALL)
    assert result.exit_code == 2
    assert "is for checkpoints that are quantised already" in result.output.replace("\n", " ")


@needs_llama_cpp
def test_divergence_on_the_references_own_answers(checkpoint: Path, text_file: Path, tmp_path: Path) -> None:
    flags = ["--precisions", "fp32,Q4_0", "--kld-on", "prompts", "--dataset", f"file:{text_file}"]
    found = measure(checkpoint, *flags, output=tmp_path)
    kl = found.rows[1].raw.kl_divergence
    assert kl is not None
    assert len(kl) == 3 * 12, "every token of every answer"
    assert min(kl) >= 0


@pytest.mark.parametrize(
    ("name", "package", "line"),
    [
        ("Q8_0", "llama_cpp", "pip install 'bitdraft[llama-cpp]'"),
        ("int8", "torchao", "pip install 'bitdraft[quant]'"),
        ("nf4", "bitsandbytes", "pip install 'bitdraft[quant]'"),
    ],
)
def test_a_missing_package_is_one_line_that_installs_it(  # noqa: PLR0917 - its parameters are cases and fixtures
    name: str,
    package: str,
    line: str,
    checkpoint: Path,
    text_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    has = is_installed
    monkeypatch.setattr(
        "bitdraft.inputs.variants.is_installed", lambda asked: asked != package and has(asked)
    )
    flags = ["--precisions", f"fp32,{name}", "--dataset", f"file:{text_file}"]
    result = invoke("precision", checkpoint, *flags, *SMALL)
    assert result.exit_code == 2
    assert f"needs {package}, which is not installed" in result.output.replace("\n", " ")
    assert line in result.output.replace("\n", " ")


@needs_llama_cpp
def test_files_of_another_model_are_no_format_of_this_one(
    checkpoint: Path, files: dict[str, Path], text_file: Path, tmp_path: Path
) -> None:
    other = save_checkpoint(tmp_path / "other", tiny_model())
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    flags = ["--precisions", "fp32", "--gguf", f"Q8_0={files['target']}", "--dataset", f"file:{text_file}"]
    result = invoke("precision", other, *flags, *SMALL)
    assert result.exit_code == 2
    assert "its vocabulary is another one than the model's" in result.output.replace("\n", " ")
    wrong = invoke("precision", files["target"], "--precisions", "bf16", *flags[-2:], *SMALL)
    assert wrong.exit_code == 2
    assert "is no format of tiny-Q8_0.gguf" in wrong.output.replace("\n", " ")


@needs_llama_cpp
def test_the_decoder_runs_files(files: dict[str, Path]) -> None:
    plain = bitdraft.Decoder(str(files["target"])).generate("the cat", max_new_tokens=10, ignore_eos=True)
    drafted = bitdraft.Decoder(str(files["target"]), draft=str(files["draft"]), k=3).generate(
        "the cat", max_new_tokens=10, ignore_eos=True
    )
    assert plain.token_ids == drafted.token_ids
    assert len(plain.token_ids) == 10
    assert isinstance(plain.text, str)
    assert drafted.generation.steps


def test_llama_cpps_command_has_a_k_that_is_k() -> None:
    config = bitdraft.RecommendConfig(temperature=0.5, top_k=20, kv_cache="q8_0", flash_attention="on")
    setting = Setting(
        *("org/t", "org/t", "Q4_K_M"),
        draft="org/d",
        own_draft="org/d",
        k=4,
        gguf="t-Q4_K_M.gguf",
        draft_gguf="d-Q8_0.gguf",
    )
    words = shlex.split(llama_cpp_command(setting, config), comments=True)
    flags = dict(zip(words[1::2], words[2::2], strict=True))
    assert words[0] == "llama-server"
    assert (flags["-m"], flags["-md"]) == ("t-Q4_K_M.gguf", "d-Q8_0.gguf")
    assert (flags["--spec-draft-n-max"], flags["--spec-draft-p-min"]) == ("4", "0")
    assert (flags["-ctk"], flags["-ctvd"], flags["-fa"]) == ("q8_0", "q8_0", "on")
    assert (flags["--temp"], flags["--top-k"], flags["--min-p"]) == ("0.5", "20", "0")


def test_weights_of_several_tensors_are_counted() -> None:
    plain = torch.nn.Parameter(torch.zeros(4, 8))
    assert (quantised.num_bytes(plain), quantised.num_elements(plain)) == (128, 32)
