"""Acceptance against enumeration: what comes out must be distributed as the target says."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.logits_process import (
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from bitdraft.config import SamplingConfig
from bitdraft.engine.acceptance import Sampler, UniformStream, accept_greedy, accept_sampled, draw, outcomes

Table = Callable[[tuple[int, ...]], torch.Tensor]


@pytest.mark.parametrize(
    ("drafted", "choices", "kept", "following"),
    [
        ([], [7], 0, 7),
        ([5], [5, 9], 1, 9),
        ([5], [6, 9], 0, 6),
        ([1, 2, 3], [1, 2, 3, 4], 3, 4),
        ([1, 2, 3], [1, 9, 3, 4], 1, 9),
        ([1, 2, 3], [9, 2, 3, 4], 0, 9),  # agreement behind a disagreement counts for nothing
    ],
)
def test_greedy_keeps_the_longest_agreeing_prefix(
    drafted: list[int], choices: list[int], kept: int, following: int
) -> None:
    found = accept_greedy(torch.tensor(drafted, dtype=torch.long), torch.tensor(choices))
    assert [int(value) for value in found] == [kept, following]


def test_outcomes_by_hand() -> None:
    q_KV = torch.tensor([[0.5, 0.5, 0.0]], dtype=torch.float64)
    p_TV = torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]], dtype=torch.float64)
    stop_T, next_TV = outcomes(torch.tensor([0]), q_KV, p_TV)
    # token 0 is kept with 0.2 / 0.5; refused, the rest of p above q is all on token 2
    torch.testing.assert_close(stop_T, torch.tensor([0.6, 0.4], dtype=torch.float64))
    torch.testing.assert_close(next_TV, torch.tensor([[0.0, 0, 1], [0.1, 0.1, 0.8]], dtype=torch.float64))


def random_table(seed: int, vocab: int, with_zeros: bool) -> Table:
    """A distribution for every prefix, some of its entries zero where asked."""

    def table(prefix: tuple[int, ...]) -> torch.Tensor:
        generator = torch.Generator().manual_seed(hash((seed, prefix)) % 2**31)
        weights = torch.rand(vocab, generator=generator, dtype=torch.float64)
        if with_zeros:
            weights[torch.rand(vocab, generator=generator) < 0.4] = 0
            weights[0] += 0.1
        return weights / weights.sum()

    return table


def emitted(p: Table, q: Table, k: int, length: int, vocab: int) -> dict[tuple[int, ...], float]:
    """The law of the first `length` tokens, over all drafts and all outcomes of every step."""
    found: Counter[tuple[int, ...]] = Counter()

    def grow(prefix: tuple[int, ...], weight: float) -> None:
        if len(prefix) >= length:
            found[prefix[:length]] += weight  # type: ignore[assignment]
            return
        for drafted in itertools.product(range(vocab), repeat=k):
            laws = [q((*prefix, *drafted[:place])) for place in range(k)]
            chance = math.prod(float(law[token]) for law, token in zip(laws, drafted, strict=True))
            if chance == 0:
                continue
            p_TV = torch.stack([p((*prefix, *drafted[:place])) for place in range(k + 1)])
            stop_T, next_TV = outcomes(torch.tensor(drafted), torch.stack(laws), p_TV)
            for kept, token in itertools.product(range(k + 1), range(vocab)):
                share = float(stop_T[kept] * next_TV[kept, token])
                if share > 0:
                    grow((*prefix, *drafted[:kept], token), weight * chance * share)

    grow((), 1.0)
    return dict(found)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([(3, 2, 3), (3, 1, 3), (4, 2, 2), (5, 1, 2), (3, 3, 2)]),
    st.booleans(),
    st.booleans(),
)
def test_emitted_tokens_follow_the_target_exactly(
    seed: int, shape: tuple[int, int, int], p_zeros: bool, q_zeros: bool
) -> None:
    vocab, k, length = shape
    p, q = random_table(seed, vocab, p_zeros), random_table(seed + 1, vocab, q_zeros)
    found = emitted(p, q, k, length, vocab)
    for text in itertools.product(range(vocab), repeat=length):
        expected = math.prod(float(p(text[:place])[text[place]]) for place in range(length))
        assert found.get(text, 0.0) == pytest.approx(expected, abs=1e-12)


def test_the_draft_of_the_target_itself_is_always_kept() -> None:
    p = random_table(1, 5, False)
    p_TV = torch.stack([p((place,)) for place in range(4)])
    stop_T, _ = outcomes(torch.tensor([1, 4, 2]), p_TV[:3], p_TV)
    assert stop_T.tolist() == [0, 0, 0, 1]


def test_draws_follow_the_outcomes() -> None:
    p, q = random_table(3, 4, False), random_table(4, 4, False)
    p_TV, q_KV = torch.stack([p((i,)) for i in range(3)]), torch.stack([q((i,)) for i in range(2)])
    drafted_K = torch.tensor([2, 1])
    stop_T, next_TV = outcomes(drafted_K, q_KV, p_TV)
    generator = torch.Generator().manual_seed(0)
    num_draws = 6000
    counts: Counter[tuple[int, int]] = Counter()
    for _ in range(num_draws):
        uniforms_2 = torch.rand(2, generator=generator, dtype=torch.float64)
        drawn = accept_sampled(drafted_K, q_KV, p_TV, uniforms_2)
        counts[int(drawn[0]), int(drawn[1])] += 1
    for kept, token in itertools.product(range(3), range(4)):
        chance = float(stop_T[kept] * next_TV[kept, token])
        spread = math.sqrt(chance * (1 - chance) / num_draws)
        assert counts[kept, token] / num_draws == pytest.approx(chance, abs=5 * spread + 1e-9)


def test_a_draw_is_where_the_cumulative_weights_pass_it() -> None:
    weights_V = torch.tensor([0.0, 2.0, 0.0, 1.0, 1.0, 0.0])
    shares = [0.0, 0.25, 0.4999, 0.5, 0.74, 0.75, 0.999999]
    found = draw(weights_V.expand(len(shares), -1), torch.tensor(shares, dtype=torch.float64))
    assert found.tolist() == [1, 1, 1, 3, 3, 4, 4]


def test_rows_of_a_batch_are_accepted_as_alone() -> None:
    rows = [random_table(seed, 4, seed % 2 == 0) for seed in range(6)]
    p_BTV = torch.stack([torch.stack([p((i,)) for i in range(4)]) for p in rows])
    q_BKV = torch.stack([torch.stack([p((i, 9)) for i in range(3)]) for p in rows])
    drafted_BK = q_BKV.argmax(-1)
    offered_BK = torch.arange(3) < torch.tensor([3, 3, 2, 1, 0, 3])[:, None]
    uniforms_B2 = torch.rand(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    together = accept_sampled(drafted_BK, q_BKV, p_BTV, uniforms_B2, offered_BK)
    for row in range(6):
        # what is not offered might as well not have been drafted
        k = int(offered_BK[row].sum())
        alone = accept_sampled(drafted_BK[row, :k], q_BKV[row, :k], p_BTV[row, : k + 1], uniforms_B2[row])
        assert [int(t[row]) for t in together] == [int(t) for t in alone]
    choices_BT = torch.cat([drafted_BK, drafted_BK[:, :1]], 1)
    kept_B, next_B = accept_greedy(drafted_BK, choices_BT, offered_BK)
    assert kept_B.tolist() == [3, 3, 2, 1, 0, 3]
    assert next_B.tolist() == choices_BT.gather(1, kept_B[:, None])[:, 0].tolist()


def test_uniform_numbers_depend_on_seed_and_step_alone() -> None:
    few, many = UniformStream(3, 4, 2), UniformStream(3, 40, 2)
    assert torch.equal(few.by_step, many.by_step[:4])
    assert torch.equal(few.first, many.first)
    assert not torch.equal(few.first, UniformStream(4, 4, 2).first)
    assert few.by_step.shape == (4, 4)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.floats(0.1, 3.0),
    st.none() | st.integers(1, 40),
    st.none() | st.floats(0.05, 1.0),
)
def test_probabilities_are_those_of_transformers(
    seed: int, temperature: float, top_k: int | None, top_p: float | None
) -> None:
    logits_TV = torch.randn(5, 30, generator=torch.Generator().manual_seed(seed)) * 3
    scores = TemperatureLogitsWarper(temperature)(None, logits_TV)
    if top_k is not None:
        scores = TopKLogitsWarper(top_k)(None, scores)
    if top_p is not None and top_p < 1:
        scores = TopPLogitsWarper(top_p)(None, scores)
    config = SamplingConfig(temperature=temperature, top_k=top_k, top_p=top_p)
    found = Sampler(config).probabilities(logits_TV)
    torch.testing.assert_close(found, scores.softmax(-1), atol=1e-6, rtol=1e-5)


def test_rows_that_are_not_finite_become_uniform() -> None:
    logits_TV = torch.tensor([[math.nan, 1.0], [math.inf, 0.0], [0.0, 0.0]])
    found = Sampler(SamplingConfig(temperature=1.0)).probabilities(logits_TV)
    assert found.tolist() == [[0.5, 0.5]] * 3


def test_tiny_temperatures_are_greedy() -> None:
    logits_TV = torch.tensor([[1.0, 3.0, 2.0], [-5.0, -7.0, -9.0]])
    for temperature in (1e-6, 1e-38):
        found = Sampler(SamplingConfig(temperature=temperature)).probabilities(logits_TV)
        assert found.argmax(-1).tolist() == [1, 0]
        assert found.max(-1).values.tolist() == [1, 1]
