"""Checkpoints, texts and settings as people have them: each is measured for what it is, or refused by its
kind before anything is loaded."""

from __future__ import annotations

import gzip
import json
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers.processors import TemplateProcessing
from transformers import AutoConfig, AutoModelForCausalLM

import bitdraft
from bitdraft.backends.base import EngineSetup
from bitdraft.backends.native import NativeEngine
from bitdraft.config import DecodingConfig, ModelConfig, PrecisionConfig, SamplingConfig, make_config
from bitdraft.errors import UserError
from bitdraft.inputs.checkpoints import find_checkpoint
from bitdraft.inputs.models import load_model
from bitdraft.inputs.tokenizers import draft_tokenizer_problem, foreign_ids, load_tokenizer
from bitdraft.inputs.variants import Variant
from bitdraft.matrix.read import read_matrix
from bitdraft.metrics.quality import perplexity, score_blocks
from bitdraft.precision.evaluate import prepare
from in_process import jobs_in_process
from peers_common import blocks_of
from tiny import CONFIGS, change_weights, noisy_copy, save_checkpoint, tiny_model, tiny_tokenizer, tokens

CPU = torch.device("cpu")
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 4976698672\n"
DOWN = "model.layers.1.mlp.down_proj.weight"
LORA = {"peft_type": "LORA", "base_model_name_or_path": "org/base", "r": 8}
STORY = "".join(f"the cat and the hen number {i} sat in the barn and heard the rain\n" for i in range(400))


def edit(path: Path, **changes: Any) -> None:
    """Entries of a JSON file; None leaves one out."""
    data = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))


def config_of(model: Path, text: Path, **changes: Any) -> PrecisionConfig:
    values = {"num_prompts": 5, "max_prompt_tokens": 24, "max_new_tokens": 14, "ppl_max_tokens": 600}
    given = {"model": str(model), "dataset": f"file:{text}", "device": "cpu", "precisions": ("fp32",)}
    return make_config(PrecisionConfig, values | given | changes)


@pytest.fixture
def story(tmp_path: Path) -> Path:
    path = tmp_path / "story.txt"
    path.write_text(STORY)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "model", tiny_model("llama"))


def ppl_of(config: PrecisionConfig) -> float:
    """By the protocol's windows."""
    ready = prepare(config)
    assert ready.plan is not None
    model = load_model(Variant(ready.checkpoint, "fp32"), CPU, config).model
    return perplexity(blocks_of(model, ready.plan), ready.plan.normaliser).value


def quantised(method: str) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "config.json", quantization_config={"quant_method": method})


def lora_alone(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text(json.dumps(LORA))


def gguf_alone(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "model-Q4_K_M.gguf").write_bytes(b"GGUF" + bytes(60))


def both_sets(folder: Path) -> None:
    """A single half-precision file beside fp32 shards with an index."""
    weights = load_file(folder / "model.safetensors")
    save_file(weights, folder / "model-00001-of-00001.safetensors", metadata={"format": "pt"})
    halves = {name: (1.5 * value).half() for name, value in weights.items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, "model-00001-of-00001.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def dangling(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("../../blobs/0123456789abcdef")


def whole_numbers(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    packed = {name: value.to(torch.int8) for name, value in weights.items()}
    save_file(packed, folder / "model.safetensors", metadata={"format": "pt"})


def with_a_prefix_longer_than_tokens(folder: Path) -> None:
    """At which the tokenizers library panics, which is no Exception."""
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    edit(folder / "tokenizer.json", model=model | {"continuing_subword_prefix": "x" * 99})


REFUSED: list[tuple[str, Callable[[Path], Any], str]] = [
    *(
        (method, quantised(method), f"is quantised already .by {name}.*in fp32, fp16 or bf16")
        for method, name in {
            "gptq": "GPTQ",
            "awq": "AWQ",
            "bitsandbytes": "bitsandbytes",
            "compressed-tensors": "compressed-tensors",
            "fp8": "FP8",
            "mxfp4": "MXFP4",
            "to-come": "to-come",
        }.items()
    ),
    ("int8 weights", whole_numbers, "weights stored as i8, which is quantised already"),
    ("adapter", lora_alone, "is a LORA adapter of org/base, not a whole model.*merge_and_unload"),
    (
        "model and adapter",
        lambda f: (f / "adapter_config.json").write_text(json.dumps(LORA)),
        "holds a LORA adapter of org/base beside its weights",
    ),
    ("gguf", gguf_alone, "holds GGUF files .model-Q4_K_M.gguf. and no config.json"),
    ("LFS weights", lambda f: (f / "model.safetensors").write_text(POINTER), "safetensors.*Git LFS pointer"),
    (
        "LFS tokenizer",
        lambda f: (f / "tokenizer.json").write_text(POINTER),
        "tokenizer.json.*Git LFS pointer",
    ),
    ("dangling link", dangling, "model.safetensors is a link to a file that is missing"),
    (
        "tokenizer of another version",
        lambda f: edit(f / "tokenizer.json", pre_tokenizer={"type": "NotYetInvented"}),
        "tokenizers [0-9.]+ cannot load its tokenizer",
    ),
    ("tokenizer of nonsense", with_a_prefix_longer_than_tokens, "cannot load its tokenizer .range end"),
    (
        "strict entry",
        lambda f: edit(f / "config.json", rms_norm_eps=1),
        "refuses its config.json .*rms_norm_eps.*float",
    ),
    (
        "unknown type",
        lambda f: edit(f / "config.json", model_type="qwen9", architectures=["Qwen9ForCausalLM"]),
        "transformers [0-9.]+ has no model type 'qwen9'.*pip install --upgrade transformers",
    ),
    ("no type", lambda f: edit(f / "config.json", model_type=None), "names no model_type"),
    ("two sets of weights", both_sets, "two sets of weights, model.safetensors and the files that"),
    (
        "multimodal",
        lambda f: edit(f / "config.json", vision_config={"hidden_size": 16}),
        "is a multimodal model",
    ),
    (
        "encoder-decoder",
        lambda f: edit(f / "config.json", is_encoder_decoder=True),
        "is an encoder-decoder",
    ),
    (
        "encoder",
        lambda f: edit(f / "config.json", model_type="bert", architectures=["BertLMHeadModel"]),
        "is an encoder, whose tokens see the future",
    ),
    (
        "no cache",
        lambda f: edit(f / "config.json", model_type="xlnet", architectures=["XLNetLMHeadModel"]),
        "keeps no key-value cache",
    ),
    (
        "too many layers",
        lambda f: edit(f / "config.json", num_hidden_layers=10**8),
        "says 100000000 layers, its files hold 29 weights",
    ),
]


@pytest.mark.parametrize(("damage", "message"), [one[1:] for one in REFUSED], ids=[one[0] for one in REFUSED])
def test_what_cannot_be_measured_is_refused_by_its_kind(
    model: Path, story: Path, damage: Callable[[Path], Any], message: str
) -> None:
    damage(model)
    start = time.perf_counter()
    with pytest.raises(UserError, match=message) as caught:
        prepare(config_of(model, story))
    assert time.perf_counter() - start < 20
    assert caught.value.field == ("precisions" if "quantised already .by" in message else "model")
    assert caught.value.remedy


def test_a_configuration_far_larger_than_its_weights_is_found_before_memory_is_taken(model: Path) -> None:
    edit(model / "config.json", intermediate_size=10**8)
    config = ModelConfig(model=str(model))
    with pytest.raises(UserError, match="asks for 28800027872 parameters, its files hold 37088"):
        load_model(Variant(find_checkpoint(config), "fp32"), CPU, config)


@pytest.mark.parametrize("change", ["no architectures", "no metadata", "tied head only", "untied, missing"])
def test_unusual_checkpoints_that_are_whole_are_measured(model: Path, story: Path, change: str) -> None:
    """Tied weights may be stored under either name, whatever the configuration says."""
    expected = ppl_of(config_of(model, story))
    weights = load_file(model / "model.safetensors")
    if change == "no architectures":
        edit(model / "config.json", architectures=None)
    elif change == "no metadata":
        save_file(weights, model / "model.safetensors")
    elif change == "tied head only":
        weights["lm_head.weight"] = weights.pop("model.embed_tokens.weight")
        save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    else:
        edit(model / "config.json", tie_word_embeddings=False)
        with pytest.raises(UserError, match=r"weight lm_head\.weight is missing"):
            ppl_of(config_of(model, story))
        return
    assert ppl_of(config_of(model, story)) == expected


def with_bos(folder: Path) -> Path:
    """A model whose tokenizer puts a BOS token of its own in front of every text."""
    tiny_model("llama", vocab_size=304).save_pretrained(folder)
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<bos>"})
    number = tokenizer.convert_tokens_to_ids("<bos>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", number)]
    )
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("protocol", "expected", "without"),
    [("sliding", 1525.80, 1572.19), ("documents", 1516.06, 1701.32), ("llama.cpp", 1703.60, 1683.08)],
)
def test_what_the_tokenizer_puts_in_front_is_scored_with_it(
    tmp_path: Path, story: Path, protocol: str, expected: float, without: float
) -> None:
    """Values found with other code: transformers' forward over windows cut by hand."""
    config = config_of(with_bos(tmp_path / "bos"), story, ppl_protocol=protocol)
    assert ppl_of(config) == pytest.approx(expected, abs=0.01)
    ready = prepare(config)
    assert ready.plan is not None
    assert ready.plan.card.bos == (277,)
    assert {prompt.token_ids.count(277) for prompt in ready.prompts} == {1}
    assert ppl_of(config.model_copy(update={"bos": "off"})) == pytest.approx(without, abs=0.01)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "gz"])
def test_a_byte_order_mark_is_no_text(model: Path, tmp_path: Path, story: Path, encoding: str) -> None:
    expected = prepare(config_of(model, story))
    other = tmp_path / ("other.txt.gz" if encoding == "gz" else "other.txt")
    if encoding == "gz":
        other.write_bytes(gzip.compress(STORY.encode()))
    else:
        mark = "\ufeff" if encoding == "utf-16-le" else ""
        other.write_text(mark + STORY, encoding=encoding)
    found = prepare(config_of(model, other))
    assert found.plan is not None
    assert expected.plan is not None
    assert found.plan.windows == expected.plan.windows
    assert [p.token_ids for p in found.prompts] == [p.token_ids for p in expected.prompts]


def test_a_byte_order_mark_in_a_configuration(model: Path, story: Path, tmp_path: Path) -> None:
    """Of a matrix it is nothing; transformers reads no config.json that has one."""
    matrix = tmp_path / "matrix.toml"
    matrix.write_text('[[runs]]\ncommand = "precision"\nmodel = "demo/target"\n', encoding="utf-8-sig")
    assert len(read_matrix(matrix)) == 1
    path = model / "config.json"
    path.write_text(path.read_text(), encoding="utf-8-sig")
    with pytest.raises(UserError, match=r"config.json cannot be read .*BOM"):
        prepare(config_of(model, story))


def test_of_a_large_text_only_what_is_needed_is_tokenised(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    path.write_text(STORY * 800)  # 21 MB: 40 s whole
    start = time.perf_counter()
    found = prepare(config_of(model, path, ppl_max_tokens=500, max_prompt_tokens=16))
    assert time.perf_counter() - start < 20
    assert found.plan is not None
    assert found.plan.card.num_scored_tokens == 500


def test_a_long_context_is_not_one_window(tmp_path: Path, story: Path) -> None:
    folder = save_checkpoint(tmp_path / "long", tiny_model("llama", max_position_embeddings=131072))
    for protocol in ("sliding", "lm-eval"):
        found = prepare(config_of(folder, story, ppl_protocol=protocol, ppl_max_tokens=5000))
        assert found.plan is not None
        assert found.plan.card.window == 2048
        own = prepare(config_of(folder, story, ppl_protocol=protocol, ppl_max_tokens=5000, ppl_window=4096))
        assert own.plan is not None
        assert own.plan.card.window == 4096
    with pytest.raises(UserError, match="exceeds the model's context of 131072"):
        prepare(config_of(folder, story, ppl_window=200_000))


def decoded(target: Any, drafts: dict[str, Any], k: int, **setup: Any) -> tuple[int, ...]:
    config = DecodingConfig(max_new_tokens=20)
    engine = NativeEngine(EngineSetup(target, drafts, **setup))
    engine.prepare(tokens(3, 20), config)
    return engine.decode(config, next(iter(drafts)) if k else None, k, 0).token_ids


@pytest.mark.parametrize("execution", ["eager", "static"])
def test_a_draft_with_a_shorter_embedding_never_changes_its_targets_text(execution: Any) -> None:
    """The target likes the ids that the draft has no row for."""
    target = tiny_model("gpt_neox")
    target.get_output_embeddings().weight[280:] *= 3
    short = tiny_model("gpt_neox", seed=1, vocab_size=280)
    alone = decoded(target, {}, 0, execution=execution)
    assert max(alone) >= 280
    for k in (0, 1, 4):
        assert decoded(target, {"short": short}, k, execution=execution) == alone


def tokenizer_with(*added: str) -> Any:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [*added]})
    return tokenizer


def test_tokenizers_that_differ_in_added_tokens_make_a_pair() -> None:
    plain, more, other = (
        tiny_tokenizer(),
        tokenizer_with("<|fim|>"),
        tokenizer_with("<|im_start|>", "<|fim|>"),
    )
    size = len(plain.get_vocab())
    for draft, target, expected in [
        (plain, plain, ()),
        (more, plain, (size,)),
        (plain, more, (size,)),
        (more, other, (size, size + 1)),
    ]:
        assert draft_tokenizer_problem(draft, target, "the cat and the hen") is None
        assert foreign_ids(draft, target) == expected


def test_ids_that_mean_another_token_are_never_proposed() -> None:
    """A draft that would have proposed them proposes none; what is written stays the target's."""
    target, draft = tiny_model("gpt_neox"), noisy_copy("gpt_neox", 0, 0.05)
    alone = decoded(target, {}, 0)
    foreign = sorted(set(alone))[:3]
    config = DecodingConfig(max_new_tokens=20)
    kept = []
    for ids in ((), foreign):
        engine = NativeEngine(EngineSetup(target, {"d": draft}, foreign={"d": ids}))
        engine.prepare(tokens(3, 20), config)
        run = engine.decode(config, "d", 3, 0)
        assert run.token_ids == alone
        kept.append(sum(step.num_accepted for step in run.steps))
    assert kept[1] < kept[0]


@pytest.mark.parametrize("temperature", [1e-6, 1.0])
def test_of_equal_logits_the_one_most_probable_token_is_argmaxs(temperature: float) -> None:
    """Every logit stands twice: `top_k` 1 keeps one of each pair."""
    model = tiny_model("gpt_neox")
    head = model.get_output_embeddings().weight
    head[1::2] = head[0::2].clone()
    sampling = SamplingConfig(temperature=temperature, top_k=1)
    assert decoded(model, {}, 0, sampling=sampling) == decoded(model, {}, 0)


def test_prompts_and_outputs_may_end_exactly_at_the_context(tmp_path: Path, story: Path) -> None:
    folder = save_checkpoint(tmp_path / "short", tiny_model("gpt2", n_positions=64))
    prepare(config_of(folder, story, max_prompt_tokens=40, max_new_tokens=24))
    with pytest.raises(UserError, match="exceed"):
        prepare(config_of(folder, story, max_prompt_tokens=40, max_new_tokens=25))


def rotary(folder: Path, **rope: Any) -> Path:
    """phi3, whose embeddings are others from 48 tokens on."""
    torch.manual_seed(0)
    shape = CONFIGS["llama"]().to_dict()
    kept = {name: shape[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
    settings = AutoConfig.for_model(
        "phi3",
        **kept,
        intermediate_size=64,
        vocab_size=288,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
        max_position_embeddings=256,
        original_max_position_embeddings=48,
        rope_parameters={"rope_theta": 10000.0, **rope},
    )
    return save_checkpoint(folder, AutoModelForCausalLM.from_config(settings).eval())


def test_rotary_embeddings_that_change_on_the_way_are_refused(tmp_path: Path, story: Path) -> None:
    long = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    folder = rotary(tmp_path / "longrope", **long)
    with pytest.raises(UserError, match="crosses 48 tokens, where the model's rotary embeddings change"):
        prepare(config_of(folder, story, max_prompt_tokens=40, max_new_tokens=30))
    prepare(config_of(folder, story, max_prompt_tokens=16, max_new_tokens=30))
    prepare(config_of(folder, story, max_prompt_tokens=60, max_new_tokens=30))


def test_sampling_defaults_of_a_checkpoint_change_nothing_measured(model: Path, story: Path) -> None:
    def text() -> Any:
        return bitdraft.Decoder(str(model), precision="fp32", device="cpu").generate(STORY[:60]).token_ids

    plain = text()
    own = {"do_sample": True, "temperature": 0.7, "repetition_penalty": 1.3, "max_length": 20}
    edit(model / "generation_config.json", **own)
    assert text() == plain


def test_a_checkpoint_of_another_users_cache_needs_no_writing(model: Path, story: Path) -> None:
    """Folders that are read-only are read."""
    for path in (model, *model.iterdir()):
        path.chmod(0o555)
    try:
        prepare(config_of(model, story))
    finally:
        model.chmod(0o755)


def test_a_damaged_tokenizer_is_named_when_it_first_fails(model: Path, story: Path) -> None:
    edit(model / "tokenizer_config.json", model_max_length=[1])
    with pytest.raises(UserError, match="cannot encode a text"):
        prepare(config_of(model, story))


def test_a_template_that_cannot_take_a_conversation_is_named(model: Path, tmp_path: Path) -> None:
    (model / "chat_template.jinja").write_text("{{ raise_exception('roles must alternate') }}")
    path = tmp_path / "chats.jsonl"
    row = {"messages": [{"role": "user", "content": "the cat and the hen"}]}
    path.write_text(f"{json.dumps(row)}\n" * 6)
    with pytest.raises(UserError, match="roles must alternate") as caught:
        prepare(config_of(model, path))
    assert "--chat off" in caught.value.remedy
    prepare(config_of(model, path, chat="off"))


def test_perplexities_beyond_floats_are_numbers_all_the_same() -> None:
    blocks = score_blocks(torch.full((600,), -1e4).numpy(), torch.zeros(600).numpy(), [600])
    found = perplexity(blocks).value
    assert math.isfinite(found)
    assert found == pytest.approx(1e300)


def test_a_revision_of_a_folder_is_refused(model: Path, story: Path) -> None:
    with pytest.raises(UserError, match="which is a folder"):
        prepare(config_of(model, story, revision="main"))


def test_a_copy_is_the_same_model(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "copy")
    one, other = (find_checkpoint(ModelConfig(model=str(p))).record() for p in (model, tmp_path / "copy"))
    assert one.content == other.content
    load_tokenizer(find_checkpoint(ModelConfig(model=str(model))), ModelConfig(model=str(model)))


def test_what_only_loading_finds_leaves_nothing_behind(model: Path, story: Path, tmp_path: Path) -> None:
    """The machine was measured before; the same folder takes another model afterwards."""
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    change_weights(broken, lambda weights: weights.pop(DOWN))
    output = tmp_path / "out"
    with jobs_in_process():
        with pytest.raises(UserError, match=r"down_proj\.weight is missing"):
            bitdraft.evaluate_precision(config=config_of(broken, story), output=output)
        assert not output.exists()
        found = bitdraft.evaluate_precision(config=config_of(model, story), output=output)
        assert found.rows[0].status == "ok"
        again = bitdraft.evaluate_precision(config=config_of(Path(f"{model}/."), story), output=output)
        assert again.rows == found.rows


def test_a_checkpoint_whose_own_weights_are_not_finite_is_named(
    model: Path, story: Path, tmp_path: Path
) -> None:
    change_weights(model, lambda weights: weights[DOWN][3, 4].fill_(math.nan))
    with jobs_in_process(), pytest.raises(UserError, match=r"down_proj.weight holds numbers that are not"):
        bitdraft.evaluate_precision(config=config_of(model, story), output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_draft_that_cannot_be_loaded_is_named_as_the_draft(
    model: Path, story: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    change_weights(broken, lambda weights: weights.pop(DOWN))
    with jobs_in_process(), pytest.raises(UserError, match=r"down_proj\.weight is missing") as caught:
        bitdraft.evaluate_spec_decode(
            str(model),
            drafts=[str(broken)],
            k=[1],
            dataset=f"file:{story}",
            num_prompts=2,
            max_prompt_tokens=16,
            max_new_tokens=4,
            device="cpu",
        )
    assert caught.value.field == "drafts"


def test_a_context_of_nothing_is_refused(model: Path, story: Path) -> None:
    edit(model / "config.json", max_position_embeddings=0)
    with pytest.raises(UserError, match="max_position_embeddings = 0"):
        prepare(config_of(model, story))


def test_a_prompt_that_fills_the_context_alone_asks_for_both(model: Path, story: Path) -> None:
    edit(model / "config.json", max_position_embeddings=8)
    with pytest.raises(UserError, match="exceed") as caught:
        prepare(config_of(model, story))
    assert "together at most 8" in caught.value.remedy


def test_a_second_engine_on_one_target_knows_its_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first may have packed the target's weights, which leaves the plain ones empty."""
    monkeypatch.setattr(
        "bitdraft.engine.cpu.products.ProductChoices.packed_for", lambda _self, _weight: "all"
    )
    target, draft = tiny_model("gpt_neox"), noisy_copy("gpt_neox", 0, 0.05)
    first = decoded(target, {"d": draft}, 3, execution="static")
    assert not target.get_output_embeddings().weight.numel()
    assert decoded(target, {"d": draft}, 3, execution="static") == first
