"""Shapes: what is built of them, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bitdraft.config import PRECISIONS, ModelConfig, Precision, make_config
from bitdraft.errors import UserError
from bitdraft.inputs.checkpoints import find_checkpoint
from bitdraft.inputs.models import NOISE_LENGTH, LoadedModel, load_model, torch_dtype
from bitdraft.inputs.shapes import SHAPE_FOLDER, SHAPES
from bitdraft.inputs.tokenizers import check_token_ids, load_tokenizer
from bitdraft.inputs.variants import Variant
from tiny import save_shape, tokens

NUM_PARAMETERS = {
    "pythia-70m": 70_426_624,
    "pythia-160m": 162_322_944,
    "pythia-410m": 405_334_016,
    "pythia-1.4b": 1_414_647_808,
    "pythia-2.8b": 2_775_208_960,
}


def draw(
    shape: Path | str, precision: Precision = "fp32", *, device: str = "cpu", seed: int = 0
) -> LoadedModel:
    config = ModelConfig(model=str(shape), random_weights=True, seed=seed)
    return load_model(Variant(find_checkpoint(config), precision), torch.device(device), config)


def test_the_embedded_shapes_are_those_that_are_named() -> None:
    assert sorted(SHAPES) == sorted(path.name for path in SHAPE_FOLDER.iterdir()) == sorted(NUM_PARAMETERS)


@pytest.mark.parametrize("shape", SHAPES)
def test_embedded_shapes_have_the_published_sizes(shape: str) -> None:
    loaded = draw(shape, "fp16", device="meta")
    assert loaded.num_parameters == NUM_PARAMETERS[shape]
    assert loaded.model.gpt_neox.layers[0].use_parallel_residual
    config = loaded.model.config
    assert (config.vocab_size, config.max_position_embeddings, config.eos_token_id) == (50304, 2048, 0)
    assert config.rope_parameters["partial_rotary_factor"] == 0.25
    assert loaded.streamed_bytes == loaded.weight_bytes - 2 * 50304 * config.hidden_size


@pytest.mark.parametrize("precision", PRECISIONS)
def test_weights_are_drawn_in_the_asked_dtype_and_logits_are_finite(precision: Precision) -> None:
    loaded = draw("pythia-70m", precision)
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch_dtype(precision)}
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert not loaded.model.training
    logits_BTV = loaded.model(torch.tensor([tokens(0, 12)])).logits
    assert logits_BTV.isfinite().all()
    assert logits_BTV.float().std() > 0.1


def test_a_seed_gives_the_same_weights_at_every_precision(tmp_path: Path) -> None:
    shape = save_shape(tmp_path)
    drawn: list[tuple[Precision, int]] = [("fp32", 3), ("fp32", 3), ("bf16", 3), ("fp32", 4)]
    first, again, half, other = (
        dict(draw(shape, precision, seed=seed).model.named_parameters()) for precision, seed in drawn
    )
    for name, weight in first.items():
        assert torch.equal(weight, again[name])
        assert torch.equal(weight.bfloat16(), half[name])
        if weight.ndim == 2:
            assert not torch.equal(weight, other[name])
            assert len(weight.unique(dim=0)) == len(weight)
            assert weight.std() == pytest.approx(0.02, rel=0.05)
    model = draw(shape).model
    assert not torch.equal(model.get_input_embeddings().weight, model.get_output_embeddings().weight)


def test_a_matrix_longer_than_the_noise_has_no_two_rows_alike() -> None:
    weight = draw("pythia-70m").model.get_input_embeddings().weight
    assert weight.numel() > 4 * NOISE_LENGTH
    assert len(weight[:, :4].unique(dim=0)) == len(weight)


def test_tied_embeddings_stay_tied(tmp_path: Path) -> None:
    loaded = draw(save_shape(tmp_path, "llama"))
    assert loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight
    assert loaded.streamed_bytes == loaded.weight_bytes


def test_a_config_may_be_written_by_hand(tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 2048, **sizes}))
    loaded = draw(tmp_path)
    assert type(loaded.model).__name__ == "LlamaForCausalLM"
    assert loaded.model(torch.tensor([[1, 2, 3]])).logits.isfinite().all()


def test_a_shape_is_a_marked_checkpoint_with_the_embedded_tokenizer(tmp_path: Path) -> None:
    config = ModelConfig(model=str(save_shape(tmp_path)), random_weights=True)
    found = find_checkpoint(config)
    record = found.record()
    assert record.name == f"{tmp_path.name} (random weights)"
    assert (record.random_weights, record.stored_dtype, record.stored_bytes) == (True, "none", 0)
    assert (found.architecture, found.context_tokens) == ("GPTNeoXForCausalLM", 256)
    embedded = load_tokenizer(find_checkpoint(ModelConfig()), ModelConfig())
    assert load_tokenizer(found, config).get_vocab() == embedded.get_vocab()
    small = find_checkpoint(ModelConfig(model=str(save_shape(tmp_path, vocab_size=100)), random_weights=True))
    check_token_ids(99, small)
    with pytest.raises(UserError, match=r"gives id 700, .* 100 rows\. Set vocab_size .* to 701 or more"):
        check_token_ids(700, small)


@pytest.mark.parametrize(
    ("settings", "field", "message"),
    [
        ({"model": "pythia-6.9b"}, "model", "no such shape or folder. Choose pythia-70m, "),
        ({"model": "EleutherAI/gpt-j-6b"}, "model", "no such shape or folder. Choose pythia-70m, "),
        ({"model": "demo/target"}, "model", "trained weights, no shape. Leave --random-weights out"),
        ({"model": __file__}, "model", "is a file"),
        ({"model": str(SHAPE_FOLDER)}, "model", "holds no config.json"),
        ({"revision": "main"}, "revision", "no revisions. Leave it out"),
        ({"allow_pickle": True}, "allow_pickle", "read from no file. Leave it out"),
        ({"trust_remote_code": True}, "trust_remote_code", "brings no code. Leave it out"),
        ({"random_weights": False}, "model", "without weights. Add --random-weights, or name EleutherAI/pyt"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, object], field: str, message: str) -> None:
    given = {"model": "pythia-70m", "random_weights": True} | settings
    with pytest.raises(UserError) as caught:
        find_checkpoint(make_config(ModelConfig, given))
    assert caught.value.field == field
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_type": "t5"}, "not a causal language model"),
        ({"model_type": "gpt_neox"}, "names no vocab_size"),
        ({"architectures": ["BertForMaskedLM"], "vocab_size": 9}, "not a causal language model"),
    ],
)
def test_folders_that_are_no_shape_are_refused(
    tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=message):
        find_checkpoint(ModelConfig(model=str(tmp_path), random_weights=True))


def test_a_folders_weights_are_not_read(tmp_path: Path) -> None:
    save_shape(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 400)
    assert draw(tmp_path).num_parameters > 0
