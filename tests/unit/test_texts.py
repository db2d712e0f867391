from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdraft.config import TextConfig
from bitdraft.errors import UserError
from bitdraft.inputs.checkpoints import DEMO_FOLDER
from bitdraft.inputs.datasets import (
    STDLIB_HELD_OUT,
    Dataset,
    load_dataset,
    wikitext_articles,
    wikitext_rows,
)
from bitdraft.inputs.prompts import Encoder, encoder_of, select_prompts
from bitdraft.inputs.tokenizers import chat_encoder, tokens_in_front


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
    assert len(select_prompts(first, TextConfig(), Encoder(encode))) == 15


def test_prompts_are_the_first_long_texts_cut_to_length() -> None:
    rows = ("x" * 300, "short", "", "y" * 250, "z" * 201, "w" * 200)
    dataset = Dataset("wikitext", rows, tuple("abcdef"), "test")
    config = TextConfig(num_prompts=3, max_prompt_tokens=50, sample="first")
    prompts = select_prompts(dataset, config, Encoder(encode))
    assert [prompt.prompt_id for prompt in prompts] == ["a", "d", "e"]
    assert all(len(prompt.token_ids) == 50 for prompt in prompts)


def test_fewer_texts_than_asked_is_an_error_with_a_remedy() -> None:
    dataset = Dataset("wikitext", ("x" * 300,), ("a",), "test")
    with pytest.raises(UserError, match=r"num_prompts: 15: wikitext has only 1 texts.*--num-prompts 1"):
        select_prompts(dataset, TextConfig(), Encoder(encode))


def books(*sizes: int) -> Dataset:
    rows = tuple("".join(f"line {i:06d} of book {b}\n" for i in range(n)) for b, n in enumerate(sizes))
    return Dataset("pg19", rows, tuple(str(i) for i in range(len(rows))), "test")


@given(st.integers(1, 12), st.integers(1, 5))
def test_windows_are_spread_over_books_and_never_overlap(num_prompts: int, num_books: int) -> None:
    dataset = books(*[1200] * num_books)
    config = TextConfig(dataset="pg19", num_prompts=num_prompts, max_prompt_tokens=210)
    prompts = select_prompts(dataset, config, Encoder(encode))
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
    assert len(select_prompts(Dataset("file", (text,), ("x",), "test"), config, Encoder(encode))) == 8


def test_too_short_books_are_refused() -> None:
    with pytest.raises(UserError, match=r"windows of 1024 tokens"):
        select_prompts(books(20), TextConfig(dataset="pg19"), Encoder(encode))


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
    with pytest.raises(UserError, match="not UTF-16"):
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
    assert len(select_prompts(pg19, TextConfig(dataset="pg19"), Encoder(encode))) == 15


def articles() -> Dataset:
    """Four articles of three long texts each."""
    rows = []
    for article in "ABCD":
        rows += [f" = {article} = \n", *(f"{article}{index} " * 100 for index in range(3))]
    strata = list(wikitext_articles(rows))
    assert strata == [article for article in "ABCD" for _ in range(4)]
    ids = tuple(str(index) for index in range(len(rows)))
    return Dataset("wikitext", tuple(rows), ids, "test", strata=tuple(strata))


@given(st.integers(0, 50), st.integers(1, 12))
def test_a_sample_takes_one_of_every_stratum_before_a_second_of_any(seed: int, num_prompts: int) -> None:
    config = TextConfig(num_prompts=num_prompts, max_prompt_tokens=20)
    found = select_prompts(articles(), config, Encoder(encode), seed)
    assert len({prompt.prompt_id for prompt in found}) == num_prompts
    counts = [[prompt.stratum for prompt in found].count(article) for article in "ABCD"]
    assert max(counts) - min(counts) <= 1
    # the first few are what is sampled where few are asked for
    fewer = TextConfig(num_prompts=1, max_prompt_tokens=20)
    assert select_prompts(articles(), fewer, Encoder(encode), seed) == found[:1]


def test_prompts_of_an_article_or_a_book_are_a_cluster_and_those_of_a_category_are_not() -> None:
    config = TextConfig(num_prompts=6, max_prompt_tokens=20)
    for prompt in select_prompts(articles(), config, Encoder(encode)):
        assert prompt.cluster == prompt.stratum != ""
    questions = dataclasses.replace(articles(), name="spec-bench")
    for prompt in select_prompts(questions, config, Encoder(encode)):
        assert (prompt.cluster, prompt.stratum != "") == ("", True)
    found = select_prompts(books(400, 400), TextConfig(num_prompts=4, max_prompt_tokens=20), Encoder(encode))
    assert sorted(prompt.cluster for prompt in found) == ["0", "0", "1", "1"]


def test_a_seed_decides_the_sample() -> None:
    config = TextConfig(num_prompts=6, max_prompt_tokens=20)
    samples = [select_prompts(articles(), config, Encoder(encode), seed) for seed in (1, 1, 2)]
    assert samples[0] == samples[1] != samples[2]
    first = config.model_copy(update={"sample": "first"})
    assert [prompt.prompt_id for prompt in select_prompts(articles(), first, Encoder(encode), 2)] == [
        *("1", "2", "3", "5", "6", "7")
    ]


def test_titles_of_articles_and_sections() -> None:
    rows = (" = Robert Boulter = \n", "text", " = = Career = = \n", "", " = A = B = \n", "more")
    assert wikitext_articles(rows) == (*["Robert Boulter"] * 4, "A = B", "A = B")


LINES = """
{"prompt": "Write a poem.", "id": "p"}
{"text": "Once upon a time"}

{"turns": ["First question?", "Second?"], "category": "qa"}
{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]}
{"custom_id": "r1", "body": {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]}}
{"body": {"prompt": "Complete this"}}
"""


def test_json_lines_are_prompts_whatever_they_are_called(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(LINES)
    found = load_dataset(TextConfig(dataset=f"file:{path}"))
    assert found.rows == (
        *(
            "Write a poem.",
            "Once upon a time",
            "First question?",
            "Be brief.\n\nHello",
            "Hi",
            "Complete this",
        ),
    )
    assert found.row_ids == ("p", "3", "5", "6", "r1", "8")
    assert found.stratum(2) == "qa"
    assert [len(messages) for messages in found.conversations] == [0, 0, 1, 2, 1, 0]
    assert found.name == "file-mine"
    # each is a prompt, however short
    prompts = select_prompts(found, TextConfig(num_prompts=6), Encoder(encode))
    assert {prompt.prompt_id for prompt in prompts} == set(found.row_ids)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("not json", "line 2 holds no prompt"),
        ("[1]", "is no object"),
        ('{"question": "?"}', "it has question"),
        ('{"prompt": ""}', "'' is no text"),
        ('{"messages": []}', "messages is empty"),
        ('{"messages": [{"role": "user"}]}', "content"),
        ('{"turns": []}', "line 2 holds no prompt"),
    ],
)
def test_a_line_that_is_no_prompt_is_named(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"prompt": "fine"}\n' + line + "\n")
    with pytest.raises(UserError) as caught:
        load_dataset(TextConfig(dataset=f"file:{path}"))
    assert problem in caught.value.problem
    assert caught.value.remedy.startswith("Give objects with prompt")


def chatting() -> Encoder:
    def chat(messages: Sequence[Mapping[str, str]]) -> list[int]:
        return encode("".join(f"<{one['role']}>{one['content']}" for one in messages) + "<assistant>")

    return Encoder(encode, chat, front=(7,))


def test_conversations_go_through_the_template_and_bos_stands_in_front_once() -> None:
    asked = ({"role": "user", "content": "Hello"},)
    dataset = Dataset(
        "file-x", ("Hello", "plain"), ("a", "b"), "x", conversations=(asked, ()), are_prompts=True
    )
    config = TextConfig(num_prompts=2, sample="first")
    prompts = select_prompts(dataset, config, chatting())
    assert prompts[0].token_ids == (7, *encode("<user>Hello<assistant>"))
    assert prompts[1].token_ids == (7, *encode("<user>plain<assistant>")), "of a conversational set all are"
    off = select_prompts(dataset, config.model_copy(update={"chat": "off"}), chatting())
    assert off[0].token_ids == (7, *encode("Hello"))
    # a template that puts it there itself
    own = Encoder(encode, lambda messages: [7, *encode(messages[0]["content"])], front=(7,))
    assert select_prompts(dataset, config, own)[0].token_ids == (7, *encode("Hello"))
    # without a template auto is off, and to ask for it an error
    plain = Encoder(encode)
    assert select_prompts(dataset, config, plain)[0].token_ids == tuple(encode("Hello"))
    with pytest.raises(UserError, match="has no chat template"):
        select_prompts(dataset, config.model_copy(update={"chat": "on"}), plain)


def test_a_conversation_that_is_too_long_is_no_prompt() -> None:
    """Cut, it would not ask for an answer."""
    rows = ("a" * 100, "short")
    asked = tuple(({"role": "user", "content": row},) for row in rows)
    dataset = Dataset("file-x", rows, ("long", "short"), "x", conversations=asked, are_prompts=True)
    config = TextConfig(num_prompts=1, max_prompt_tokens=40)
    assert select_prompts(dataset, config, chatting())[0].prompt_id == "short"
    with pytest.raises(UserError, match="only 1"):
        select_prompts(dataset, config.model_copy(update={"num_prompts": 2}), chatting())


def test_prompts_have_the_tokens_in_front_within_their_length() -> None:
    dataset = Dataset("wikitext", ("x" * 300,), ("a",), "test")
    [prompt] = select_prompts(dataset, TextConfig(num_prompts=1, max_prompt_tokens=50), chatting())
    assert (len(prompt.token_ids), prompt.token_ids[0], prompt.token_ids[1]) == (50, 7, encode("x")[0])


def test_what_a_real_tokenizer_puts_in_front(tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(DEMO_FOLDER / "target")
    assert tokens_in_front(tokenizer, "auto") == (), "the embedded models' puts nothing there"
    bos = tokenizer.eos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A <s>", special_tokens=[("<s>", bos)]
    )
    assert tokens_in_front(tokenizer, "auto") == (bos,)
    assert tokens_in_front(tokenizer, "off") == ()
    assert chat_encoder(tokenizer) is None
    begun = "{% if add_generation_prompt %}>{% endif %}"
    tokenizer.chat_template = "{% for m in messages %}[{{ m.content }}]{% endfor %}" + begun
    encoder = encoder_of(tokenizer, "auto")
    assert encoder.of_messages(({"role": "user", "content": "hi"},)) == (bos, *encoder.text("[hi]>"))
