"""llama.cpp as a token model, against torch on the same weights, and GGUF files as people have them."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bitdraft import formats
from bitdraft.backends import EngineSetup, make_engine, token_model
from bitdraft.config import DecodingConfig, ModelConfig, PrecisionConfig, SamplingConfig, make_config
from bitdraft.config.model import gguf_format
from bitdraft.engine.agreement import greedy_agreement
from bitdraft.engine.check import check_model
from bitdraft.engine.runner import Runner
from bitdraft.engine.scoring import kl_of_windows, score_windows
from bitdraft.errors import UserError
from bitdraft.formats import gguf as gguf_formats
from bitdraft.inputs.checkpoints import content_id, find_checkpoint
from bitdraft.inputs.gguf.files import gguf_of
from bitdraft.inputs.tokenizers import draft_tokenizer_problem, foreign_ids, load_tokenizer
from bitdraft.inputs.variants import Variant, check_ids, check_llama_cpps_settings, check_variant
from gguf_files import CPU, load_tiny, needs_llama_cpp, write_tiny
from tiny import noisy_copy, save_checkpoint, tiny_model, tiny_tokenizer, tokens

pytestmark = needs_llama_cpp
PROMPT = tokens(3, 20)
LENGTH = DecodingConfig(max_new_tokens=24)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("gguf") / "target")


@pytest.fixture(scope="module")
def model(file: Path) -> Any:
    """With a cache in fp32, so that what differs from torch is rounding of sums alone."""
    return load_tiny(file, "gguf-f32", kv_cache="f32")


@pytest.fixture(scope="module")
def draft(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_tiny(
        write_tiny(tmp_path_factory.mktemp("gguf") / "draft", noisy_copy("gpt_neox", 0, 0.05)), "gguf-f32"
    )


@torch.inference_mode()
def test_logits_are_those_of_torch(model: Any) -> None:
    ours = Runner(tiny_model()).without_cache(torch.tensor([PROMPT]))
    found = token_model(model).without_cache(torch.tensor([PROMPT]))
    assert found.shape == ours.shape
    # llama.cpp looks GELU up in a table of 16-bit numbers
    assert (found - ours).abs().max() < 2e-2 * ours.std()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(st.integers(1, 7), min_size=1, max_size=6), back=st.integers(0, 12), extra=st.integers(1, 5)
)
def test_a_cache_that_was_rolled_back_gives_what_one_forward_gives(
    model: Any, cuts: list[int], back: int, extra: int
) -> None:
    runner = token_model(model)
    fed = PROMPT[: sum(cuts)]
    runner.start(64)
    done = 0
    for cut in cuts:
        if done < len(fed):
            runner.forward(torch.tensor([fed[done : done + cut]]))
            done += cut
    kept = max(0, len(fed) - back)
    runner.keep(kept)
    assert runner.length == kept
    behind = tokens(back, extra)
    found = runner.forward(torch.tensor([behind]), extra).clone()
    expected = token_model(model).without_cache(torch.tensor([[*fed[:kept], *behind]]))
    assert torch.allclose(found[0], expected[0, kept:], atol=1e-3, rtol=1e-3)


def test_more_tokens_than_one_call_takes(model: Any) -> None:
    text = tokens(1, 700)
    runner = token_model(model)
    runner.start(800)
    found = runner.forward(torch.tensor([text]), 600).clone()
    assert found.shape == (1, 600, model.num_ids)
    runner.keep(690)
    again = runner.forward(torch.tensor([text[690:]]), 10)
    assert (again[0] - found[0, -10:]).abs().max() < 2e-2 * found.std()
    with pytest.raises(AssertionError, match="no room"):
        runner.forward(torch.tensor([text]), 1)


def test_it_passes_the_check_of_every_model(model: Any) -> None:
    check_model(token_model(model), PROMPT, "tiny")


@pytest.mark.parametrize("k", range(1, 11))
def test_replay_equals_what_is_measured(model: Any, draft: Any, k: int) -> None:
    """Every K, greedy: the plain text, and exactly the steps that the draft's agreement with it makes."""
    engine = make_engine("native", EngineSetup(model, {"draft": draft}, capacity=64))
    engine.prepare(PROMPT, LENGTH)
    plain = engine.decode(LENGTH, None, 0, 0)
    run = engine.decode(LENGTH, "draft", k, 0)
    assert run.token_ids == plain.token_ids
    keeps, _ = greedy_agreement(engine.runner("draft"), PROMPT, plain.token_ids)
    place, steps = 1, []
    while place < len(keeps):
        wanted = min(k, len(keeps) - place - 1)
        kept = len([*itertools.takewhile(bool, keeps[place : place + wanted])])
        steps.append((wanted, kept))
        place += kept + 1
    assert [(step.num_drafted, step.num_accepted) for step in run.steps] == steps


def test_batches_give_the_texts_of_single_prompts(model: Any, draft: Any) -> None:
    prompts = [tokens(seed, length) for seed, length in ((1, 9), (2, 20), (3, 1))]
    engine = make_engine("native", EngineSetup(model, {"draft": draft, "ngram": None}, capacity=64))
    alone = []
    for prompt in prompts:
        engine.prepare(prompt, LENGTH)
        alone.append(engine.decode(LENGTH, None, 0, 0).token_ids)
    engine.prepare_batch(prompts, LENGTH)
    for name, k in ((None, 0), ("draft", 3), ("ngram", 4)):
        runs = engine.decode_batch(LENGTH, name, k, [0, 1, 2])
        assert [run.token_ids for run in runs] == alone


def test_sampled_texts_are_a_seeds_own(model: Any, draft: Any) -> None:
    sampling = SamplingConfig(temperature=1.0, top_k=20)
    engine = make_engine("native", EngineSetup(model, {"draft": draft}, sampling))
    engine.prepare(PROMPT, LENGTH)
    one, again, other = (engine.decode(LENGTH, "draft", 2, seed).token_ids for seed in (1, 1, 2))
    assert one == again != other


def test_a_torch_target_takes_a_draft_of_llama_cpp(draft: Any) -> None:
    target = tiny_model()
    engine = make_engine("native", EngineSetup(target, {"draft": draft}))
    engine.prepare(PROMPT, LENGTH)
    plain, run = engine.decode(LENGTH, None, 0, 0), engine.decode(LENGTH, "draft", 3, 0)
    assert run.token_ids == plain.token_ids
    assert sum(step.num_accepted for step in run.steps) > 0
    with pytest.raises(UserError, match="several backends decode one prompt"):
        engine.prepare_batch([PROMPT, PROMPT], LENGTH)


def test_quality_is_torchs_and_divergence_is_found(model: Any, file: Path, tmp_path: Path) -> None:
    windows = [(tokens(5, 60), 1), (tokens(6, 40), 20)]
    ours = dict(score_windows(Runner(tiny_model()), windows, 16))
    found = dict(score_windows(token_model(model), windows, 16))
    for index in ours:
        assert torch.allclose(ours[index][0], found[index][0], atol=2e-2)
    reference, small = (
        Runner(tiny_model()),
        token_model(load_tiny(write_tiny(tmp_path, None, "Q4_0"), "Q4_0")),
    )
    same = torch.cat([kl for _, kl in kl_of_windows(reference, token_model(model), windows, 16)]).mean()
    apart = torch.cat([kl for _, kl in kl_of_windows(reference, small, windows, 16)]).mean()
    assert same < 1e-4 < apart / 20


def test_a_file_says_what_it_is(file: Path, tmp_path: Path) -> None:
    import gguf

    found = find_checkpoint(ModelConfig(model=str(write_tiny(tmp_path, None, "Q8_0"))))
    assert found.header is not None
    reader = gguf.GGUFReader(found.folder)
    sizes = {one.name: (int(one.n_elements), int(one.n_bytes)) for one in reader.tensors}
    assert found.header.num_parameters == sum(count for count, _ in sizes.values())
    assert found.header.weight_bytes == sum(size for _, size in sizes.values())
    assert found.header.streamed_bytes == found.header.weight_bytes - sizes["token_embd.weight"][1]
    assert found.header.bits_per_weight == 8 * found.header.weight_bytes / found.header.num_parameters
    assert found.architecture == "gptneox"
    assert (found.vocab_size, found.context_tokens) == (288, 256)
    record = found.record()
    assert record.stored_dtype == "Q8_0"
    assert record.tensor_types is not None
    assert record.tensor_types["blk.*.ffn_up.weight"] == {"Q8_0": 3}
    assert record.name == "tiny-Q8_0.gguf"
    assert content_id(found) != content_id(find_checkpoint(ModelConfig(model=str(file))))


def test_its_tokenizer_is_the_checkpoints(file: Path) -> None:
    config = ModelConfig(model=str(file))
    own, theirs = load_tokenizer(find_checkpoint(config), config), tiny_tokenizer()
    text = "the hen and\n  the çat, 词 <|endoftext|> end"
    assert own(text, add_special_tokens=False).input_ids == theirs(text, add_special_tokens=False).input_ids
    assert own.decode(own("the rain").input_ids) == "the rain"
    assert draft_tokenizer_problem(own, theirs, text) is None
    assert foreign_ids(own, theirs) == ()
    named = config.model_copy(update={"tokenizer": str(file.parent)})
    assert load_tokenizer(find_checkpoint(named), named).get_vocab() == theirs.get_vocab()


def test_what_is_no_whole_file_is_refused(file: Path, tmp_path: Path) -> None:
    data = file.read_bytes()
    (tmp_path / "cut.gguf").write_bytes(data[:-1000])
    (tmp_path / "short.gguf").write_bytes(data[:100])
    (tmp_path / "other.gguf").write_bytes(b"hello" * 100)
    (tmp_path / "pointer.gguf").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    )
    (tmp_path / "part-00002-of-00002.gguf").write_bytes(data)
    (tmp_path / "half-00001-of-00002.gguf").write_bytes(data)
    for name, message in (
        ("cut.gguf", "cannot be read as a whole GGUF file"),
        ("short.gguf", "cannot be read as a whole GGUF file"),
        ("other.gguf", "is no GGUF file"),
        ("pointer.gguf", "Git LFS pointer"),
        ("nowhere.gguf", "no such file"),
        ("part-00002-of-00002.gguf", "is part 2 of 2"),
        ("half-00001-of-00002.gguf", "its part half-00002-of-00002.gguf is missing"),
    ):
        with pytest.raises(UserError, match=message):
            find_checkpoint(ModelConfig(model=str(tmp_path / name)))


def test_formats_that_cannot_be_made_are_refused_up_front(file: Path, tmp_path: Path) -> None:
    small = find_checkpoint(ModelConfig(model=str(write_tiny(tmp_path / "small", None, "Q8_0"))))
    llama = find_checkpoint(ModelConfig(model=str(save_checkpoint(tmp_path / "llama", tiny_model("llama")))))
    for checkpoint, name, message in (
        (small, "Q4_0", "cannot be made of a file that is Q8_0 already"),
        (small, "bf16", "is no format of tiny-Q8_0.gguf, a GGUF file"),
        (llama, "Q8_0", "of GPT-NeoX checkpoints and of GGUF files, not of 'llama'"),
        (find_checkpoint(ModelConfig(model=str(file))), "IQ2_XXS", "needs an importance matrix"),
        (llama, "gguf", "of files that are named alone"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            check_variant(Variant(checkpoint, name), "precisions")
        assert "--gguf" in caught.value.remedy or "Leave it out" in caught.value.remedy
    wrong = ModelConfig(model=str(file), gguf=f"Q4_K_M={small.folder}")
    with pytest.raises(UserError, match="is Q8_0, not Q4_K_M"):
        find_checkpoint(wrong)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/model-Q4_K_M.gguf", "Q4_K_M"),
        ("model.q8_0.gguf", "Q8_0"),
        ("x-F16-00001-of-00003.gguf", "gguf-f16"),
        ("org/repo:Q5_K_S", "Q5_K_S"),
        ("model.gguf", None),
        ("model-bf16.gguf", "gguf-bf16"),
    ],
)
def test_a_files_name_says_its_format(name: str, expected: str | None) -> None:
    from bitdraft.config.model import gguf_format

    assert gguf_format(name) == expected


def test_formats_have_the_names_and_numbers_of_the_gguf_package() -> None:
    import gguf

    for name, found in formats.gguf.FORMATS.items():
        if name == "gguf":
            continue
        own = "ALL_F32" if name == "gguf-f32" else f"MOSTLY_{name.removeprefix('gguf-').upper()}"
        assert gguf.LlamaFileType(found.file_type).name == own
    for name, kv in formats.kv_cache.FORMATS.items():
        kind = gguf.GGMLQuantizationType(kv.ggml_type)
        assert kind.name == name.upper()
        block, size = gguf.GGML_QUANT_SIZES[kind]
        assert kv.bytes_of_32 == size * 32 // block


@pytest.mark.parametrize("kv_cache", ["f32", "q8_0", "q4_0"])
def test_a_caches_numbers_are_as_asked(file: Path, kv_cache: str) -> None:
    """Heads of 8 numbers are no blocks of 32: llama.cpp refuses such a cache by name."""
    own = load_tiny(file, "gguf-f32", kv_cache=kv_cache)
    assert own.kv_bytes_per_token == 2 * 3 * 32 * formats.kv_cache.FORMATS[kv_cache].bytes_of_32 // 32
    runner = token_model(own)
    if kv_cache == "f32":
        runner.start(16)
        assert math.isfinite(float(runner.forward(torch.tensor([PROMPT[:4]])).max()))
        return
    with pytest.raises(UserError, match=r"makes no context"):
        runner.start(16)


def test_a_device_that_the_build_lacks_is_named(file: Path) -> None:
    import llama_cpp

    from bitdraft.backends import load_model

    if llama_cpp.llama_supports_gpu_offload():
        pytest.skip("this build computes on a GPU")
    config = ModelConfig(model=str(file))
    with pytest.raises(UserError, match="computes on the CPU alone"):
        load_model(Variant(find_checkpoint(config), "gguf-f32"), torch.device("cuda", 0), config)
    assert CPU.type == "cpu"


def test_a_file_of_any_name_is_measured_as_what_it_says_it_is(tmp_path: Path) -> None:
    made = write_tiny(tmp_path / "made", name="Q8_0")  # the entry stands behind the tokenizer's lists there
    for name in ("model.gguf", "model-Q4_0.gguf"):
        path = tmp_path / name
        path.write_bytes(made.read_bytes())
        config = make_config(PrecisionConfig, {"model": str(path)})
        assert config.precisions == ("Q8_0",)


@given(cut=st.integers(0, 3000), place=st.integers(0, 3000), byte=st.integers(0, 255))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_of_a_damaged_file_the_name_is_believed(
    file: Path, tmp_path: Path, cut: int, place: int, byte: int
) -> None:
    damaged = bytearray(file.read_bytes()[:cut])
    damaged[place : place + 1] = bytes([byte])[: len(damaged) - place]
    path = tmp_path / "model-Q4_0.gguf"
    path.write_bytes(damaged)
    found = gguf_format(str(path))
    assert found in ("Q4_0", *gguf_formats.FORMATS)
    if cut < 24:
        assert found == "Q4_0"


def test_a_file_that_was_made_and_damaged_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BITDRAFT_CACHE", str(tmp_path / "cache"))
    config = ModelConfig(model=str(save_checkpoint(tmp_path / "model", tiny_model())))
    checkpoint = find_checkpoint(config)
    made = gguf_of(checkpoint, "Q8_0", config)
    whole = made.read_bytes()
    made.write_bytes(whole[: len(whole) // 2])
    assert gguf_of(checkpoint, "Q8_0", config).read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BITDRAFT_CACHE", str(tmp_path / "file" / "cache"))
    config = ModelConfig(model=str(save_checkpoint(tmp_path / "model", tiny_model())))
    with pytest.raises(UserError, match=r"BITDRAFT_CACHE.*nothing can be written"):
        check_variant(Variant(find_checkpoint(config), "Q8_0"), "precisions")


def test_ways_of_torch_mean_nothing_over_llama_cpp() -> None:
    config = make_config(PrecisionConfig, {"execution": "compiled", "precisions": ("Q8_0", "Q4_0")})
    with pytest.raises(UserError, match=r"execution.*llama\.cpp runs Q8_0, Q4_0"):
        check_llama_cpps_settings(config, config.precisions)
    check_llama_cpps_settings(config, ("fp32", "Q8_0"))


def test_an_embedded_models_tokenizer_can_be_named(file: Path) -> None:
    config = ModelConfig(model=str(file), tokenizer="demo/target")
    assert load_tokenizer(find_checkpoint(config), config).name_or_path.endswith("target")


def test_a_file_of_another_model_is_no_format_of_this_one(file: Path, tmp_path: Path) -> None:
    other = save_checkpoint(tmp_path / "other", tiny_model("gpt_neox", num_hidden_layers=5))
    config = ModelConfig(model=str(other), gguf=(f"gguf-f32={file}",))
    checkpoint = find_checkpoint(config)
    with pytest.raises(UserError, match="it is another model"):
        check_ids(Variant(checkpoint, "gguf-f32"), load_tokenizer(checkpoint, config), "a text")


def test_a_quantised_cache_needs_flash_attention(file: Path) -> None:
    config = ModelConfig(model=str(file), kv_cache="q4_0", flash_attention="off")
    with pytest.raises(UserError, match="needs flash attention"):
        check_llama_cpps_settings(config, ("Q8_0",))
    check_llama_cpps_settings(config.model_copy(update={"kv_cache": "f16"}), ("Q8_0",))
