from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdraft.metrics.acceptance import speculation_figures
from bitdraft.metrics.quality import (
    block_lengths,
    block_sums,
    kl_figures,
    paired_figures,
    perplexity,
    score_blocks,
    text_figures,
)
from bitdraft.metrics.speed import (
    bandwidth_utilisation,
    decode_bytes,
    inter_token_ms,
    speed_figures,
    speed_ratio,
)
from bitdraft.schema.records import Figure, Generation, ScoreBlocks, Step
from bitdraft.stats.intervals import ratio_of_sums
from tiny import generation

FIRST = generation(100.0, [100.5, 100.7, 100.9, 101.5])  # 4 tokens in 1.5 s
SECOND = generation(200.0, [201.0, 201.5])  # 2 tokens in 1.5 s


def test_speed_by_hand() -> None:
    figures = speed_figures([FIRST, SECOND])
    assert figures["throughput_tok_s"].value == pytest.approx(6 / 3.0)
    assert figures["ttft_ms"].value == pytest.approx((500 + 1000) / 2)
    assert figures["tpot_ms"].value == pytest.approx(1000 * (1.0 + 0.5) / (3 + 1))
    assert figures["decode_tok_s"].value == pytest.approx(1000 / figures["tpot_ms"].value)
    assert figures["itl_p50_ms"].value == pytest.approx(350)
    assert figures["itl_p50_ms"].n == 4


def test_a_gap_with_several_tokens_is_one_sample() -> None:
    speculative = Generation(
        prompt_tokens=3,
        submit_s=0.0,
        emissions=((1.0, 1), (1.5, 4), (2.0, 2)),
        token_ids=tuple(range(7)),
        finish_reason="length",
    )
    assert inter_token_ms(speculative) == [500.0, 500.0]
    assert speed_figures([speculative])["tpot_ms"].value == pytest.approx(1000 * 1.0 / 6)


def test_one_token_requests_have_no_tpot() -> None:
    assert set(speed_figures([generation(0, [1.0])])) == {"throughput_tok_s", "ttft_ms"}


def test_bandwidth_utilisation_by_hand() -> None:
    run = generation(0.0, [1.0, 2.0, 3.0], prompt_tokens=10)
    # Two steps of 1 s; they read 11 and 12 cached tokens (their own included).
    streamed = decode_bytes(run, weight_bytes=1000, kv_bytes_per_token=10)
    figure = bandwidth_utilisation([run], [streamed], copy_bytes_s=5000)
    assert figure is not None
    assert figure.value == pytest.approx((2 * 1000 + 10 * (11 + 12)) / 2 / 5000)


def test_speed_ratio_pairs_prompts() -> None:
    slower = [generation(0, [2.0, 3.0]), generation(0, [4.0, 6.0])]
    faster = [generation(0, [1.0, 1.5]), generation(0, [2.0, 3.0])]
    assert speed_ratio(faster, slower).value == pytest.approx(2)


def test_perplexity_of_a_uniform_model_is_its_vocabulary() -> None:
    log_prob = np.full(1000, -math.log(50))
    blocks = score_blocks(log_prob, np.zeros(1000, int), block_lengths(1000, None))
    assert perplexity(blocks).value == pytest.approx(50)
    assert sum(blocks.num_tokens) == 1000


def test_document_mean_differs_from_token_mean() -> None:
    log_prob = np.array([-1.0, -1.0, -1.0, -4.0])
    blocks = score_blocks(log_prob, np.zeros(4, int), block_lengths(4, [3, 1]))
    assert perplexity(blocks, "documents").value == pytest.approx(math.exp(2.5))
    assert perplexity(blocks, "tokens").value == pytest.approx(math.exp(7 / 4))


def test_text_figures_by_hand() -> None:
    blocks = ScoreBlocks(num_tokens=(2, 2), log_prob=(-3.0, -5.0))
    figures = text_figures(blocks, num_words=4, num_bytes=16)
    assert figures["word_ppl"].value == pytest.approx(math.exp(2))
    assert figures["byte_ppl"].value == pytest.approx(math.exp(0.5))
    assert figures["bits_per_byte"].value == pytest.approx(0.5 / math.log(2))


def test_text_without_spaces_has_no_word_perplexity() -> None:
    blocks = ScoreBlocks(num_tokens=(400,), log_prob=(-3000.0,))
    assert set(text_figures(blocks, num_words=1, num_bytes=1200)) == {"byte_ppl", "bits_per_byte"}
    assert math.isfinite(perplexity(ScoreBlocks(num_tokens=(1,), log_prob=(-9000.0,))).value)


def test_paired_figures_by_hand() -> None:
    own, reference = np.log([0.5, 0.25]), np.log([0.4, 0.3])
    blocks = score_blocks(own, np.array([1, 2]), [1, 1], (reference, np.array([1, 3])))
    figures = paired_figures(blocks)
    expected = (math.log(0.4 * 0.3) - math.log(0.5 * 0.25)) / 2
    assert figures["delta_ln_ppl"].value == pytest.approx(expected)
    assert figures["top1_agreement"].value == 0.5
    assert figures["delta_p_rms"].value == pytest.approx(math.sqrt((0.1**2 + 0.05**2) / 2))


def test_delta_is_the_difference_of_the_log_perplexities() -> None:
    rng = np.random.default_rng(0)
    own, reference = -rng.exponential(3, 700), -rng.exponential(3, 700)
    same = np.zeros(700, int)
    lengths = block_lengths(700, None)
    paired = score_blocks(own, same, lengths, (reference, same))
    base = score_blocks(reference, same, lengths)
    expected = math.log(perplexity(paired).value / perplexity(base).value)
    assert paired_figures(paired)["delta_ln_ppl"].value == pytest.approx(expected)


def test_paired_interval_is_far_narrower_than_the_perplexities_own() -> None:
    rng = np.random.default_rng(0)
    reference = -rng.exponential(3, 20_000)
    own = reference + rng.normal(0, 0.01, 20_000)
    blocks = score_blocks(
        own, np.zeros(20_000, int), block_lengths(20_000, None), (reference, np.zeros(20_000, int))
    )
    ppl, delta = perplexity(blocks), paired_figures(blocks)["delta_ln_ppl"]
    assert ppl.low is not None
    assert ppl.high is not None
    assert delta.low is not None
    assert delta.high is not None
    assert math.log(ppl.high / ppl.low) > 50 * (delta.high - delta.low)


def test_kl_figures_by_hand() -> None:
    figures = kl_figures([0.0, 0.1, 0.2, 0.7])
    assert figures["kl_divergence"].value == pytest.approx(0.25)
    assert figures["kl_median"].value == pytest.approx(0.15)
    assert figures["kl_max"].value == 0.7


@given(st.integers(1, 2000))
def test_blocks_cover_every_token_once(num_tokens: int) -> None:
    lengths = block_lengths(num_tokens, None)
    assert sum(lengths) == num_tokens
    assert min(lengths) >= 1
    assert block_sums(np.ones(num_tokens), lengths).tolist() == list(lengths)


def test_acceptance_counts_only_prompts_with_drafts() -> None:
    """Most prompts draft nothing: no resample may divide by zero."""
    quiet = generation(0, [1.0, 2.0, 3.0]).model_copy(update={"steps": (Step(0, 0),) * 2})
    busy = generation(0, [1.0, 2.0, 3.0]).model_copy(update={"steps": (Step(4, 1), Step(4, 3))})
    figures = speculation_figures([(run,) for run in [quiet] * 9 + [busy]], k=4)
    assert figures["draft_acceptance"] == Figure(value=0.5, n=1, median=0.5)
    assert figures["tokens_per_step"].n == 10
    assert "draft_acceptance" not in speculation_figures([(quiet,)] * 6, k=4)


def test_divergence_on_answers_has_an_interval_over_answers() -> None:
    lengths = [3, 5, 4, 6, 2, 4]
    kl = [0.01 * (1 + place) for place, length in enumerate(lengths) for _ in range(length)]
    found = kl_figures(kl, lengths)["kl_divergence"]
    expected = ratio_of_sums([0.01 * (i + 1) * n for i, n in enumerate(lengths)], lengths)
    assert found.n == 6
    assert found.value == pytest.approx(sum(kl) / len(kl))
    assert [found.low, found.high] == pytest.approx([expected.low, expected.high])
    assert kl_figures(kl)["kl_divergence"].n == 1
