"""The speculative loop: lossless, honest about K, and cheap in forwards."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitdraft.backends import ENGINES, make_engine
from bitdraft.backends.base import EngineSetup, UnexpectedK
from bitdraft.backends.native import NativeEngine
from bitdraft.backends.transformers import TransformersEngine, _IdClock, _steps
from bitdraft.config import DecodingConfig, SamplingConfig
from bitdraft.engine.acceptance import Sampler
from bitdraft.engine.drafters.lookup import NgramDrafter
from bitdraft.engine.loop import NonFiniteDecoding
from bitdraft.engine.runner import Runner
from bitdraft.engine.static import forward
from bitdraft.engine.vocabulary import DraftVocabulary
from bitdraft.errors import UserError
from bitdraft.schema.records import Generation, Step
from tiny import CONFIGS, VOCAB, noisy_copy, tiny_model, tokens

GREEDY = SamplingConfig()


@pytest.fixture(params=["eager", "static"], autouse=True)
def execution(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Everything here holds for both paths; the static one as it is before it is recorded."""
    monkeypatch.setattr(forward, "sample_of", lambda _: None)
    real = NativeEngine.__init__

    def fixed(self: NativeEngine, setup: EngineSetup) -> None:
        real(self, setup if setup.execution != "auto" else replace(setup, execution=request.param))

    monkeypatch.setattr(NativeEngine, "__init__", fixed)
    return str(request.param)


def speculation(target: Any, vocab: int = VOCAB, sampling: SamplingConfig = GREEDY, **drafts: Any) -> Any:
    return NativeEngine(EngineSetup(target, drafts, sampling))


def greedy(model: Any, prompt: list[int], num_tokens: int) -> list[int]:
    """One full forward a token: nothing of the engine in it."""
    text = list(prompt)
    for _ in range(num_tokens):
        text.append(int(model(torch.tensor([text])).logits[0, -1].argmax()))
    return text[len(prompt) :]


def only_the_end_is_truncated(run: Generation) -> bool:
    flags = [step.truncated for step in run.steps]
    return flags == sorted(flags)


def emitted_by_steps(run: Generation) -> int:
    return sum(step.num_accepted + 1 for step in run.steps)


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("noise", [0.0, 0.05, 5.0], ids=["always", "sometimes", "never"])
def test_greedy_ids_are_those_of_the_target(kind: str, noise: float) -> None:
    kept = Counter[int]()
    for seed in range(2):
        target = tiny_model(kind, seed)
        runs = speculation(target, draft=noisy_copy(kind, seed, noise), ngram=None)
        prompt = tokens(seed, 30)
        expected = greedy(target, prompt, 25)
        config = DecodingConfig(max_new_tokens=25)
        runs.prepare(prompt, config)
        for draft, k in itertools.product(("draft", "ngram"), (1, 2, 5, 9)):
            run = runs.decode(config, draft, k, 0)
            assert list(run.token_ids) == expected, (draft, k)
            kept.update(step.num_accepted for step in run.steps if draft == "draft")
        assert list(runs.decode(config, None, 0, 0).token_ids) == expected
    if noise == 0:
        assert set(kept) >= {1, 2, 5, 9}
        assert max(kept) == 9
    elif noise == 5:
        assert kept[0] > 0.8 * kept.total()
    else:
        assert kept[0] > 0
        assert len(kept) > 1


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 50),
    noise=st.sampled_from([0.0, 0.03, 0.1, 3.0]),
    k=st.integers(1, 8),
    num_tokens=st.integers(1, 24),
    prompt_tokens=st.integers(1, 20),
    data=st.data(),
)
def test_any_run_is_the_targets_text_up_to_its_end(  # noqa: PLR0917 - drawn by name
    seed: int, noise: float, k: int, num_tokens: int, prompt_tokens: int, data: st.DataObject
) -> None:
    """Lengths, K, drafts of all qualities, and EOS at every place of a step."""
    target = tiny_model("llama", seed)
    prompt = tokens(seed + 1, prompt_tokens)
    expected = greedy(target, prompt, num_tokens)
    stop = data.draw(st.none() | st.sampled_from(expected))
    if stop is not None:
        target.generation_config.eos_token_id = stop
        expected = expected[: expected.index(stop) + 1]
    config = DecodingConfig(max_new_tokens=num_tokens, ignore_eos=stop is None)
    runs = speculation(target, draft=noisy_copy("llama", seed, noise))
    runs.prepare(prompt, config)
    run = runs.decode(config, "draft", k, 0)
    assert list(run.token_ids) == expected
    assert run.finish_reason == ("length" if stop is None else "eos")
    assert all(step.num_drafted == k or step.truncated for step in run.steps)
    assert only_the_end_is_truncated(run)
    drafted_eos = run.finish_reason == "eos" and run.steps and run.steps[-1].truncated
    after_first = len(expected) - 1
    assert emitted_by_steps(run) - after_first in ({0, 1} if drafted_eos else {0})
    assert sum(count for _, count in run.emissions) == len(expected)


def test_a_request_may_fill_the_context_to_its_last_token() -> None:
    target = tiny_model("gpt2")  # learned positions: a token beyond the context is an error
    prompt = tokens(3, 240)
    config = DecodingConfig(max_new_tokens=16)
    runs = speculation(target, draft=tiny_model("gpt2"))
    runs.prepare(prompt, config)
    assert list(runs.decode(config, "draft", 10, 0).token_ids) == greedy(target, prompt, 16)


def forward_sizes(model: Any) -> list[int]:
    """The number of tokens of every forward of a model from now on."""
    sizes: list[int] = []
    model.register_forward_pre_hook(
        lambda _module, _inputs, given: sizes.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    return sizes


def test_a_draft_forward_is_spent_on_drafted_tokens_alone(execution: str) -> None:
    """Also after a full acceptance, when the draft has not yet seen its own last token."""
    draft = tiny_model()
    runs = speculation(tiny_model(), draft=draft)
    config = DecodingConfig(max_new_tokens=40)
    runs.prepare(tokens(0, 20), config)
    runs.decode(config, "draft", 4, 0)
    sizes = forward_sizes(draft)
    run = runs.decode(config, "draft", 4, 0)
    # the last step has no room for four: a step of fixed shape drafts them all the same
    drafted = {"eager": sum(step.num_drafted for step in run.steps), "static": 4 * len(run.steps)}
    assert len(sizes) == drafted[execution]
    assert set(sizes) == {1, 2}
    assert all(step.num_accepted == step.num_drafted for step in run.steps)


def test_a_prompt_is_prefilled_once_for_all_runs() -> None:
    target = tiny_model()
    runs = speculation(target, draft=tiny_model("gpt_neox", 1))
    config = DecodingConfig(max_new_tokens=10)
    sizes = forward_sizes(target)
    runs.prepare(tokens(0, 33), config)
    plain = runs.decode(config, None, 0, 0)
    drafted = [runs.decode(config, "draft", k, 0) for k in (2, 3)]
    assert sizes.count(33) == 1
    assert max(sizes[1:]) == 4
    # all of them are told the same prefill, and a draft's own stands before its first token, too
    first_s = [run.emissions[0][0] - run.submit_s for run in (plain, *drafted)]
    assert min(first_s[1:]) >= first_s[0] > 0
    # the draft's own prefill is part of the time behind the first token
    assert all(run.emissions[1][0] > run.emissions[0][0] for run in drafted)


def test_phases_cover_the_time_of_the_steps() -> None:
    runs = speculation(tiny_model(), draft=tiny_model("gpt_neox", 1))
    config = DecodingConfig(max_new_tokens=30)
    runs.prepare(tokens(0, 20), config)
    runs.decode(config, "draft", 3, 0)
    shares = []
    for _ in range(5):  # a process that is set aside at a step's end has a run that differs
        run = runs.decode(config, "draft", 3, 0)
        assert set(run.phase_s) == {"draft", "verify", "host"}
        span_s = run.emissions[-1][0] - run.emissions[0][0] - runs.prefill_seconds("draft")
        shares.append(sum(run.phase_s.values()) / span_s)
    assert float(np.median(shares)) == pytest.approx(1, rel=0.05)


def with_loud_tail(vocab: int, first: int) -> Any:
    """A target that often says the ids from `first` on."""
    model = tiny_model("gpt_neox", 0, vocab_size=vocab)
    model.get_output_embeddings().weight[first:] *= 3
    return model


@pytest.mark.parametrize("execution", ["eager", "static"])
@pytest.mark.parametrize(
    ("target_vocab", "draft_vocab", "foreign"),
    [
        (VOCAB + 24, VOCAB + 8, ()),
        (VOCAB, VOCAB + 40, ()),
        (VOCAB, VOCAB - 8, ()),  # a draft without rows for what the target says
        (VOCAB, VOCAB, (VOCAB - 1, VOCAB - 2, 5)),
        (VOCAB + 2, VOCAB - 8, (3, VOCAB + 1)),
    ],
)
def test_a_drafts_vocabulary_never_changes_what_the_target_says(
    target_vocab: int, draft_vocab: int, foreign: tuple[int, ...], execution: Any
) -> None:
    target = with_loud_tail(target_vocab, min(target_vocab, draft_vocab, VOCAB - 2) - 2)
    draft = tiny_model("gpt_neox", 1, vocab_size=draft_vocab)
    drafts = {"draft": draft, "ngram": None}
    config, prompt = DecodingConfig(max_new_tokens=30), tokens(0, 20)
    own = greedy(target, prompt, 30)
    assert max(own) >= min(target_vocab, draft_vocab, VOCAB - 2) - 2
    setup = EngineSetup(target, drafts, GREEDY, execution, foreign={"draft": foreign})
    runs = NativeEngine(setup)
    runs.prepare(prompt, config)
    for name, k in ((None, 0), ("draft", 4), ("ngram", 4)):
        assert list(runs.decode(config, name, k, 0).token_ids) == own
    drawn = EngineSetup(target, drafts, SamplingConfig(temperature=1.0), execution, foreign=setup.foreign)
    warm = NativeEngine(drawn)
    warm.prepare(prompt, config)
    for name in ("draft", "ngram"):
        assert len(warm.decode(config, name, 4, 1).token_ids) == 30


def test_what_a_draft_may_not_say_is_never_proposed() -> None:
    """Its favourite token and all behind its last row have no probability, and no logit is infinite."""
    draft, prompt = tiny_model("gpt_neox", 1, vocab_size=VOCAB - 8), torch.tensor([tokens(0, 20)])
    plain = Runner(draft)
    plain.start(32)
    favourite = int(plain.forward(prompt)[0, -1].argmax())
    runner = Runner(draft, DraftVocabulary(draft, VOCAB, (favourite,)))
    runner.start(32)
    logits_V = runner.forward(prompt)[0, -1]
    assert logits_V.shape == (VOCAB,)
    assert logits_V.isfinite().all()
    p_V = Sampler(SamplingConfig(temperature=1.0)).probabilities(logits_V)
    assert p_V[favourite] == 0
    assert not p_V[VOCAB - 8 :].any()
    assert p_V.sum() == pytest.approx(1, abs=1e-5)


def test_draft_and_target_have_precisions_of_their_own() -> None:
    target = tiny_model()
    runs = speculation(target, draft=tiny_model().to(torch.bfloat16))
    config = DecodingConfig(max_new_tokens=30)
    runs.prepare(tokens(0, 20), config)
    run = runs.decode(config, "draft", 4, 0)
    assert list(run.token_ids) == greedy(target, tokens(0, 20), 30)
    assert sum(step.num_accepted for step in run.steps) > 10


@pytest.mark.parametrize("who", ["target", "draft"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_finite_are_told_by_whose_they_are(who: str, temperature: float) -> None:
    models = {"target": tiny_model(), "draft": tiny_model("gpt_neox", 1)}
    models[who].get_output_embeddings().weight[7] = math.nan
    runs = speculation(
        models["target"], sampling=SamplingConfig(temperature=temperature), draft=models["draft"]
    )
    config = DecodingConfig(max_new_tokens=10)
    runs.prepare(tokens(0, 20), config)
    with pytest.raises(NonFiniteDecoding) as caught:
        runs.decode(config, "draft", 3, 0)
    assert caught.value.who == who


# --- prompt lookup -------------------------------------------------------------------------------


def lookup(context: list[int], num_tokens: int) -> list[int]:
    """The definition, by search: the latest earlier place of the longest suffix, read on cyclically."""
    for size in range(min(NgramDrafter.LONGEST, len(context)), NgramDrafter.SHORTEST - 1, -1):
        for start in range(len(context) - size - 1, -1, -1):
            if context[start : start + size] == context[-size:]:
                text = list(context)
                for place in range(num_tokens):
                    text.append(text[start + size + place])
                return text[len(context) :]
    return []


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.data())
def test_prompt_lookup_is_its_definition_however_it_got_there(text: list[int], data: st.DataObject) -> None:
    prompt_tokens = data.draw(st.integers(1, len(text)))
    drafter = NgramDrafter(torch.device("cpu"), 4)
    drafter.start([text[:prompt_tokens]], 100)
    for _ in range(2):  # a second run of the same prompt must not know the first one's text
        end = prompt_tokens
        while end <= len(text):
            assert drafter.propose(text[:end], 6) == lookup(text[:end], 6)
            end += data.draw(st.integers(1, 4))
        drafter.rewind(prompt_tokens - 1)


def test_prompt_lookup_drafts_k_tokens_or_none() -> None:
    runs = speculation(tiny_model(), ngram=None)
    config = DecodingConfig(max_new_tokens=40)
    runs.prepare(tokens(0, 20), config)
    run = runs.decode(config, "ngram", 3, 0)
    assert {step.num_drafted for step in run.steps if not step.truncated} <= {0, 3}


# --- sampling ------------------------------------------------------------------------------------


def exact_law(
    model: Any, prompt: list[int], length: int, vocab: int, sampling: SamplingConfig
) -> dict[Any, float]:
    from bitdraft.engine.acceptance import Sampler

    law: dict[Any, float] = {(): 1.0}
    for _ in range(length):
        grown = {}
        for text, weight in law.items():
            logits = model(torch.tensor([[*prompt, *text]])).logits[0, -1:]
            for token, chance in enumerate(Sampler(sampling).probabilities(logits)[0].tolist()):
                grown[*text, token] = weight * chance
        law = grown
    return law


def chi_square_is_small(counts: Counter[Any], law: dict[Any, float]) -> bool:
    """Below the 99.99 % quantile (Wilson and Hilferty), cells with little expectation merged."""
    total = counts.total()
    if any(law[text] == 0 for text in counts):
        return False
    statistic, cells, rest_expected, rest_found = 0.0, 0, 0.0, 0
    for text, chance in law.items():
        if chance * total < 5:
            rest_expected += chance * total
            rest_found += counts[text]
        else:
            statistic += (counts[text] - chance * total) ** 2 / (chance * total)
            cells += 1
    if rest_expected > 0:
        statistic += (rest_found - rest_expected) ** 2 / rest_expected
        cells += 1
    freedom = cells - 1
    assert freedom > 2, "too few different texts to say anything"
    quantile = freedom * (1 - 2 / (9 * freedom) + 3.719 * math.sqrt(2 / (9 * freedom))) ** 3
    return statistic < quantile


@pytest.mark.parametrize("draft", ["draft", "ngram", "smaller"])
@pytest.mark.parametrize(
    "sampling",
    [SamplingConfig(temperature=1.0), SamplingConfig(temperature=1.5, top_k=5, top_p=0.9)],
    ids=["plain", "top-k, top-p"],
)
def test_sampled_texts_are_distributed_as_the_targets(draft: str, sampling: SamplingConfig) -> None:
    vocab, length, prompt = 8, 3, [1, 2, 3, 1, 2]
    target = tiny_model("llama", 0, vocab_size=vocab, num_hidden_layers=1)
    other = tiny_model("llama", 1, vocab_size=vocab, num_hidden_layers=1)
    smaller = tiny_model("llama", 1, vocab_size=vocab - 2, num_hidden_layers=1)
    drafts = {"draft": other, "ngram": None, "smaller": smaller}
    runs = NativeEngine(EngineSetup(target, drafts, sampling, foreign={"smaller": (2,)}))
    config = DecodingConfig(max_new_tokens=length)
    runs.prepare(prompt, config)
    counts: Counter[Any] = Counter(runs.decode(config, draft, 2, seed).token_ids for seed in range(1500))
    assert chi_square_is_small(counts, exact_law(target, prompt, length, vocab, sampling))
    # and the test would notice another distribution
    assert not chi_square_is_small(counts, exact_law(other, prompt, length, vocab, sampling))


def test_the_same_seed_gives_the_same_sample() -> None:
    runs = speculation(
        tiny_model(), sampling=SamplingConfig(temperature=1.0), draft=tiny_model("gpt_neox", 1)
    )
    config = DecodingConfig(max_new_tokens=12)
    runs.prepare(tokens(0, 10), config)
    assert runs.decode(config, "draft", 3, 5).token_ids == runs.decode(config, "draft", 3, 5).token_ids
    assert runs.decode(config, "draft", 3, 5).token_ids != runs.decode(config, "draft", 3, 6).token_ids


# --- transformers, and its traps -----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gpt_neox", "llama", "gpt2"])
def test_both_backends_give_the_same_ids_and_a_true_k(kind: str) -> None:
    for seed, k in itertools.product(range(2), (1, 3, 6)):
        target, draft = tiny_model(kind, seed), noisy_copy(kind, seed, 0.05)
        config = DecodingConfig(max_new_tokens=24)
        runs = []
        for name in ENGINES:
            decoder = make_engine(name, EngineSetup(target, {"draft": draft}))
            decoder.prepare(tokens(seed, 20), config)
            runs.append(decoder.decode(config, "draft", k, 0))
            assert decoder.decode(config, None, 0, 0).token_ids == runs[0].token_ids
        native, peer = runs
        assert native.token_ids == peer.token_ids
        for run in runs:
            assert {step.num_drafted for step in run.steps if not step.truncated} <= {k}
            assert only_the_end_is_truncated(run)
        assert len(peer.steps) == len(peer.emissions)


def test_the_assistants_own_settings_come_back() -> None:
    draft = tiny_model("gpt_neox", 1)
    before = draft.generation_config
    runs = TransformersEngine(EngineSetup(tiny_model(), {"draft": draft}, GREEDY))
    config = DecodingConfig(max_new_tokens=8)
    runs.prepare(tokens(0, 10), config)
    runs.decode(config, "draft", 3, 0)
    assert draft.generation_config is before


def test_an_assistants_eos_does_not_shorten_its_draft() -> None:
    target = tiny_model()
    config = DecodingConfig(max_new_tokens=24)
    draft = tiny_model()
    runs = TransformersEngine(EngineSetup(target, {"draft": draft}, GREEDY))
    runs.prepare(tokens(0, 20), config)
    draft.generation_config.eos_token_id = greedy(target, tokens(0, 20), 24)[5]
    assert {s.num_drafted for s in runs.decode(config, "draft", 4, 0).steps if not s.truncated} == {4}


def test_a_k_that_is_not_k_is_an_error() -> None:
    clock = _IdClock()
    clock.emissions, clock.drafted = [(1.0, 2), (2.0, 3), (3.0, 1)], [4, 3, 4]
    with pytest.raises(UnexpectedK, match="step 1 drafted 3 tokens where K = 4 makes 4"):
        _steps(clock, 4, DecodingConfig(max_new_tokens=30), ended=False)
    clock.drafted = [4, 3, 0]
    assert _steps(clock, 4, DecodingConfig(max_new_tokens=6), ended=False)[-1] == Step(0, 0, True)


def test_transformers_takes_no_other_padding() -> None:
    draft = tiny_model("gpt_neox", 1, vocab_size=VOCAB + 8)
    runs = TransformersEngine(EngineSetup(tiny_model(), {"draft": draft}, GREEDY))
    runs.prepare(tokens(0, 10), DecodingConfig(max_new_tokens=8))
    with pytest.raises(UserError, match="two vocabularies"):
        runs.decode(DecodingConfig(max_new_tokens=8), "draft", 3, 0)


def test_the_naive_call_still_ignores_k() -> None:
    """`generate(num_assistant_tokens=K)` drafts the same for every K. When this fails, transformers has
    mended it, and the backend's detour and the documentation of this trap can go."""
    target, draft = tiny_model(), noisy_copy("gpt_neox", 0, 0.05)
    calls = []
    for k in (2, 5, 10):
        counter: Counter[str] = Counter()
        hook = draft.register_forward_pre_hook(lambda *_, counter=counter: counter.update(["call"]))
        prompt = torch.tensor([tokens(0, 20)])
        target.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            assistant_model=draft,
            num_assistant_tokens=k,
            do_sample=False,
            max_new_tokens=40,
            eos_token_id=None,
            pad_token_id=0,
        )
        hook.remove()
        calls.append(counter["call"])
    assert len(set(calls)) == 1
