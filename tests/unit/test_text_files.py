"""Prompts and texts from files of every form."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdraft.config import TextConfig
from bitdraft.errors import UserError
from bitdraft.inputs.datasets import load_dataset
from bitdraft.inputs.text_files import read_prompts, read_text, whole
from bitdraft.inputs.tokenizers import text_encoder
from bitdraft.inputs.windows import encode_first
from tiny import tiny_tokenizer

PROMPTS = ["what did the cat see,\nand why?", 'the hen said "no"', "the rain ☂ in the barn"]


def as_table(delimiter: str) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerows([["id", "prompt"], *((f"q{i}", text) for i, text in enumerate(PROMPTS))])
    return out.getvalue().encode()


def as_parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"id": ["q0", "q1", "q2"], "prompt": PROMPTS}), out)
    return out.getvalue()


ROWS = [{"id": f"q{i}", "prompt": text} for i, text in enumerate(PROMPTS)]
FILES = {
    "a.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
    "a.ndjson": "\n\n".join(json.dumps(row) for row in ROWS).encode("utf-8-sig"),
    "a.json": json.dumps(ROWS).encode(),
    "b.json": json.dumps({"version": 1, "data": ROWS}).encode("utf-16"),
    "a.csv": as_table(","),
    "a.tsv": as_table("\t"),
    "a.CSV": as_table(","),
    "a.parquet": as_parquet(),
}
FILES |= {f"{name}.gz": gzip.compress(data) for name, data in FILES.items() if name != "a.parquet"}


@pytest.mark.parametrize("name", FILES)
def test_prompts_are_the_same_in_every_form(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(FILES[name])
    found = read_prompts(path)
    assert [entry.text for entry in found] == PROMPTS
    assert [entry.entry_id for entry in found] == ["q0", "q1", "q2"]
    dataset = load_dataset(TextConfig(dataset=f"file:{path}"))
    assert list(dataset.rows) == PROMPTS
    assert dataset.are_prompts


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"text": "hello"}, "hello"),
        ("hello", "hello"),
        ({"turns": ["hello", "again"]}, "hello"),
        (
            {"conversations": [{"from": "system", "value": "be"}, {"from": "human", "value": "hello"}]},
            "hello",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]}, "hello"),
        ({"body": {"messages": [{"role": "user", "content": "hello"}]}, "custom_id": "1"}, "hello"),
        ({"prompt": "half an emoji \ud83d here"}, "half an emoji � here"),
        ({"prompt": "\ud83d\ude00"}, "😀"),
    ],
)
def test_an_entry_has_one_text(tmp_path: Path, entry: Any, text: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(entry))
    assert read_prompts(path)[0].text == text


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.jsonl", b'{"prompt": "a"}\n{"other": 1}\n', "line 2 holds no prompt .it has other"),
        ("a.jsonl", b'{"prompt": "a"}\n{"prompt": \n', "line 2 holds no prompt"),
        ("a.json", b"7", "is no list of prompts"),
        ("a.json", b"[]", "holds no prompt"),
        ("a.csv", b"id,question\n1,hello\n", "row 1 holds no prompt .it has id, question"),
        ("a.parquet", b"PAR1", "cannot be read"),
        ("a.txt.gz", b"\x1f\x8b", "cannot be read"),
        ("a.txt", b"\xff\xfeh", "UTF-16"),
        ("a.txt", b"caf\xe9", "is not UTF-8 text"),
        ("a.jsonl", b'{"messages": []}', "line 1 holds no prompt"),
        ("a.jsonl", b'{"conversations": [{"from": "gpt", "value": "hi"}]}', "no human's turn"),
    ],
)
def test_what_is_no_prompt_is_named_by_its_place(
    tmp_path: Path, name: str, content: bytes, problem: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=problem) as caught:
        load_dataset(TextConfig(dataset=f"file:{path}"))
    assert caught.value.field == "dataset"


@given(st.text())
def test_any_text_is_read_back_from_any_encoding(tmp_path_factory: Any, text: str) -> None:
    # behind UTF-16's mark a NUL makes UTF-32's
    text = whole(text.replace("\r", " ").lstrip("\0"))
    path = tmp_path_factory.mktemp("texts") / "a.txt"
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        path.write_bytes(text.encode(encoding))
        if text.strip():
            assert read_text(path) == text.removeprefix("\ufeff") or text.startswith("\ufeff")


@given(
    st.lists(
        st.sampled_from(["the cat ", "and the hen", " in the barn\n", "\n\n", "  ", "é☂", "pqzx"]),
        max_size=400,
    ),
    st.integers(1, 300),
)
def test_the_first_tokens_are_those_of_the_whole_text(parts: list[str], most: int) -> None:
    encode, text = text_encoder(tiny_tokenizer()), "".join(parts)
    ids = encode(text)
    found, is_all = encode_first(encode, text, most)
    assert found == ids[:most]
    assert is_all == (len(ids) <= most)
