"""The static path: equal to the simple one token for token, alone and in batches, recorded or not."""

from __future__ import annotations

import gc
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitdraft.backends.base import EngineSetup
from bitdraft.backends.native import NativeEngine
from bitdraft.config import DecodingConfig, SamplingConfig
from bitdraft.engine.cpu import layers as cpu_kernels
from bitdraft.engine.cpu import products
from bitdraft.engine.cpu.layers import DecodingLinear, copied_bytes, few_row_kernels, prepare_linears
from bitdraft.engine.drafters.lookup import NgramDrafter, look_up, recorded_look_up
from bitdraft.engine.static import forward as forward_module
from bitdraft.engine.static import trace as record_module
from bitdraft.engine.static.decoding import StaticPrompts
from bitdraft.engine.static.forward import StaticForward, unsupported_reason
from bitdraft.engine.static.graphs import Graphs
from bitdraft.engine.vocabulary import DraftVocabulary
from bitdraft.errors import UserError
from bitdraft.schema.records import Generation
from tiny import CONFIGS, VOCAB, noisy_copy, tiny_model, tokens

GREEDY, WARM = SamplingConfig(), SamplingConfig(temperature=1.0, top_p=0.9)
LENGTHS = (40, 25, 1, 7)
PROMPTS = [tokens(seed, length) for seed, length in enumerate(LENGTHS)]
THIRTY = DecodingConfig(max_new_tokens=30)
ARMS: tuple[tuple[str | None, int], ...] = ((None, 0), ("draft", 1), ("draft", 4), ("ngram", 4))


def decoder(kind: str, sampling: SamplingConfig, execution: Any) -> NativeEngine:
    drafts = {"draft": noisy_copy(kind, 0, 0.05), "ngram": None}
    return NativeEngine(EngineSetup(tiny_model(kind), drafts, sampling, execution=execution))


def ways(runs: NativeEngine) -> list[str]:
    """How the forwards of the target and of the draft are run."""
    return [runs.execution(draft)["execution"] for draft in (None, "draft")]


def seen(run: Generation) -> tuple[Any, ...]:
    return run.token_ids, run.steps, run.finish_reason


@pytest.mark.parametrize("sampling", [GREEDY, WARM], ids=["greedy", "sampled"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_static_equals_eager_alone_and_in_batches(kind: str, sampling: SamplingConfig) -> None:
    eager, static = (decoder(kind, sampling, execution) for execution in ("eager", "static"))
    expected = {}
    for row, prompt in enumerate(PROMPTS):
        eager.prepare(prompt, THIRTY)
        for draft, k in ARMS:
            expected[row, draft, k] = seen(eager.decode(THIRTY, draft, k, seed=row))
    for rows in ([0], [2], [3, 1, 2, 0]):
        static.prepare_batch([PROMPTS[row] for row in rows], THIRTY)
        for draft, k in ARMS:
            runs = static.decode_batch(THIRTY, draft, k, rows)
            for row, run in zip(rows, runs, strict=True):
                assert seen(run) == expected[row, draft, k], (rows, row, draft, k)
    assert ways(static) == ["static, recorded"] * 2
    assert {steps != () for _, steps, _ in expected.values()} == {True, False}


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 50),
    k=st.integers(0, 6),
    num_tokens=st.integers(1, 20),
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    draft=st.sampled_from(["draft", "ngram"]),
    data=st.data(),
)
def test_rows_end_on_their_own_and_stay_as_they_are(  # noqa: PLR0917 - drawn by name
    seed: int, k: int, num_tokens: int, lengths: list[int], draft: str, data: st.DataObject
) -> None:
    """Batches of any sizes, K and lengths, with an EOS that some rows meet: each row is as it is alone."""
    target = tiny_model("llama", seed)
    prompts = [tokens(seed + row, length) for row, length in enumerate(lengths)]
    config = DecodingConfig(max_new_tokens=num_tokens)
    drafts = {"draft": noisy_copy("llama", seed, 0.1), "ngram": None}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forward_module, "sample_of", lambda _: None)
        free = NativeEngine(EngineSetup(target, drafts, GREEDY, execution="static"))
        free.prepare_batch(prompts, config)
        texts = [run.token_ids for run in free.decode_batch(config, None, 0, range(len(prompts)))]
        stop = data.draw(st.none() | st.sampled_from(texts[0]))
        if stop is not None:
            target.generation_config.eos_token_id = stop
            config = DecodingConfig(max_new_tokens=num_tokens, ignore_eos=False)
            texts = [t[: t.index(stop) + 1] if stop in t else t for t in texts]
        static = NativeEngine(EngineSetup(target, drafts, GREEDY, execution="static"))
        static.prepare_batch(prompts, config)
        runs = static.decode_batch(config, draft if k else None, k, range(len(prompts)))
    assert [run.token_ids for run in runs] == texts
    for run in runs:
        assert sum(count for _, count in run.emissions) == len(run.token_ids)
        assert run.finish_reason == ("eos" if run.token_ids[-1] == stop else "length")
        assert len(run.steps) == (len(run.emissions) - 1 if k else 0)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=30), min_size=1, max_size=4), st.integers(1, 8)
)
def test_lookup_on_the_device_is_the_drafters(texts: list[list[int]], k: int) -> None:
    text_BN = torch.zeros(len(texts), max(map(len, texts)) + 5, dtype=torch.long)
    text_BN[:] = torch.randint(3, text_BN.shape)  # what stands behind a row's length must not matter
    for row, text in enumerate(texts):
        text_BN[row, : len(text)] = torch.tensor(text)
    lengths_B = torch.tensor([len(text) for text in texts])
    drafted_BK, found_B = look_up(text_BN, lengths_B, torch.arange(k))
    assert recorded_look_up() is not look_up
    recorded = recorded_look_up()(text_BN, lengths_B, torch.arange(k))
    assert torch.equal(recorded[0], drafted_BK)
    assert torch.equal(recorded[1], found_B)
    for row, text in enumerate(texts):
        drafter = NgramDrafter(torch.device("cpu"), 3)
        drafter.start([text], 100)
        expected = drafter.propose(text, k)
        assert bool(found_B[row]) == bool(expected)
        if expected:
            assert drafted_BK[row].tolist() == expected


def test_a_drafts_own_last_token_is_fed_once_more_or_not_at_all() -> None:
    """The shape of a step is the same whether or not all of the last one was kept."""
    target, draft = tiny_model(), noisy_copy("gpt_neox", 0, 0.05)
    sizes: list[int] = []
    draft.register_forward_pre_hook(
        lambda _module, _inputs, given: sizes.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    runs = NativeEngine(EngineSetup(target, {"draft": draft}, GREEDY, execution="static"))
    runs.prepare(PROMPTS[0], THIRTY)
    runs.prefill_seconds("draft")
    sizes.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forward_module, "sample_of", lambda _: None)
        run = runs.decode(THIRTY, "draft", 3, 0)
    assert len({step.num_accepted for step in run.steps if not step.truncated}) > 1
    assert sizes == [2, 1, 1] * len(run.steps)


# --- graphs, with a stand-in for the capture ---------------------------------------------------------


def flat(results: Any) -> list[torch.Tensor]:
    if isinstance(results, torch.Tensor):
        return [results]
    if isinstance(results, tuple):
        return list(results)
    parts = [getattr(results, name) for name in results.__dataclass_fields__]
    return [tensor for part in parts if part is not None for tensor in flat(part)]


def stand_in(function: Any) -> Any:
    """A replay reads and writes the tensors of the first call, as a graph does."""
    results = function()

    def replay() -> None:
        for old, new in zip(flat(results), flat(function()), strict=True):
            old.copy_(new)

    return replay, results


def with_graphs(runs: NativeEngine, capture: Any) -> Graphs:
    target = runs._forwards[None]
    assert isinstance(target, StaticForward)
    target.graphs = Graphs(capture)
    return target.graphs


@pytest.mark.parametrize("sampling", [GREEDY, WARM], ids=["greedy", "sampled"])
def test_graphs_equal_eager_with_the_host_one_step_behind(
    sampling: SamplingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward_module, "sample_of", lambda _: None)
    monkeypatch.setattr(forward_module, "COARSE", 32)  # several spans in one run
    eager, static = (decoder("llama", sampling, execution) for execution in ("eager", "static"))
    stop = 7
    for model in (eager, static):
        model._eos_ids = frozenset({stop})
    graphs = with_graphs(static, stand_in)
    long = DecodingConfig(max_new_tokens=40, ignore_eos=False)
    for config in (THIRTY, long):
        for rows in ([0], [3, 1, 2, 0]):
            static.prepare_batch([PROMPTS[row] for row in rows], config)
            for draft, k in ARMS:
                for _ in range(2):  # taken, then replayed alone
                    runs = static.decode_batch(config, draft, k, rows)
                for row, run in zip(rows, runs, strict=True):
                    eager.prepare(PROMPTS[row], config)
                    expected = seen(eager.decode(config, draft, k, seed=row))
                    if draft == "ngram" and sampling == GREEDY:
                        assert run.token_ids == expected[0]
                    assert seen(run) == expected, (config, rows, draft, k)
            assert len(graphs) >= len(ARMS) * 2
    assert ways(static) == ["static, graphs"] * 2
    assert graphs.capture_s > 0


def test_what_cannot_be_captured_is_run_as_it_is() -> None:
    def fail(_function: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    static = decoder("llama", GREEDY, "static")
    static.prepare(PROMPTS[0], THIRTY)
    expected = [seen(static.decode(THIRTY, draft, k, 0)) for draft, k in ARMS]
    graphs = with_graphs(static, fail)
    assert [seen(static.decode(THIRTY, draft, k, 0)) for draft, k in ARMS] == expected
    assert len(graphs) == 0
    assert "out of memory" in str(graphs.failure)
    assert static.execution(None)["execution"] == "static, recorded"


def test_costs_are_those_of_what_is_replayed() -> None:
    """Timed with graphs where there are graphs, and nothing is changed by it."""
    static = decoder("gpt_neox", GREEDY, "static")
    graphs = with_graphs(static, stand_in)
    static.prepare(PROMPTS[0], THIRTY)
    before = seen(static.decode(THIRTY, "draft", 4, 0))
    taken = len(graphs)
    assert static.draft_seconds("draft", [[*PROMPTS[0], 5]], 4) > 0
    assert static.verify_seconds([[*PROMPTS[0], 5]], 4) > 0
    assert static.verify_seconds([[*PROMPTS[0], 5]], 0) > 0
    assert len(graphs) > taken
    assert seen(static.decode(THIRTY, "draft", 4, 0)) == before


def test_an_allocation_that_fails_can_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    static = StaticForward(tiny_model())
    static.allocate(1, 64)
    real = torch.zeros

    def full(*sizes: Any, **given: Any) -> torch.Tensor:
        if sizes[:1] == (3,):
            raise torch.OutOfMemoryError("no room")
        return real(*sizes, **given)

    monkeypatch.setattr(torch, "zeros", full)
    for _ in range(2):
        with pytest.raises(torch.OutOfMemoryError):
            static.allocate(3, 64)
    monkeypatch.undo()
    found = StaticPrompts(static, [PROMPTS[0]], 9).decode(DecodingConfig(max_new_tokens=9))
    assert len(found[0].token_ids) == 9


# --- recordings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@torch.inference_mode()
def test_recorded_forwards_are_the_models_own_bit_for_bit(kind: str, dtype: torch.dtype) -> None:
    model = tiny_model(kind).to(dtype)
    recorded = StaticForward(model, DraftVocabulary(model, VOCAB + 20, (3, VOCAB - 1)))
    for num_rows, capacity in ((1, 80), (2, 150), (5, 90)):
        recorded.allocate(num_rows, capacity)
        for row in range(num_rows):
            recorded.prefill(row, tokens(row, 20 + row))
        starts_B1 = 20 + torch.arange(num_rows)[:, None]
        for turn, width in enumerate((1, 2, 9, 1, 5, 17, 3)):
            fed_BT = torch.tensor([tokens(10 * turn + row, width) for row in range(num_rows)])
            inputs = (recorded.span(64), fed_BT, starts_B1 + torch.arange(width))
            found = recorded.logits(*inputs)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(forward_module, "sample_of", lambda _: None)
                own = recorded.logits(*inputs)
            assert torch.equal(own, found), (num_rows, capacity, width)
    assert recorded.execution == "static, recorded"
    assert all(recorded._recordings.values())


@torch.inference_mode()
def test_a_model_that_looks_at_values_is_not_recorded() -> None:
    """A recording would hold one side of its branches for ever."""
    model = tiny_model()
    mlp = model.gpt_neox.layers[1].mlp

    def branch(_module: object, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        return output if output.sum() > 0 else output * 1.0

    mlp.register_forward_hook(branch)
    StaticPrompts(StaticForward(model), [PROMPTS[0]], 5).decode(DecodingConfig(max_new_tokens=5))
    static = StaticForward(model)
    StaticPrompts(static, [PROMPTS[0]], 5).decode(DecodingConfig(max_new_tokens=5))
    assert static.execution == "static"


@torch.inference_mode()
def test_a_recording_that_is_not_the_function_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    real: Any = torch.jit.trace

    def slightly_off(*args: Any, **settings: Any) -> Any:
        traced = real(*args, **settings)
        return lambda *given: traced(*given) + 1

    expected = StaticPrompts(StaticForward(tiny_model()), [PROMPTS[0]], 9)
    text = expected.decode(DecodingConfig(max_new_tokens=9))[0].token_ids
    for replacement in (slightly_off, lambda *_, **__: exec("raise RuntimeError")):
        monkeypatch.setattr(torch.jit, "trace", replacement)
        static = StaticForward(tiny_model())
        found = StaticPrompts(static, [PROMPTS[0]], 9).decode(DecodingConfig(max_new_tokens=9))[0]
        assert static.execution == "static"
        assert found.token_ids == text


def test_a_recording_is_compared_in_what_it_changes_too() -> None:
    def function(counts: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        counts.add_(step)
        return counts.sum()

    samples = [(torch.zeros(3), torch.ones(3)), (torch.zeros(5), torch.ones(5))]
    recorded = record_module.record(function, samples)
    assert recorded is not None
    counts = torch.zeros(4)
    assert int(recorded(counts, torch.ones(4))) == 4
    assert counts.tolist() == [1, 1, 1, 1]
    assert samples[0][0].sum() == 0

    def of_one_size(counts: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        return counts + torch.zeros(int(counts.shape[0]))

    assert record_module.record(of_one_size, samples) is None


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_equals_eager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts that read the whole capacity and half of it, two K: sizes that are variables of a
    compilation."""
    # code that was cached for other instructions than this process may use ends it
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    texts: dict[str, list[Any]] = {"eager": [], "compiled": []}
    for execution, found in texts.items():
        sizes = {"num_hidden_layers": 1, "max_position_embeddings": 512}
        target, draft = (tiny_model("gpt_neox", seed, **sizes) for seed in (0, 1))
        settings: Any = {"execution": execution, "capacity": 512}
        runs = NativeEngine(EngineSetup(target, {"draft": draft}, GREEDY, **settings))
        for prompt in (tokens(0, 300), tokens(1, 40), tokens(2, 480)):
            runs.prepare(prompt, DecodingConfig(max_new_tokens=16))
            for draft_name, k in ((None, 0), ("draft", 2), ("draft", 5)):
                found.append(seen(runs.decode(DecodingConfig(max_new_tokens=16), draft_name, k, 0)))
        assert ways(runs) == [execution] * 2
    assert texts["eager"] == texts["compiled"]


def test_without_a_compiler_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        def raising(*_: Any) -> Any:
            raise torch._dynamo.exc.BackendCompilerFailed(fail, RuntimeError("no compiler"), None)

        return raising

    monkeypatch.setattr(torch, "compile", fail)
    runs = NativeEngine(EngineSetup(tiny_model(), {}, GREEDY, execution="compiled"))
    runs.prepare(PROMPTS[0], THIRTY)
    with pytest.raises(UserError, match="--execution static"):
        runs.decode(THIRTY, None, 0, 0)


# --- which models ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "rotary"),
        ("llama", {"attention_chunk_size": 8}, "neither as a whole"),
        ("qwen2", {"layer_types": ["full_attention", "chunked_attention", "full_attention"]}, "neither as"),
    ],
)
def test_other_models_are_run_eagerly_and_say_so(kind: str, changes: dict[str, Any], reason: str) -> None:
    model = tiny_model(kind)
    for name, value in changes.items():
        setattr(model.config, name, value)
    assert reason in str(unsupported_reason(model))
    runs = NativeEngine(EngineSetup(tiny_model(kind), {"draft": model}, GREEDY))
    assert runs.mode == runs.execution(None)["execution"] == "eager"
    assert "because draft draft can" in str(runs.fallback_reason)
    with pytest.raises(UserError, match="batch_size"):
        runs.prepare_batch(PROMPTS, THIRTY)


def test_a_model_that_gives_other_logits_is_found_out() -> None:
    model = tiny_model()
    inner = model.gpt_neox.forward
    # as a model does that derives positions from a mask of its own
    model.gpt_neox.forward = lambda *args, **given: inner(*args, **given | {"position_ids": None})
    assert "other logits" in str(unsupported_reason(model))


@pytest.mark.parametrize(("slow", "expected"), [("static", "eager"), ("eager", "static")])
def test_automatic_execution_takes_the_faster_one(
    slow: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spent_s, real = 0.0, NativeEngine.decode

    def decode(self: Any, *args: Any, **given: Any) -> Any:
        nonlocal spent_s
        spent_s += 2.0 if self.mode == slow else 1.0
        return real(self, *args, **given)

    monkeypatch.setattr(sys.modules[NativeEngine.__module__], "now", lambda: spent_s)
    monkeypatch.setattr(NativeEngine, "decode", decode)
    assert NativeEngine(EngineSetup(tiny_model(), {}, GREEDY)).mode == expected


# --- linear layers -----------------------------------------------------------------------------------


def large_linear(dtype: torch.dtype, num_outputs: int = 1024) -> Any:
    """One layer that is large enough to be packed, in what looks like a model."""
    model = torch.nn.Module()
    model.linear = torch.nn.Linear(512, num_outputs).to(dtype).requires_grad_(False)
    model.embedding = torch.nn.Embedding(4, 4)
    model.device, model.dtype = torch.device("cpu"), dtype  # type: ignore[assignment]
    model.get_input_embeddings = lambda: model.embedding  # type: ignore[assignment]
    return model


@pytest.fixture(params=["all", "few", "none"])
def use(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What weights are packed for, which is measured otherwise."""
    monkeypatch.setattr(products.ProductChoices, "packed_for", lambda *_: request.param)
    return str(request.param)


@pytest.fixture(params=["as this processor", "as one that packs nothing"])
def can_pack(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[torch.dtype], bool]:
    """What oneDNN packs differs from processor to processor; the way without it is held on all of them."""
    if request.param == "as this processor":
        return products.can_pack
    monkeypatch.setattr(cpu_kernels, "can_pack", lambda _: False)
    return lambda _: False


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_prepared_layers_give_the_same_product(
    dtype: torch.dtype, use: str, can_pack: Callable[[torch.dtype], bool]
) -> None:
    model = large_linear(dtype)
    states = {rows: torch.randn(1, rows, 512).to(dtype) for rows in (1, 2, 3, 64, 65)}
    expected = {rows: model.linear(x) for rows, x in states.items()}
    rows = prepare_linears(model)
    assert (rows is not None) == can_pack(dtype)
    assert prepare_linears(model) is rows, "a second time changes nothing"
    for num_rows, x in states.items():
        with few_row_kernels(num_rows, model.device, dtype, rows):
            found = model.linear(x)
        tolerance = 1e-5 if dtype == torch.float32 else 2e-2
        torch.testing.assert_close(found, expected[num_rows], atol=tolerance, rtol=tolerance)
    if rows is None:
        assert type(model.linear) is torch.nn.Linear
        return
    assert (model.linear.packed_key is not None) == (use != "none")
    assert (model.linear.weight.numel() == 0) == (use == "all"), "one copy is enough"


@pytest.mark.parametrize("use", ["all"], indirect=True)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_packed_weights_go_with_their_layer(
    dtype: torch.dtype, use: str, can_pack: Callable[[torch.dtype], bool]
) -> None:
    gc.collect()
    before = len(cpu_kernels._packed)
    model = large_linear(dtype)
    prepare_linears(model)
    assert isinstance(model.linear, DecodingLinear) == can_pack(dtype)
    assert len(cpu_kernels._packed) == before + can_pack(dtype)
    del model
    gc.collect()
    assert len(cpu_kernels._packed) == before


def test_what_can_be_packed_is_asked_of_the_processor_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Library:
        def _is_mkldnn_bf16_supported(self) -> bool:
            asked.append("bf16")
            return False

        def _is_mkldnn_fp16_supported(self) -> bool:
            asked.append("fp16")
            return True

    monkeypatch.setattr(products, "_mkldnn", Library())
    products.can_pack.cache_clear()
    try:
        found = [[products.can_pack(d) for d in (torch.bfloat16, torch.float16)] for _ in range(3)]
    finally:
        products.can_pack.cache_clear()
    assert found == [[False, True]] * 3
    assert asked == ["bf16", "fp16"]


def test_without_memory_for_copies_nothing_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        available = 1000

    monkeypatch.setattr(psutil, "virtual_memory", Full)
    model = large_linear(torch.bfloat16)
    assert prepare_linears(model) is None
    assert type(model.linear) is torch.nn.Linear


@pytest.mark.parametrize("use", ["few"], indirect=True)
def test_preparing_changes_no_value(use: str) -> None:
    for kind in CONFIGS:
        model, laid = tiny_model(kind), tiny_model(kind)
        prepare_linears(laid)
        for (name, old), (_, new) in zip(model.named_parameters(), laid.named_parameters(), strict=True):
            assert torch.equal(old, new), name
        strides = [m.weight.stride() for m in laid.modules() if isinstance(m, torch.nn.Linear)]
        assert kind == "gpt2" or all(row == 1 for row, _ in strides[:-1])


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([1.0, 1.04, 2.0, 1.1], "all"),  # plain and packed with one row, then with a few
        ([1.0, 1.06, 2.0, 1.1], "few"),
        ([1.0, 1.06, 2.0, 1.81], "none"),
        ([1.0, 0.5, 1.0, 1.06], "none"),
    ],
)
def test_weights_are_packed_where_that_is_faster(
    seconds: list[float], expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BITDRAFT_CACHE", str(tmp_path))
    monkeypatch.setattr(products, "_seconds", lambda *_: seconds)
    assert products.ProductChoices().packed_for(torch.ones(8, 8)) == expected


def test_products_are_timed_once_a_size_and_leave_oneDNN_as_it_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BITDRAFT_CACHE", str(tmp_path / "new"))
    timed: list[tuple[int, int]] = []
    seconds = products._seconds

    def counted(num_out: int, num_in: int, dtype: torch.dtype) -> list[float]:
        timed.append((num_out, num_in))
        return seconds(num_out, num_in, dtype)

    monkeypatch.setattr(products, "_seconds", counted)
    before = torch.backends.mkldnn.enabled
    choices = products.ProductChoices()
    assert len({choices.packed_for(torch.ones(24, 40)) for _ in range(3)}) == 1
    assert timed == [(24, 40)]
    assert torch.backends.mkldnn.enabled == before
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        if products.can_pack(dtype):
            assert all(spent_s > 0 for spent_s in seconds(24, 40, dtype))
    # another process on this machine decides alike, and so does one on another that goes on behind this one
    assert products.ProductChoices().packed_for(torch.ones(24, 40)) == choices.packed_for(torch.ones(24, 40))
    assert timed == [(24, 40)]
    monkeypatch.setattr(products, "machine", lambda: "another machine")
    again = products.ProductChoices(choices.record())
    assert again.packed_for(torch.ones(24, 40)) == choices.packed_for(torch.ones(24, 40))
    assert timed == [(24, 40)]


@pytest.mark.parametrize("content", ["", "[]", "nonsense", '{"machine": 3}', "\udcff"])
def test_a_damaged_or_unwritable_memory_of_products_is_no_error(
    content: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BITDRAFT_CACHE", str(tmp_path))
    monkeypatch.setattr(products, "machine", lambda: "machine")
    monkeypatch.setattr(products, "_seconds", lambda *_: [1.0, 0.5, 1.0, 0.5])
    products.choices_file().write_bytes(content.encode("utf-8", "surrogateescape"))
    name = products.key(8, 8, torch.float32)
    assert products.ProductChoices().packed_for(torch.ones(8, 8)) == "all"
    assert products.remembered() == {name: "all"}
    # another process that has timed it meanwhile takes the first one's choice
    assert products.remember(name, "few") == "all"
    monkeypatch.setenv("BITDRAFT_CACHE", str(products.choices_file() / "below a file"))
    assert products.ProductChoices().packed_for(torch.ones(8, 8)) == "all"
    assert products.remembered() == {}


def test_weights_that_are_kept_twice_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products.ProductChoices, "packed_for", lambda *_: "few")
    model = tiny_model()
    rows = prepare_linears(model)
    assert rows is not None
    assert copied_bytes(model) == 0, "nothing is packed before it is needed"
    rows.are_few = True
    model(torch.ones(1, 4, dtype=torch.long))
    linears = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    assert copied_bytes(model) == sum(module.weight.numel() * 4 for module in linears)


def test_few_row_kernels_restore_the_setting() -> None:
    switch: Any = torch.backends.mkldnn
    before = switch.enabled
    try:
        for enabled in (True, False):
            switch.enabled = enabled
            with few_row_kernels(1, torch.device("cpu"), torch.bfloat16):
                assert not switch.enabled
            with few_row_kernels(9, torch.device("cpu"), torch.bfloat16):
                assert switch.enabled == enabled
            with few_row_kernels(9, torch.device("cpu"), torch.float32):
                assert not switch.enabled
            with pytest.raises(KeyError), few_row_kernels(1, torch.device("cpu"), torch.float32):
                raise KeyError
            assert switch.enabled == enabled
    finally:
        switch.enabled = before
