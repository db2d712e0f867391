"""What every engine promises. What only some can is said by their capabilities."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bitdraft.backends import ENGINES, Engine, EngineSetup, make_engine
from bitdraft.config import BackendName, DecodingConfig, Execution, SamplingConfig
from bitdraft.engine.drafters.base import Prefills
from bitdraft.metrics.speed import decode_span, request_seconds, ttft_ms
from gguf_files import load_tiny, needs_llama_cpp, write_tiny
from tiny import noisy_copy, tiny_model, tokens

PROMPT = tokens(3, 20)
LENGTH = DecodingConfig(max_new_tokens=16)
LLAMA_CPP = "native over llama.cpp"
every_engine = pytest.mark.parametrize(
    "name", [*ENGINES, pytest.param(LLAMA_CPP, marks=needs_llama_cpp)], ids=str
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where GGUF files of these models are written."""
    _files["folder"] = tmp_path_factory.mktemp("gguf")
    yield
    _files.clear()


pytestmark = pytest.mark.usefixtures("folder")
_files: dict[str, Path] = {}


def models() -> tuple[Any, Any]:
    return tiny_model(), noisy_copy("gpt_neox", 0, 0.05)


def of_llama_cpp(label: str, model: Any) -> Any:
    if label not in _files:
        _files[label] = write_tiny(_files["folder"] / label, model)
    return load_tiny(_files[label], "gguf-f32")


def engine(name: str, **changes: Any) -> Engine:
    target, draft = models()
    if name == LLAMA_CPP:
        target, draft = of_llama_cpp("target", target), of_llama_cpp("draft", draft)
    setup: dict[str, Any] = {
        "drafts": {"draft": draft},
        "execution": "auto" if name == LLAMA_CPP else "eager",
    }
    own: BackendName = "transformers" if name == "transformers" else "native"
    return make_engine(own, EngineSetup(target, **setup | changes))


def plain() -> tuple[int, ...]:
    found = engine("native").generate(PROMPT, LENGTH).token_ids
    assert len(found) == LENGTH.max_new_tokens
    return found


@every_engine
def test_records_are_whole(name: str) -> None:
    own = engine(name)
    own.prepare(PROMPT, LENGTH)
    for draft, k in ((None, 0), ("draft", 3)):
        run = own.decode(LENGTH, draft, k, 0)
        assert run.prompt_tokens == len(PROMPT)
        assert run.token_ids == plain()
        assert run.finish_reason == "length"
        times = [run.submit_s, *(time_s for time_s, _ in run.emissions)]
        assert times == sorted(times)
        assert sum(count for _, count in run.emissions) == len(run.token_ids)
        assert bool(run.steps) == bool(k)


@pytest.mark.parametrize("execution", ["eager", "static"])
def test_prefills_are_in_the_time_to_the_first_token_alone(
    execution: Execution, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A draft whose prefill took a hundred seconds: the request and its first token have them, the time after
    it, and so TPOT and `decode_speedup`, has not."""
    ready = Prefills.ready
    monkeypatch.setattr(Prefills, "ready", lambda *given: 100.0 + ready(*given))
    own = engine("native", execution=execution)
    own.prepare(PROMPT, LENGTH)
    plain, drafted = own.decode(LENGTH, None, 0, 0), own.decode(LENGTH, "draft", 3, 0)
    assert ttft_ms(plain) < 50_000
    assert ttft_ms(drafted) > 100_000
    for run in (plain, drafted):
        assert decode_span(run)[0] < 50
    assert request_seconds(drafted) > 100


@every_engine
@pytest.mark.parametrize("k", [1, 4])
def test_k_is_what_was_asked(name: str, k: int) -> None:
    own = engine(name)
    own.prepare(PROMPT, LENGTH)
    run = own.decode(LENGTH, "draft", k, 0)
    for step in run.steps:
        assert 0 <= step.num_accepted <= step.num_drafted <= k
        assert step.num_drafted == k or step.truncated
    first = 1 if own.capabilities.prefill_apart else 0
    assert first + sum(step.num_accepted + 1 for step in run.steps) >= len(run.token_ids)


@every_engine
def test_eos_ends_a_text_where_it_is_asked_to(name: str) -> None:
    text = plain()
    target = tiny_model()
    target.generation_config.eos_token_id = target.config.eos_token_id = text[7]
    if name == LLAMA_CPP:
        target = of_llama_cpp("ending", target)
    own: Engine = make_engine("transformers" if name == "transformers" else "native", EngineSetup(target, {}))
    run = own.generate(PROMPT, DecodingConfig(max_new_tokens=16, ignore_eos=False))
    assert (run.token_ids, run.finish_reason) == (text[: text.index(text[7]) + 1], "eos")
    assert own.generate(PROMPT, LENGTH).token_ids == text


@every_engine
def test_a_seed_gives_the_same_samples(name: str) -> None:
    own = engine(name, sampling=SamplingConfig(temperature=1.0))
    own.prepare(PROMPT, LENGTH)
    first, again, other = (own.decode(LENGTH, None, 0, seed).token_ids for seed in (1, 1, 2))
    assert first == again != other


@every_engine
def test_capabilities_are_true(name: str) -> None:
    own = engine(name)
    own.prepare(PROMPT, LENGTH)
    for has, ask in (
        (own.capabilities.token_models, lambda: own.runner(None)),
        (own.capabilities.batches, lambda: own.prepare_batch([PROMPT], LENGTH)),
        (own.capabilities.costs, lambda: own.kv_bytes_per_token(None)),
    ):
        if has:
            ask()
        else:
            with pytest.raises(NotImplementedError):
                ask()
    assert isinstance(own.execution(None)["execution"], str)
