from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdraft.config import TextConfig
from bitdraft.errors import UserError
from bitdraft.inputs.datasets import STDLIB_HELD_OUT, Dataset, load_dataset, wikitext_rows
from bitdraft.inputs.prompts import select_prompts


def encode(text: str) -> list[int]:
    return list(text.encode())


def test_wikitext_rows_are_lines_with_newline_and_blank_lines_empty() -> None:
    assert wikitext_rows(" \n = Title = \n \n text . \n") == ("", " = Title = \n", "", " text . \n")


@given(st.lists(st.text(st.characters(exclude_characters="\n"), max_size=8), max_size=20))
def test_wikitext_rows_lose_no_words(lines: list[str]) -> None:
    rows = wikitext_rows("".join(f"{line}\n" for line in lines))
    assert len(rows) == len(lines)
    assert all(row == (f"{line}\n" if line.strip() else "") for row, line in zip(rows, lines, strict=True))


def test_stdlib_is_there_and_the_same_each_time() -> None:
    first, second = load_dataset(TextConfig()), load_dataset(TextConfig())
    assert first.row_ids == STDLIB_HELD_OUT
    assert first.sha256 == second.sha256
    assert len(select_prompts(first, TextConfig(), encode)) == 15


def test_prompts_are_the_first_long_texts_cut_to_length() -> None:
    rows = ("x" * 300, "short", "", "y" * 250, "z" * 201, "w" * 200)
    dataset = Dataset("wikitext", rows, tuple("abcdef"), "test")
    prompts = select_prompts(dataset, TextConfig(num_prompts=3, max_prompt_tokens=50), encode)
    assert [prompt.prompt_id for prompt in prompts] == ["a", "d", "e"]
    assert all(len(prompt.token_ids) == 50 for prompt in prompts)


def test_fewer_texts_than_asked_is_an_error_with_a_remedy() -> None:
    dataset = Dataset("wikitext", ("x" * 300,), ("a",), "test")
    with pytest.raises(UserError, match=r"num_prompts: 15: wikitext has only 1 texts.*--num-prompts 1"):
        select_prompts(dataset, TextConfig(), encode)


def books(*sizes: int) -> Dataset:
    rows = tuple("".join(f"line {i:06d} of book {b}\n" for i in range(n)) for b, n in enumerate(sizes))
    return Dataset("pg19", rows, tuple(str(i) for i in range(len(rows))), "test")


@given(st.integers(1, 12), st.integers(1, 5))
def test_windows_are_spread_over_books_and_never_overlap(num_prompts: int, num_books: int) -> None:
    dataset = books(*[1200] * num_books)
    config = TextConfig(dataset="pg19", num_prompts=num_prompts, max_prompt_tokens=210)
    prompts = select_prompts(dataset, config, encode)
    places: dict[str, list[int]] = {}
    for prompt in prompts:
        book, _, start = prompt.prompt_id.partition("@")
        places.setdefault(book, []).append(int(start))
        row = dataset.rows[int(book)]
        assert bytes(prompt.token_ids).decode() == row[int(start) : int(start) + 210]
        assert row[int(start) - 1] == "\n"  # a window starts at the beginning of a line
        assert int(start) > 0  # and inside the body
    assert len(places) == min(num_prompts, num_books)
    assert max(map(len, places.values())) - min(map(len, places.values())) <= 1
    for starts in places.values():
        assert all(after - before >= 210 for before, after in pairwise(starts))


def test_long_lines_do_not_eat_the_windows() -> None:
    text = "word " * 10_000 + "\n" + "word " * 10_000
    config = TextConfig(dataset="file:x", num_prompts=8, max_prompt_tokens=2000)
    assert len(select_prompts(Dataset("file", (text,), ("x",), "test"), config, encode)) == 8


def test_too_short_books_are_refused() -> None:
    with pytest.raises(UserError, match=r"windows of 1024 tokens"):
        select_prompts(books(20), TextConfig(dataset="pg19"), encode)


def test_file_is_one_row(text_file: Path) -> None:
    dataset = load_dataset(TextConfig(dataset=f"file:{text_file}"))
    assert dataset.rows == (text_file.read_text(),)
    assert dataset.name == "file-story"


def test_a_files_line_ends_and_digest_are_its_own(tmp_path: Path) -> None:
    path = tmp_path / "windows.txt"
    path.write_bytes("first line\r\nnaïve second\r\n".encode())
    dataset = load_dataset(TextConfig(dataset=f"file:{path}"))
    assert dataset.rows == ("first line\r\nnaïve second\r\n",)
    assert dataset.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "wikitexts"}, "no such dataset"),
        ({"dataset": "file:/no/such.txt"}, "cannot be read"),
        ({"dataset": "wikitext", "data_root": "/no/such/folder"}, "is not a folder"),
        ({"dataset": "wikitext", "data_root": "."}, "cannot be read"),
        ({"dataset": "pg19", "data_root": "."}, "holds no pg19/test"),
        ({"dataset": "spec-bench"}, "not on the hub"),
    ],
)
def test_bad_datasets_are_named(
    settings: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        load_dataset(TextConfig.model_validate(settings))


def test_empty_and_binary_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is empty"):
        load_dataset(TextConfig(dataset=f"file:{tmp_path / 'empty'}"))
    with pytest.raises(UserError, match="not UTF-8"):
        load_dataset(TextConfig(dataset=f"file:{tmp_path / 'binary'}"))


def test_spec_bench_rows_are_first_turns(tmp_path: Path) -> None:
    folder = tmp_path / "spec_bench"
    folder.mkdir()
    questions = [{"question_id": 81, "turns": ["first", "second"]}, {"question_id": 82, "turns": ["third"]}]
    (folder / "question.jsonl").write_text("".join(json.dumps(q) + "\n" for q in questions))
    dataset = load_dataset(TextConfig(dataset="spec-bench", data_root=tmp_path))
    assert dataset.rows == ("first", "third")
    assert dataset.row_ids == ("81", "82")
    (folder / "question.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="not a Spec-Bench question file"):
        load_dataset(TextConfig(dataset="spec-bench", data_root=tmp_path))


def test_real_text_has_the_hubs_rows(data_root: Path) -> None:
    wikitext = load_dataset(TextConfig(dataset="wikitext", data_root=data_root))
    assert len(wikitext.rows) == 4358
    assert wikitext.rows[:2] == ("", " = Robert Boulter = \n")
    pg19 = load_dataset(TextConfig(dataset="pg19", data_root=data_root))
    assert list(pg19.row_ids) == sorted(pg19.row_ids, key=int)
    assert len(select_prompts(pg19, TextConfig(dataset="pg19"), encode)) == 15
