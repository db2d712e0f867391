from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bitdraft import formats
from bitdraft.config import ModelConfig
from bitdraft.errors import UserError
from bitdraft.inputs.checkpoints import DEMO_MODELS, content_id, find_checkpoint
from bitdraft.inputs.models import load_model, resolve_device
from bitdraft.inputs.tokenizers import load_tokenizer
from bitdraft.inputs.variants import Variant
from tiny import change_weights, save_checkpoint, tiny_model

CPU = torch.device("cpu")


def find(folder: Path | str, **flags: bool) -> None:
    find_checkpoint(ModelConfig.model_validate({"model": str(folder), **flags}))


def test_stored_dtype_context_and_vocabulary_come_from_the_files(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, tiny_model().half())
    found = find_checkpoint(ModelConfig(model=str(tmp_path)))
    assert found.stored_dtype == "fp16"
    assert (found.context_tokens, found.vocab_size) == (256, 288)
    assert found.architecture == "GPTNeoXForCausalLM"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_every_parameter_has_the_asked_dtype(checkpoint: Path, precision: str) -> None:
    config = ModelConfig(model=str(checkpoint))
    loaded = load_model(Variant(find_checkpoint(config), precision), CPU, config)
    size = 4 if precision == "fp32" else 2
    num_parameters = sum(p.numel() for p in tiny_model().parameters())
    assert loaded.num_parameters == num_parameters
    assert loaded.weight_bytes == num_parameters * size
    assert loaded.streamed_bytes == (num_parameters - 288 * 32) * size  # the input embedding is not streamed
    assert not loaded.model.training


def test_a_variant_says_its_bytes_before_it_is_loaded(checkpoint: Path) -> None:
    found = find_checkpoint(ModelConfig(model=str(checkpoint)))
    for name in formats.USUAL:
        variant = Variant(found, name)
        loaded = load_model(variant, CPU, ModelConfig(model=str(checkpoint)))
        assert variant.weight_bytes == loaded.weight_bytes
        assert loaded.variant == variant


def test_any_byte_of_a_checkpoint_makes_it_another(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    shutil.copytree(checkpoint, folder)
    config = ModelConfig(model=str(folder))
    before = content_id(find_checkpoint(config))
    assert before == content_id(find_checkpoint(ModelConfig(model=str(checkpoint))))
    with (folder / "model.safetensors").open("r+b") as handle:
        handle.seek(-3, 2)
        last = handle.read(1)
        handle.seek(-3, 2)
        handle.write(bytes([last[0] ^ 1]))
    assert content_id(find_checkpoint(config)) != before


def test_tied_weights_count_once_and_are_streamed(tmp_path: Path) -> None:
    model = tiny_model("llama")
    save_checkpoint(tmp_path, model)
    config = ModelConfig(model=str(tmp_path))
    loaded = load_model(Variant(find_checkpoint(config), "fp32"), CPU, config)
    assert loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight
    assert loaded.num_parameters == sum(p.numel() for p in set(model.parameters()))
    assert loaded.streamed_bytes == loaded.weight_bytes


def edit_config(**changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return edit


def truncate_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def garble_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 400)


def pickle_only(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(tiny_model().state_dict(), folder / "pytorch_model.bin")


def missing_shard(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": {"a": "model-1.safetensors"}})
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "holds no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "config.json cannot be read"),
        (edit_config(architectures=["BertForMaskedLM"]), "not a causal language model"),
        (edit_config(architectures=["T5ForConditionalGeneration"]), "not a causal language model"),
        (
            edit_config(model_type="mine", auto_map={"AutoModelForCausalLM": "modeling.Mine"}),
            "needs Python code",
        ),
        (truncate_weights, "model.safetensors is truncated or corrupt"),
        (garble_weights, "model.safetensors is truncated or corrupt"),
        (pickle_only, "pickle only.*--allow-pickle"),
        (lambda f: (f / "model.safetensors").rename(f / "part.safetensors"), "neither model.safetensors nor"),
        (missing_shard, "weight file model-1.safetensors is missing"),
        (lambda f: (f / "model.safetensors").unlink(), "has no safetensors weights"),
    ],
)
def test_bad_checkpoints_are_named(
    checkpoint: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(checkpoint, folder)
    damage(folder)
    with pytest.raises(UserError, match=message) as caught:
        find(folder)
    assert caught.value.field == "model"


NAME = "gpt_neox.layers.1.mlp.dense_h_to_4h.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop(NAME), f"weight {NAME} is missing"),
        (lambda weights: weights.update({NAME: torch.zeros(3, 3)}), f"weight {NAME} has another shape"),
    ],
)
def test_weights_are_never_filled_with_random_numbers(
    checkpoint: Path, tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], object], message: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(checkpoint, folder)
    change_weights(folder, change)
    config = ModelConfig(model=str(folder))
    with pytest.raises(UserError, match=message):
        load_model(Variant(find_checkpoint(config), "fp32"), CPU, config)


def test_pickle_is_loaded_only_when_allowed(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(checkpoint, folder)
    pickle_only(folder)
    config = ModelConfig(model=str(folder), allow_pickle=True)
    found = find_checkpoint(config)
    assert found.stored_dtype == "unknown"
    assert load_model(Variant(found, "fp32"), CPU, config).num_parameters > 0


def test_missing_tokenizer_is_named(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns("tokenizer*"))
    config = ModelConfig(model=str(folder))
    with pytest.raises(UserError, match="has no tokenizer"):
        load_tokenizer(find_checkpoint(config), config)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("demo/giant", "no such embedded model"),
        ("./nothing", "no such folder"),
        ("/no/such/model", "no such folder"),
        (__file__, "is a file"),
    ],
)
def test_bad_names_are_told_apart(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find(name)


def test_embedded_models_are_fp32_and_small() -> None:
    found = [find_checkpoint(ModelConfig(model=f"demo/{name}")) for name in DEMO_MODELS]
    assert {checkpoint.stored_dtype for checkpoint in found} == {"fp32"}
    assert sum(checkpoint.stored_bytes for checkpoint in found) <= 40e6
    vocabularies = [(c.folder / "tokenizer.json").read_bytes() for c in found]
    assert len(set(vocabularies)) == 1


def test_embedded_models_are_trained() -> None:
    """Held-out perplexity: the target's under a quarter of the unigram model's, the drafts' between."""
    for text in ("stdlib", "validation.txt"):
        ppl, unigram = {}, {}
        for name in DEMO_MODELS:
            folder = find_checkpoint(ModelConfig(model=f"demo/{name}")).folder
            held_out = json.loads((folder / "training.json").read_text())["held_out"][text]
            ppl[name], unigram[name] = held_out["ppl"], held_out["unigram_ppl"]
        assert ppl["target"] < unigram["target"] / 4
        assert ppl["target"] < ppl["draft-medium"] < ppl["draft-small"] < unigram["target"]


def test_absent_devices_are_named() -> None:
    with pytest.raises(UserError, match="usable CUDA devices"):
        resolve_device("cuda:99")
    if not torch.backends.mps.is_available():
        with pytest.raises(UserError, match="no usable Metal device"):
            resolve_device("mps")
    assert resolve_device("cpu") == CPU
