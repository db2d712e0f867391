"""The engine against transformers, over architectures with differing caches."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitdraft.backends import ENGINES, make_engine
from bitdraft.backends.base import EngineSetup
from bitdraft.config import BackendName, DecodingConfig
from bitdraft.engine.loop import PrefilledPrompt
from bitdraft.engine.narrow import narrow_mlps
from bitdraft.engine.runner import Runner
from bitdraft.engine.scoring import (
    NonFiniteLogits,
    batches_of,
    kl_of_windows,
    locate_overflow,
    score_window,
    score_windows,
)
from bitdraft.errors import UserError
from bitdraft.schema.records import Generation
from tiny import CONFIGS, VOCAB, tiny_model, tokens

PROMPT = list(range(5, 45))
TWENTY = DecodingConfig(max_new_tokens=20)


@pytest.mark.parametrize("kind", CONFIGS)
def test_native_equals_generate_token_for_token(kind: str) -> None:
    for seed in range(3):
        model = tiny_model(kind, seed)
        runs = {
            name: make_engine(name, EngineSetup(model)).generate(tokens(seed, 40), TWENTY) for name in ENGINES
        }
        assert runs["native"].token_ids == runs["transformers"].token_ids
        assert len(set(runs["native"].token_ids)) > 1


@pytest.mark.parametrize("backend", list(ENGINES))
def test_generations_keep_their_books(backend: BackendName) -> None:
    run = make_engine(backend, EngineSetup(tiny_model())).generate(PROMPT, TWENTY)
    assert isinstance(run, Generation)
    assert run.prompt_tokens == len(PROMPT)
    assert sum(count for _, count in run.emissions) == len(run.token_ids) == 20
    times = [run.submit_s, *(time_s for time_s, _ in run.emissions)]
    assert times == sorted(times)
    assert run.finish_reason == "length"


@pytest.mark.parametrize("backend", list(ENGINES))
def test_eos_ends_a_run_only_where_asked(backend: BackendName) -> None:
    model = tiny_model()
    free = make_engine(backend, EngineSetup(model)).generate(PROMPT, TWENTY)
    model.generation_config.eos_token_id = [free.token_ids[6], VOCAB - 1]
    generate = make_engine(backend, EngineSetup(model)).generate
    first_seen = free.token_ids.index(free.token_ids[6])
    stopped = generate(PROMPT, DecodingConfig(max_new_tokens=20, ignore_eos=False))
    assert stopped.token_ids == free.token_ids[: first_seen + 1]
    assert stopped.finish_reason == "eos"
    assert generate(PROMPT, TWENTY).token_ids == free.token_ids
    assert model.generation_config.eos_token_id == [free.token_ids[6], VOCAB - 1]


def test_one_runner_serves_prompts_of_all_lengths() -> None:
    model = tiny_model()
    runner = Runner(model)
    for length in (30, 5, 60, 1, 30):
        fresh, used = (
            PrefilledPrompt(r, PROMPT[:length], 20).decode(TWENTY) for r in (Runner(model), runner)
        )
        assert used.token_ids == fresh.token_ids


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=8), st.data())
def test_rejected_tokens_leave_no_trace_in_the_cache(widths: list[int], data: st.DataObject) -> None:
    """Feed, forget and feed again at random: the logits are those of a forward over what was kept."""
    model = tiny_model()
    runner = Runner(model)
    runner.start(capacity=64)
    kept: list[int] = []
    for turn, width in enumerate(widths):
        fed = tokens(turn, width)
        logits = runner.forward(runner.to_device(fed), num_logits=width)[0]
        kept += fed
        expected = model(torch.tensor([kept])).logits[0, -width:]
        torch.testing.assert_close(logits, expected, atol=2e-4, rtol=1e-4)
        forget = data.draw(st.integers(0, width - (1 if turn == 0 else 0)))
        runner.cache.rollback(forget)
        kept = kept[: len(kept) - forget]
        assert runner.cache.length == len(kept)


def test_cache_refuses_to_overflow_and_to_forget_too_much() -> None:
    runner = Runner(tiny_model())
    runner.start(capacity=4)
    runner.forward(runner.to_device([1, 2, 3]))
    with pytest.raises(AssertionError):
        runner.cache.rollback(4)
    with pytest.raises(AssertionError, match="5 tokens in a cache of 4"):
        runner.forward(runner.to_device([1, 2]))


def test_cache_counts_its_bytes() -> None:
    model = tiny_model("llama")
    runner = Runner(model)
    runner.start(capacity=8)
    runner.forward(runner.to_device([1]))
    # keys and values, 3 layers, 2 key-value heads of 8 float32 numbers
    assert runner.cache.bytes_per_token() == 2 * 3 * 2 * 8 * 4


def test_models_without_a_key_value_cache_are_refused() -> None:
    from transformers import AutoModelForCausalLM, MambaConfig

    model = AutoModelForCausalLM.from_config(MambaConfig(vocab_size=32, hidden_size=16, num_hidden_layers=1))
    with pytest.raises(UserError, match="MambaForCausalLM"):
        Runner(model)


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("chunk", [1, 7, 64, 500])
@pytest.mark.parametrize("plain", [True, False])
def test_chunked_scores_equal_one_forward(
    kind: str, chunk: int, plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In slices of the vocabulary that don't divide it."""
    monkeypatch.setattr("bitdraft.engine.slices.SLICE_IDS", {"cpu": 100})
    monkeypatch.setattr("bitdraft.engine.slices.TILE_ROWS", chunk)
    model = tiny_model(kind)
    runner = Runner(model)
    window = tokens(0, 90)
    assert runner.head_is_plain(torch.tensor([window]))
    runner._head_is_plain = plain
    for first in (1, 30, 89):
        log_prob, top1 = score_window(runner, window, first, chunk)
        logits = model(torch.tensor([window])).logits[0, first - 1 : -1]
        expected = logits.log_softmax(-1).gather(1, torch.tensor(window[first:])[:, None])[:, 0]
        torch.testing.assert_close(log_prob, expected, atol=2e-4, rtol=1e-4)
        assert torch.equal(top1, logits.argmax(-1))


def test_windows_are_scored_together_as_alone() -> None:
    runner = Runner(tiny_model())
    windows = [(tokens(seed, 20 + 7 * seed), 1 + seed) for seed in range(9)]
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        found = dict(score_windows(runner, windows, 8))
        assert torch.get_num_threads() == 4
        assert sorted(found) == list(range(9))
        total = [0.0, 0.0]
        for index, window in enumerate(windows):
            log_prob, top1 = score_window(runner, *window, 8)
            total[0] += float(log_prob.double().sum())
            total[1] += float(found[index][0].double().sum())
            torch.testing.assert_close(found[index][0], log_prob, atol=2e-5, rtol=1e-5)
            assert torch.equal(found[index][1], top1)
        num_scored = sum(len(ids) - first for ids, first in windows)
        assert abs(math.expm1((total[1] - total[0]) / num_scored)) < 1e-6
        left = dict(score_windows(runner, windows, 8, done={0, 3, 4}))
        assert sorted(left) == [1, 2, 5, 6, 7, 8]
        # as if nothing had been done before
        assert all(torch.equal(left[index][0], found[index][0]) for index in left)
    finally:
        torch.set_num_threads(before)


def test_capped_logits_are_seen_and_kept() -> None:
    """A model that caps its logits (as Gemma 2 does) is scored with the cap."""
    from transformers import AutoModelForCausalLM, Gemma2Config

    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8}
    config = Gemma2Config(
        vocab_size=VOCAB,
        num_key_value_heads=2,
        intermediate_size=64,
        initializer_range=1.0,
        final_logit_softcapping=2.0,
        **shape,
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    window = tokens(0, 40)
    runner = Runner(model)
    log_prob, _ = score_window(runner, window, 1, 16)
    assert not runner.head_is_plain(torch.tensor([window]))
    with torch.inference_mode():
        logits = model(torch.tensor([window])).logits[0, :-1]
    expected = logits.log_softmax(-1).gather(1, torch.tensor(window[1:])[:, None])[:, 0]
    torch.testing.assert_close(log_prob, expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("slice_ids", [7, 100, 8192])
def test_kl_equals_its_definition_and_is_zero_to_itself(
    slice_ids: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, candidate = tiny_model(seed=0), tiny_model(seed=1)
    window = tokens(0, 50)
    monkeypatch.setattr("bitdraft.engine.slices.SLICE_IDS", {"cpu": slice_ids})
    ((_, kl),) = kl_of_windows(Runner(reference), Runner(candidate), [(window, 1)], 16)
    p, q = (m(torch.tensor([window])).logits[0, :-1].double().softmax(-1) for m in (reference, candidate))
    expected = (p * (p / q).log()).sum(-1)
    torch.testing.assert_close(kl.double(), expected, atol=1e-5, rtol=1e-5)
    ((_, same),) = kl_of_windows(Runner(reference), Runner(reference), [(window, 1)], 16)
    assert same.max() == 0


@pytest.mark.parametrize("chunk", [4, 64])
def test_overflow_is_located_by_layer_and_position(chunk: int) -> None:
    model = tiny_model().half()
    layer = model.gpt_neox.layers[1].mlp.dense_4h_to_h

    def spike(_module: object, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        position = 10
        if 0 <= position < output.shape[1]:
            output[0, position] = 6e4
            output[0, position] *= 2
        return output

    layer.register_forward_hook(spike)
    runner = Runner(model)
    window = tokens(0, 40)
    with pytest.raises(NonFiniteLogits) as caught:
        score_window(runner, window, 1, chunk)
    # Attention spreads a NaN to earlier positions of a forward (0 × NaN): the logits alone can't tell.
    assert caught.value.position <= 10
    place = locate_overflow(runner, window, 1, chunk, window=3)
    assert (place.layer, place.window, place.position) == ("gpt_neox.layers.1.mlp.dense_4h_to_h", 3, 10)


@pytest.mark.parametrize("kind", CONFIGS)
def test_narrow_mlps_give_what_wide_ones_give(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitdraft.engine.narrow.TOKENS_AT_ONCE", 7)
    model, ids = tiny_model(kind), torch.tensor([tokens(0, 40), tokens(1, 40)])
    expected = model(ids).logits
    with narrow_mlps(model):
        torch.testing.assert_close(model(ids).logits, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(model(ids).logits, expected)


def test_windows_of_like_lengths_go_together() -> None:
    assert batches_of([5, 5, 5, 5, 5], 10) == [[0, 1], [2, 3], [4]]
    assert batches_of([3, 50, 4, 49, 2], 12) == [[0, 2, 4], [1], [3]]
    assert batches_of([7, 7], 0) == [[0], [1]]


@given(st.lists(st.integers(2, 60), min_size=1, max_size=40), st.integers(0, 200))
def test_every_window_is_in_one_batch_that_fits(lengths: list[int], most: int) -> None:
    batches = batches_of(lengths, most)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= most
