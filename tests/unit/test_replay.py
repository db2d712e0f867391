"""Replay against hand-worked chains, against enumeration, and against the engine step by step."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitdraft.backends.base import EngineSetup
from bitdraft.backends.native import NativeEngine
from bitdraft.config import MOST_K, DecodingConfig, ModelConfig, SamplingConfig, TextConfig
from bitdraft.engine.agreement import greedy_agreement, sampled_agreement
from bitdraft.engine.drafters.lookup import NgramDrafter
from bitdraft.engine.runner import Runner
from bitdraft.inputs.checkpoints import find_checkpoint
from bitdraft.inputs.datasets import load_dataset
from bitdraft.inputs.models import load_model
from bitdraft.inputs.prompts import Encoder, select_prompts
from bitdraft.inputs.tokenizers import load_tokenizer, text_encoder
from bitdraft.inputs.variants import Variant
from bitdraft.metrics.acceptance import step_tokens
from bitdraft.schema.records import Generation, Step
from bitdraft.spec_decode.replay import Chain, expected, lookup_chain, model_chain, replay_all, steps_of
from tiny import VOCAB, noisy_copy, tiny_model, tokens


def test_steps_by_hand() -> None:
    # tokens 0 … 7; the first comes from the prefill
    chain = model_chain([1, 1, 1, 0, 1, 1, 1, 1], first=1, limit=8)
    # from 1: 1 and 2 kept, 3 is the target's; from 4: 4, 5 kept, 6 the target's; one left, nothing fits
    assert steps_of(chain, 2) == [Step(2, 2), Step(2, 2), Step(0, 0, True)]
    # from 1: 1 and 2 kept, 3 refused; from 4 only three fit
    assert steps_of(chain, 4) == [Step(4, 2), Step(3, 3, True)]
    # 1 kept, 2 the target's; 3 refused; 4 kept, 5 the target's; 6 kept, 7 the target's
    assert steps_of(chain, 1) == [Step(1, 1), Step(1, 0), Step(1, 1), Step(1, 1)]


def test_a_drafted_eos_ends_the_request_with_nothing_behind_it() -> None:
    chain = model_chain([0, 1, 1], first=1, limit=20)
    assert steps_of(chain, 4) == [Step(4, 2, True)]
    own = model_chain([0, 1, 0], first=1, limit=20)
    assert steps_of(own, 4) == [Step(4, 1)]


def test_prompt_lookup_drafts_where_it_has_something() -> None:
    output = [5, 6, 7, 8, 9, 1]
    proposals = [[], [6, 7, 0], [], [], [9, 9, 9], []]
    chain = lookup_chain(proposals, output, first=1, limit=6)
    assert steps_of(chain, 3) == [Step(3, 2), Step(1, 1, True)]
    chain = lookup_chain([[]] * 6, output, first=1, limit=6)
    assert [step.num_drafted for step in steps_of(chain, 3)] == [0] * 5
    assert [step.truncated for step in steps_of(chain, 3)] == [False, False, True, True, True]


def test_summary_by_hand() -> None:
    chain = model_chain([1, 1, 1, 0, 1, 1, 1, 1], first=1, limit=8)
    found = expected([chain], 2).summary()
    assert found.num_steps == 3
    assert found.tokens_per_step == pytest.approx(7 / 3)
    assert found.acceptance_rate == pytest.approx((7 / 3 - 1) / 2)
    assert found.draft_acceptance == 1
    assert found.realised_k == {"2": 2}
    assert found.num_truncated_steps == 1
    assert [entry.share for entry in found.acceptance_by_position] == [1, 1]


bits = st.lists(st.integers(0, 1), min_size=1, max_size=40)


@settings(max_examples=150, deadline=None)
@given(bits, st.integers(1, 12), st.integers(0, 1), st.integers(0, 5))
def test_expectations_of_certain_chains_count_the_steps(
    keeps: list[int], k: int, first: int, room: int
) -> None:
    chain = model_chain(keeps, min(first, len(keeps)), len(keeps) + room)
    steps, found = steps_of(chain, k), expected([chain], k)
    assert found.num_steps == len(steps)
    assert found.num_drafted == sum(step.num_drafted for step in steps)
    assert found.num_accepted == sum(step.num_accepted for step in steps)
    assert found.num_truncated == sum(step.truncated for step in steps)
    assert found.realised == Counter(step.num_drafted for step in steps if not step.truncated)
    for place in range(k):
        assert found.drafted_at[place] == sum(step.num_drafted > place for step in steps)
        assert found.kept_at[place] == sum(step.num_accepted > place for step in steps)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=9),
    st.integers(1, 4),
    st.integers(0, 2),
)
def test_expectations_are_the_mean_over_all_certain_chains(weights: list[float], k: int, room: int) -> None:
    limit = len(weights) + room
    mean_steps = mean_kept = mean_truncated = 0.0
    for certain in itertools.product((0, 1), repeat=len(weights)):
        chance = 1.0
        for kept, weight in zip(certain, weights, strict=True):
            chance *= weight if kept else 1 - weight
        if chance > 0:
            steps = steps_of(model_chain(certain, 1, limit), k)
            mean_steps += chance * len(steps)
            mean_kept += chance * sum(step.num_accepted for step in steps)
            mean_truncated += chance * sum(step.truncated for step in steps)
    found = expected([model_chain(weights, 1, limit)], k)
    assert found.num_steps == pytest.approx(mean_steps)
    assert found.num_accepted == pytest.approx(mean_kept)
    assert found.num_truncated == pytest.approx(mean_truncated)


def test_every_k_is_there() -> None:
    assert list(replay_all([model_chain([1] * 50, 1, 50)])) == list(range(1, MOST_K + 1))


def chain_of(runs: NativeEngine, name: str, prompt: list[int], run: Generation, limit: int) -> Chain:
    if name == "ngram":
        lookup = NgramDrafter(torch.device("cpu"), VOCAB)
        lookup.start([prompt], 0)
        text = [*prompt, *run.token_ids]
        proposals = [[], *lookup.proposals(text, len(prompt) + 1, MOST_K)]
        return lookup_chain(proposals, run.token_ids, 1, limit)
    agrees, _ = greedy_agreement(runs.runner(name), prompt, run.token_ids)
    return model_chain(agrees, 1, limit)


@settings(max_examples=10, deadline=None)
@given(
    st.sampled_from(["gpt_neox", "llama", "mistral"]),
    st.integers(0, 40),
    st.sampled_from([0.0, 0.03, 0.1, 3.0]),
    st.booleans(),
)
def test_replay_is_the_measurement_step_by_step(kind: str, seed: int, noise: float, with_eos: bool) -> None:
    target = tiny_model(kind, seed)
    drafts = {"draft": noisy_copy(kind, seed, noise), "ngram": None}
    prompt = tokens(seed + 7, 12)
    config = DecodingConfig(max_new_tokens=30, ignore_eos=not with_eos)
    setup = EngineSetup(target, drafts, execution="eager")
    probe = NativeEngine(setup)
    free = DecodingConfig(max_new_tokens=30)
    probe.prepare(prompt, free)
    if with_eos:
        target.generation_config.eos_token_id = probe.decode(free, None, 0, 0).token_ids[17]
    runs = NativeEngine(setup)
    runs.prepare(prompt, config)
    plain = runs.decode(config, None, 0, 0)
    measured = {(d, k): runs.decode(config, d, k, 0) for d in drafts for k in range(1, 11)}
    for name in drafts:
        chain = chain_of(runs, name, prompt, plain, 30)
        for k in range(1, 11):
            assert list(measured[name, k].steps) == steps_of(chain, k), (name, k)


def test_expected_acceptance_of_samples_is_the_measured_one() -> None:
    """Tokens per step over many samples against the expectation from the target's own samples."""
    vocab, k, length = 16, 3, 24
    sampling = SamplingConfig(temperature=1.0)
    target = tiny_model("llama", 0, vocab_size=vocab, num_hidden_layers=1)
    draft = tiny_model("llama", 0, vocab_size=vocab, num_hidden_layers=1)
    for parameter in draft.parameters():
        parameter.mul_(0.9)
    runs = NativeEngine(EngineSetup(target, {"draft": draft}, sampling))
    config = DecodingConfig(max_new_tokens=length)
    prompt = [1, 2, 3, 4]
    runs.prepare(prompt, config)
    chains, measured, overlaps = [], [], []
    for seed in range(150):
        text = runs.decode(config, None, 0, seed).token_ids
        keeps, overlap = sampled_agreement(Runner(target), runs.runner("draft"), prompt, text, sampling)
        chains.append(model_chain(keeps, 1, length))
        overlaps += overlap
        measured.append(runs.decode(config, "draft", k, 10_000 + seed))
    steps = sum(len(run.steps) for run in measured)
    tau = sum(map(step_tokens, measured)) / steps
    predicted = expected(chains, k).summary()
    assert 1.3 < tau < 3.9
    assert predicted.tokens_per_step == pytest.approx(tau, rel=0.04)
    # Σ min(p, q) is the mean of min(1, q/p) over the target's samples
    mean_keep = sum(chain.keeps[i][0] for chain in chains for i in range(length)) / (150 * length)
    assert sum(overlaps) / len(overlaps) == pytest.approx(mean_keep, abs=0.02)


# --- the embedded models on real text -------------------------------------------------------------

NEW_TOKENS = 16


@pytest.fixture(scope="module")
def embedded() -> NativeEngine:
    def load(name: str) -> Any:
        config = ModelConfig(model=f"demo/{name}")
        return load_model(Variant(find_checkpoint(config), "fp32"), torch.device("cpu"), config).model

    drafts = {"draft-small": load("draft-small"), "draft-medium": load("draft-medium"), "ngram": None}
    return NativeEngine(EngineSetup(load("target"), drafts))


@pytest.mark.parametrize("dataset", ["wikitext", "pg19"])
def test_embedded_models_are_lossless_and_replayed_exactly(
    dataset: str, embedded: NativeEngine, data_root: Any
) -> None:
    """fp32, greedy: every draft, K = 1 … 10, six prompts of each text."""
    text = TextConfig(dataset=dataset, data_root=data_root, num_prompts=6, max_prompt_tokens=64)
    model = ModelConfig()
    encode = text_encoder(load_tokenizer(find_checkpoint(model), model))
    config = DecodingConfig(max_new_tokens=NEW_TOKENS)
    num_kept = 0
    for prompt in select_prompts(load_dataset(text), text, Encoder(encode)):
        ids = list(prompt.token_ids)
        embedded.prepare(ids, config)
        plain = embedded.decode(config, None, 0, 0)
        measured = {(d, k): embedded.decode(config, d, k, 0) for d in embedded.drafters for k in range(1, 11)}
        for name in embedded.drafters:
            chain = chain_of(embedded, name, ids, plain, NEW_TOKENS)
            for k in range(1, 11):
                run = measured[name, k]
                assert run.token_ids == plain.token_ids, (prompt.prompt_id, name, k)
                assert list(run.steps) == steps_of(chain, k), (prompt.prompt_id, name, k)
                num_kept += sum(step.num_accepted for step in run.steps)
    assert num_kept > 200
