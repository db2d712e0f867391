"""Texts and prompts from files as people have them: plain text in any Unicode encoding that a byte-order mark
tells, JSON, JSON Lines, tables, and any of these compressed.

A row is a text, or a prompt with what it is called by and, where it is a conversation's, its messages.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from bitdraft.errors import UserError, one_line

Messages = tuple[dict[str, str], ...]
"""Of a conversation: `role` and `content` each"""

PROMPT_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_IDS = ("question_id", "custom_id", "id")
_USERS = ("human", "user")
_FORMS = "Give objects with prompt, text, turns, messages or conversations, or bodies of OpenAI requests"


@dataclass(frozen=True)
class PromptEntry:
    """A prompt of a file. `messages` are none where it is a plain text."""

    text: str
    messages: Messages
    entry_id: str
    category: str


def kind_of(path: Path) -> str:
    """A file's suffix in lower case, `.gz` left aside."""
    name = path.name.lower()
    return PurePath(name.removesuffix(".gz")).suffix


def stem_of(path: Path) -> str:
    """A file's name without its suffixes of format and compression."""
    name = path.name[: -len(".gz")] if path.name.lower().endswith(".gz") else path.name
    return PurePath(name).stem


def read_text(path: Path, shown: object = None, *, keep_line_ends: bool = False) -> str:
    """A text file's content. UTF-8, or what a byte-order mark says, which is no part of the text. Line ends
    become `\\n` unless they are kept. `shown` is what the user named it, where that isn't its path. Raises
    `UserError`."""
    shown = shown or path
    data = _read_bytes(path, shown)
    marks = sorted(_MARKS, key=len, reverse=True)
    encoding = next((_MARKS[mark] for mark in marks if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        name = encoding.removesuffix("-sig").upper()
        problem = f"is not {name} text" + ("" if name == "UTF-8" else ", as its byte-order mark says")
        raise UserError("dataset", shown, problem, "Convert the file to UTF-8") from error
    if not text or text.isspace():
        raise UserError("dataset", shown, "is empty", "Give a file with text in it")
    return text if keep_line_ends else text.replace("\r\n", "\n").replace("\r", "\n")


def _read_bytes(path: Path, shown: object) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.name.lower().endswith(".gz") else data
    except (OSError, EOFError, zlib.error) as error:
        remedy = "Give a readable UTF-8 text file, or a --data-root laid out as docs/runs.md says"
        raise UserError("dataset", shown, f"cannot be read ({one_line(error)})", remedy) from error


def read_prompts(path: Path, shown: object = None) -> list[PromptEntry]:
    """All prompts of a file of prompts (`PROMPT_SUFFIXES`). Raises `UserError` with the place of the first
    entry that is none."""
    shown = shown or path
    found = []
    for place, entry in _entries(path, shown):
        try:
            own = {"prompt": entry} if isinstance(entry, str) else entry
            if not isinstance(own, Mapping):
                raise ValueError("is no object")
            text, messages = _prompt_of(own)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
            problem = f"{place} holds no prompt ({one_line(error)})"
            raise UserError("dataset", shown, problem, _FORMS) from error
        number = place.rpartition(" ")[2]
        own_id = whole(str(next((own[key] for key in _IDS if own.get(key) not in (None, "")), number)))
        found.append(PromptEntry(text, messages, own_id, whole(str(own.get("category") or own_id))))
    if not found:
        raise UserError("dataset", shown, "holds no prompt", _FORMS)
    return found


def _entries(path: Path, shown: object) -> Iterator[tuple[str, Any]]:
    """(place, entry) of each."""
    kind = kind_of(path)
    if kind == ".parquet":
        yield from _table_of_parquet(path, shown)
        return
    text = read_text(path, shown, keep_line_ends=kind in (".csv", ".tsv"))
    if kind in (".csv", ".tsv"):
        yield from _table_of_text(text, "\t" if kind == ".tsv" else ",", shown)
    elif kind == ".json":
        yield from _list_of_json(text, shown)
    else:
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield f"line {number}", _parsed(line, f"line {number}", shown)


def _parsed(text: str, place: str, shown: object) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        problem = f"{place} holds no prompt ({one_line(error)})"
        raise UserError("dataset", shown, problem, _FORMS) from error


def _list_of_json(text: str, shown: object) -> Iterator[tuple[str, Any]]:
    """A list, or an object's only list."""
    found = _parsed(text, "the file", shown)
    if isinstance(found, dict):
        lists = [value for value in found.values() if isinstance(value, list)]
        found = lists[0] if len(lists) == 1 and "messages" not in found and "turns" not in found else [found]
    if not isinstance(found, list):
        raise UserError("dataset", shown, "is no list of prompts", _FORMS)
    for number, entry in enumerate(found, 1):
        yield f"entry {number}", entry


def _table_of_text(text: str, delimiter: str, shown: object) -> Iterator[tuple[str, Any]]:
    """Rows by the names in the first line."""
    csv.field_size_limit(sys.maxsize)
    try:
        for number, row in enumerate(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter), 1):
            own = {name.strip(): value for name, value in row.items() if isinstance(name, str)}
            yield f"row {number}", own
    except csv.Error as error:
        problem = f"is no table of prompts ({one_line(error)})"
        raise UserError("dataset", shown, problem, "Give a column prompt or text") from error


def _table_of_parquet(path: Path, shown: object) -> Iterator[tuple[str, Any]]:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        remedy = "Install it with: pip install 'bitdraft[data]', or give JSON Lines"
        raise UserError("dataset", shown, "needs pyarrow to be read", remedy) from error
    try:
        rows = pq.read_table(path).to_pylist()
    except Exception as error:  # pyarrow's own family, and the system's
        problem = f"cannot be read ({one_line(error)})"
        raise UserError("dataset", shown, problem, "Give a readable parquet file") from error
    for number, row in enumerate(rows, 1):
        yield f"row {number}", row


def _prompt_of(entry: Mapping[str, Any]) -> tuple[str, Messages]:
    """The text of an entry, and its messages where it is a conversation's."""
    if isinstance(entry.get("body"), dict):
        return _prompt_of(entry["body"])
    if entry.get("messages") is not None:
        messages = tuple(
            {"role": str(m["role"]), "content": _content(m["content"])} for m in entry["messages"]
        )
        if not messages:
            raise ValueError("messages is empty")
        return "\n\n".join(message["content"] for message in messages), messages
    if entry.get("turns") is not None:
        turn = _as_text(entry["turns"][0])
        return turn, asked(turn)
    if entry.get("conversations") is not None:
        asked_of = [turn["value"] for turn in entry["conversations"] if turn.get("from") in _USERS]
        if not asked_of:
            raise ValueError("its conversations have no human's turn")
        turn = _as_text(asked_of[0])
        return turn, asked(turn)
    for key in ("prompt", "text"):
        if key in entry:
            return _as_text(entry[key]), ()
    raise ValueError(f"it has {', '.join(map(str, entry))[:100] or 'nothing'}")


def whole(text: str) -> str:
    """A text with its surrogate pairs joined. Half of one, which JSON can hold and no encoding can, becomes
    the replacement character."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _as_text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{str(value)[:40]!r} is no text")
    return whole(value)


def _content(value: Any) -> str:
    """A message's, of which images are left out."""
    if isinstance(value, list):
        return _as_text("\n".join(part["text"] for part in value if part.get("type") == "text"))
    return _as_text(value)


def asked(turn: str) -> Messages:
    """A conversation that begins with a user's turn."""
    return ({"role": "user", "content": turn},)
