"""CUDA graphs and speculation on a CUDA device, through `NativeEngine` alone.

tests/unit/test_static.py holds the same code on a CPU, with a stand-in for the capture.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from bitdraft.backends.base import EngineSetup
from bitdraft.backends.native import NativeEngine
from bitdraft.config import DecodingConfig, Execution, SamplingConfig
from bitdraft.schema.records import Generation
from bitdraft.spec_decode.control import first_difference
from tiny import VOCAB, noisy_copy, tiny_model, tokens

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="no CUDA device: scripts/gpu_check runs these on one"
    ),
]

DEVICE, GRAPHS = "cuda", "static, graphs"
KINDS = ("gpt_neox", "llama", "mistral")
MIB = 2**20
GREEDY = SamplingConfig()
WARM = SamplingConfig(temperature=1.0, top_p=0.9)
THIRTY = DecodingConfig(max_new_tokens=30)
PROMPTS = [tokens(seed, length) for seed, length in enumerate((40, 25, 1, 7))]
ARMS: tuple[tuple[str | None, int], ...] = ((None, 0), ("draft", 1), ("draft", 4), ("ngram", 4))
# how far apart two roundings of a logit may lie, relative to the largest one, in a few layers
NEAR = {torch.float16: 0.02, torch.bfloat16: 0.1}


def decoder(
    kind: str,
    execution: Execution,
    dtype: torch.dtype = torch.float32,
    sampling: SamplingConfig = GREEDY,
    capacity: int = 0,
) -> NativeEngine:
    target, draft = (model.to(DEVICE, dtype) for model in (tiny_model(kind), noisy_copy(kind, 0, 0.05)))
    drafts = {"draft": draft, "ngram": None}
    return NativeEngine(EngineSetup(target, drafts, sampling, execution=execution, capacity=capacity))


def seen(run: Generation) -> tuple[Any, ...]:
    return run.token_ids, run.steps, run.finish_reason


def used_bytes() -> int:
    """On the whole device: graphs keep memory that the allocator does not count as allocated."""
    gc.collect()
    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    return int(total - free)


@pytest.fixture
def memory_limit() -> Iterator[None]:
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


@pytest.mark.parametrize("sampling", [GREEDY, WARM], ids=["greedy", "sampled"])
@pytest.mark.parametrize("kind", KINDS)
def test_graphs_equal_eager_token_for_token_in_fp32(kind: str, sampling: SamplingConfig) -> None:
    """Alone and in a ragged batch; captured, then replayed."""
    eager, static = (decoder(kind, execution, sampling=sampling) for execution in ("eager", "static"))
    expected = {}
    for row, prompt in enumerate(PROMPTS):
        eager.prepare(prompt, THIRTY)
        for draft, k in ARMS:
            expected[row, draft, k] = seen(eager.decode(THIRTY, draft, k, row))
    for rows in ([0], [2], [3, 1, 2, 0]):
        static.prepare_batch([PROMPTS[row] for row in rows], THIRTY)
        for draft, k in ARMS:
            for _ in range(2):
                runs = static.decode_batch(THIRTY, draft, k, rows)
                for row, run in zip(rows, runs, strict=True):
                    assert seen(run) == expected[row, draft, k], (rows, row, draft, k)
    assert static.execution(None)["execution"] == GRAPHS


@pytest.mark.parametrize("kind", KINDS)
def test_oracle_drafts_leave_the_text_as_it_is(kind: str) -> None:
    static = decoder(kind, "static")
    static.prepare_batch(PROMPTS[:2], THIRTY)
    texts = [run.token_ids for run in static.decode_batch(THIRTY, None, 0, [0, 0])]
    agreeing = static.decode_batch(THIRTY, "draft", 4, [0, 0], texts)
    other = [[(token + 1) % VOCAB for token in text] for text in texts]
    disagreeing = static.decode_batch(THIRTY, "draft", 4, [0, 0], other)
    assert [run.token_ids for run in agreeing] == [run.token_ids for run in disagreeing] == texts
    assert all(len(run.steps) == math.ceil(29 / 5) for run in agreeing)
    assert all(len(run.steps) == 29 for run in disagreeing)


@pytest.mark.parametrize("known", [True, False], ids=["capacity known", "capacity grows"])
def test_many_captures_stay_within_bounds(known: bool) -> None:
    """Thirty (K, length) twice: the second round takes no more memory, and the first one not more than
    workspaces of the streams that capture (up to 32 of 32 MiB) and small graphs."""
    static = decoder("llama", "static", capacity=200 if known else 0)
    pairs = [(k, length) for length in (10, 35, 60, 85, 110) for k in range(1, 7)]
    before = used_bytes()
    used = []
    for _ in range(2):
        for k, length in pairs:
            static.prepare(tokens(length, length), THIRTY)
            assert len(static.decode(THIRTY, "draft", k, 0).token_ids) == 30
        used.append(used_bytes())
    assert static.execution(None)["execution"] == GRAPHS
    assert used[0] - before < 2048 * MIB
    assert used[1] - used[0] < 64 * MIB


@pytest.mark.usefixtures("memory_limit")
def test_a_capture_without_memory_falls_back_or_says_so() -> None:
    """Either way nothing is silently wrong, and with memory all is as it was."""
    free = decoder("gpt_neox", "static")
    free.prepare(PROMPTS[0], THIRTY)
    expected = [seen(free.decode(THIRTY, draft, k, 0)) for draft, k in ARMS]
    static = decoder("gpt_neox", "static")
    static.prepare(PROMPTS[0], THIRTY)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 1) / total)
    for (draft, k), right in zip(ARMS, expected, strict=True):
        try:
            found: Any = seen(static.decode(THIRTY, draft, k, 0))
        except RuntimeError as error:  # torch.OutOfMemoryError is one
            found = str(error).lower()
        assert found == right or "out of memory" in found
    torch.cuda.set_per_process_memory_fraction(1.0)
    static.prepare(PROMPTS[0], THIRTY)
    assert [seen(static.decode(THIRTY, draft, k, 0)) for draft, k in ARMS] == expected


@torch.inference_mode()
def lead(runs: NativeEngine, text: list[int]) -> tuple[float, float]:
    """The first logit's lead over the second behind a text, and the largest magnitude."""
    target = runs.runner(None)
    target.start(len(text))
    logits = target.forward(target.to_device(text))[0, -1].float()
    top = logits.topk(2).values
    return float(top[0] - top[1]), float(logits.abs().max())


@pytest.mark.parametrize("dtype", list(NEAR), ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_in_16_bits_texts_part_at_near_ties_alone(kind: str, dtype: torch.dtype) -> None:
    """Prints where each run leaves eager K = 0, and how near the tie was (pytest -rP)."""
    eager, static = (decoder(kind, execution, dtype) for execution in ("eager", "static"))
    num_apart = 0
    for index, prompt in enumerate(PROMPTS):
        eager.prepare(prompt, THIRTY)
        base = eager.decode(THIRTY, None, 0, 0)
        static.prepare(prompt, THIRTY)
        for draft, k in ARMS:
            run = static.decode(THIRTY, draft, k, 0)
            if run.token_ids == base.token_ids:
                continue
            num_apart += 1
            place = first_difference(base, run)
            gap, largest = lead(eager, [*prompt, *base.token_ids[:place]])
            print(f"{kind} {dtype} prompt {index}, {draft} K = {k}: token {place}, lead {gap:.4f}")
            assert gap <= NEAR[dtype] * largest
    print(f"{kind} {dtype}: {num_apart} of {len(PROMPTS) * len(ARMS)} runs part from eager K = 0")
