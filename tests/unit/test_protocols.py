from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdraft.config import PplProtocol
from bitdraft.errors import UserError
from bitdraft.inputs.datasets import Dataset
from bitdraft.inputs.windows import (
    Window,
    disjoint_windows,
    plan_scoring,
    rolling_windows,
    sliding_windows,
    truncate,
)


def scored(windows: Sequence[Window]) -> list[int]:
    return [token for window in windows for token in window.token_ids[window.first_scored :]]


@given(st.integers(2, 300), st.integers(2, 40), st.integers(1, 40))
def test_sliding_scores_all_but_the_first_token_once(length: int, context: int, stride: int) -> None:
    stride = min(stride, context - 1)
    windows = list(sliding_windows(range(length), context, stride))
    assert scored(windows) == list(range(1, length))
    assert all(len(w.token_ids) <= context and w.first_scored >= 1 for w in windows)
    # From the second window on, context − stride tokens stand before the first scored one.
    assert all(w.first_scored == context - stride for w in windows[1:])


def test_what_stands_in_front_stands_there_once() -> None:
    """BOS is 9: sliding windows and those of the quantisation papers have it in front of all; llama.cpp has
    it in place of a window's first token, which is not scored."""
    windows = list(sliding_windows([8, 9, 10, 11, 12, 13], context=4, stride=2, first=2))
    assert windows == [Window((8, 9, 10, 11), 2), Window((10, 11, 12, 13), 2)]
    sliding = plan_scoring(DATASET, encode, "sliding", context=64, front=(9,))
    assert [window.token_ids.count(9) for window in sliding.windows] == [1] + [0] * (len(sliding.windows) - 1)
    assert sliding.card.num_scored_tokens == len(encode(DATASET.joined()))
    cases: tuple[tuple[PplProtocol, int, int], ...] = (("llama.cpp", 9, 257), ("gptq", 9, 1))
    for protocol, first, first_scored in cases:
        plan = plan_scoring(DATASET, encode, protocol, context=512, front=(9,))
        own = plan_scoring(DATASET, encode, protocol, context=512)
        assert plan.card.bos == (9,)
        assert own.card.bos == ()
        assert (plan.windows[0].token_ids[0], plan.windows[0].first_scored) == (first, first_scored)
        after = own.windows[1].token_ids
        expected = (9, *after[1:]) if protocol == "llama.cpp" else (own.windows[0].token_ids[-1], *after[:-1])
        assert plan.windows[1].token_ids == expected
    documents = plan_scoring(DATASET, encode, "documents", context=64, front=(9,))
    assert all(window.token_ids[0] == 9 for window in documents.windows)
    assert max(len(window.token_ids) for window in documents.windows) <= 64


def test_sliding_windows_by_hand() -> None:
    windows = list(sliding_windows([10, 11, 12, 13, 14], context=4, stride=2))
    assert windows == [Window((10, 11, 12, 13), 1), Window((12, 13, 14), 2)]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=200), st.integers(1, 40))
def test_rolling_scores_every_token_once_with_the_context_before_it(ids: list[int], size: int) -> None:
    windows = list(rolling_windows(ids, 99, size, document=0))
    assert scored(windows) == ids
    text, end = [99, *ids], 1
    for window in windows:
        end += window.num_scored
        assert list(window.token_ids) == text[end - len(window.token_ids) : end]
    assert all(len(window.token_ids) == size + 1 for window in windows[1:])
    assert all(window.first_scored == 1 for window in windows[:-1])


def test_rolling_windows_by_hand() -> None:
    windows = list(rolling_windows([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 0, 4, document=0))
    assert windows == [Window((0, 1, 2, 3, 4), 1), Window((4, 5, 6, 7, 8), 1), Window((6, 7, 8, 9, 10), 3)]


def test_disjoint_windows_drop_the_rest() -> None:
    windows = list(disjoint_windows(range(11), 4, first_scored=3))
    assert windows == [Window((0, 1, 2, 3), 3), Window((4, 5, 6, 7), 3)]


@given(st.integers(2, 200), st.integers(1, 250))
def test_truncation_scores_exactly_the_first_tokens(length: int, limit: int) -> None:
    windows = list(sliding_windows(range(length), 16, 8))
    assert scored(truncate(windows, limit)) == scored(windows)[:limit]


DATASET = Dataset(
    name="wikitext",
    rows=("", "a b c " * 60, "d e\n" * 80, "", "f g " * 90),
    row_ids=tuple("01234"),
    source="test",
)


def encode(text: str) -> list[int]:
    return [ord(letter) % 50 for letter in text]


@pytest.mark.parametrize("protocol", get_args(PplProtocol))
def test_every_protocol_carries_its_card(protocol: PplProtocol) -> None:
    plan = plan_scoring(DATASET, encode, protocol, context=600, prefix=0)
    assert plan.card.num_scored_tokens == sum(w.num_scored for w in plan.windows) > 0
    assert plan.card.dataset_sha256 == DATASET.sha256
    assert plan.card.normaliser == ("documents" if protocol == "documents" else "tokens")
    assert plan.card.truncated is False


def test_lm_eval_counts_words_and_bytes_of_the_original_text() -> None:
    plan = plan_scoring(DATASET, encode, "lm-eval", context=64, prefix=0)
    assert plan.num_bytes == 360 + 320 + 360
    # as that harness counts, the nothing behind a document's last space, too
    assert plan.num_words == 181 + 161 + 181
    assert plan.card.num_documents == 3
    assert plan.card.prefix_token == 0


def test_truncated_text_has_no_word_figures_and_says_so() -> None:
    plan = plan_scoring(DATASET, encode, "sliding", context=64, max_scored=100)
    assert plan.card.num_scored_tokens == 100
    assert plan.card.truncated is True
    assert (plan.num_words, plan.num_bytes) == (None, None)


def test_llama_cpp_scores_the_second_half_of_each_window() -> None:
    long = Dataset("file", ("x" * 1300,), ("x",), source="test")
    plan = plan_scoring(long, encode, "llama.cpp", context=2048)
    assert [(len(w.token_ids), w.num_scored) for w in plan.windows] == [(512, 255), (512, 255)]


def test_text_without_a_whole_window_is_refused() -> None:
    short = Dataset("file", ("x" * 100,), ("x",), source="test")
    with pytest.raises(UserError, match="too short for the gptq protocol"):
        plan_scoring(short, encode, "gptq", context=2048)


def test_lm_eval_without_a_prefix_token_is_refused() -> None:
    with pytest.raises(UserError, match="no BOS or EOS"):
        plan_scoring(DATASET, encode, "lm-eval", context=64, prefix=None)
