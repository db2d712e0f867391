"""Rows of text by dataset name, prompts cut from them, and the text that perplexity is taken on.

Rows are the hub's, whether they come from the hub or from files: WikiText a line with its newline
(a blank line is the empty string), PG-19 a book, Spec-Bench a first turn, the standard library a
module, `file:PATH` the whole file, or, of JSON Lines, a prompt a line.
"""

from __future__ import annotations

import hashlib
import json
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitdraft.config import TextConfig
from bitdraft.errors import UserError, one_line

STDLIB_HELD_OUT = (
    "argparse.py",
    "bisect.py",
    "calendar.py",
    "cmd.py",
    "configparser.py",
    "csv.py",
    "dataclasses.py",
    "fractions.py",
    "gzip.py",
    "heapq.py",
    "ipaddress.py",
    "json/decoder.py",
    "logging/handlers.py",
    "mailbox.py",
    "netrc.py",
    "pprint.py",
    "sched.py",
    "shlex.py",
    "statistics.py",
    "string.py",
    "textwrap.py",
    "tokenize.py",
    "uuid.py",
    "wave.py",
)

HUB = {
    "wikitext": ("Salesforce/wikitext", "wikitext-2-raw-v1", "text"),
    "pg19": ("emozilla/pg19-test", None, "text"),
}

DATASETS = ("wikitext", "pg19", "spec-bench", "stdlib", "file:PATH")


Messages = tuple[dict[str, str], ...]
"""Of a conversation: `role` and `content` each"""


@dataclass(frozen=True)
class Dataset:
    """Rows with their ids, and where they came from (a path or hub id, a revision, a sha256). `strata` name
    what rows are alike in (an article, a book, a category), `conversations` a row's messages where it is one.
    Of `are_prompts` each row is a prompt as it stands, however short."""

    name: str
    rows: tuple[str, ...]
    row_ids: tuple[str, ...]
    source: str
    revision: str | None = None
    strata: tuple[str, ...] = ()
    conversations: tuple[Messages, ...] = ()
    are_prompts: bool = False

    def stratum(self, index: int) -> str:
        """A row's; its own where nothing is known."""
        return self.strata[index] if self.strata else self.row_ids[index]

    @property
    def sha256(self) -> str:
        return hashlib.sha256("\0".join(self.rows).encode()).hexdigest()

    @property
    def has_long_rows(self) -> bool:
        """Books and whole files, which prompts are windows of."""
        return self.name == "pg19" or (self.name.startswith("file") and not self.are_prompts)

    @property
    def has_clusters(self) -> bool:
        """Whether rows of one stratum share more than others do, and count as one: of an article, a book."""
        return self.name in ("wikitext", "pg19")

    def joined(self) -> str:
        """The whole text for the concatenating perplexity protocols: rows joined by blank lines."""
        return "\n\n".join(self.rows)


def read_stdlib_module(name: str) -> str:
    path = Path(sysconfig.get_paths()["stdlib"]) / name
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(
            "dataset",
            "stdlib",
            f"this Python has no source of {name}",
            "Install Python's standard library source or choose --dataset file:PATH",
        ) from error


def load_dataset(config: TextConfig) -> Dataset:
    """Load the rows that `config.dataset` names; errors are `UserError`s."""
    name = config.dataset
    if name.startswith("file:"):
        return _one_file(name)
    if name == "stdlib":
        rows = tuple(read_stdlib_module(module) for module in STDLIB_HELD_OUT)
        return Dataset("stdlib", rows, STDLIB_HELD_OUT, source="standard library")
    if name not in ("wikitext", "pg19", "spec-bench"):
        raise UserError("dataset", name, "no such dataset", f"Choose from {', '.join(DATASETS)}")
    if config.data_root is not None:
        return _from_files(name, config.data_root)
    return _from_hub(name)


def _read(path: Path, newline: str | None = None, asked: str | None = None) -> str:
    """`asked` is what the user named it, where that isn't its path."""
    shown = asked or path
    try:
        with path.open(encoding="utf-8", newline=newline) as handle:
            text = handle.read()
    except OSError as error:
        remedy = "Give a readable UTF-8 text file, or a --data-root laid out as docs/runs.md says"
        raise UserError("dataset", shown, f"cannot be read ({one_line(error)})", remedy) from error
    except UnicodeDecodeError as error:
        raise UserError("dataset", shown, "is not UTF-8 text", "Convert the file to UTF-8") from error
    if not text.strip():
        raise UserError("dataset", shown, "is empty", "Give a file with text in it")
    return text


def _one_file(name: str) -> Dataset:
    path = Path(name.removeprefix("file:")).expanduser()
    if path.suffix in (".jsonl", ".ndjson"):
        return _prompts_of(path, _read(path, asked=name))
    text = _read(path, newline="", asked=name)  # as it stands: bits per byte count its own line ends
    # a name of its own, so that results of two texts are told apart
    return Dataset(f"file-{path.stem}", (text,), (path.name,), source=str(path))


def _prompts_of(path: Path, text: str) -> Dataset:
    """JSON Lines, a prompt a line: an object with `prompt`, `text`, `turns` or `messages`, or the body of an
    OpenAI request with one of these."""
    found: list[tuple[str, Messages]] = []
    ids: list[str] = []
    categories: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            if not isinstance(entry, dict):
                raise ValueError("is no object")
            found.append(_prompt_of(entry))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            remedy = "Give objects with prompt, text, turns or messages, or bodies of OpenAI requests"
            problem = f"line {number} holds no prompt ({one_line(error)})"
            raise UserError("dataset", path, problem, remedy) from error
        ids.append(str(next((entry[key] for key in _IDS if key in entry), number)))
        categories.append(str(entry.get("category", ids[-1])))
    return Dataset(
        f"file-{path.stem}",
        tuple(row for row, _ in found),
        tuple(ids),
        source=str(path),
        strata=tuple(categories),
        conversations=tuple(messages for _, messages in found),
        are_prompts=True,
    )


_IDS = ("question_id", "custom_id", "id")


def _prompt_of(entry: dict[str, Any]) -> tuple[str, Messages]:
    """The text of a line, and its messages where it is a conversation's."""
    if isinstance(entry.get("body"), dict):
        return _prompt_of(entry["body"])
    if "messages" in entry:
        messages = tuple(
            {"role": str(m["role"]), "content": _content(m["content"])} for m in entry["messages"]
        )
        if not messages:
            raise ValueError("messages is empty")
        return "\n\n".join(message["content"] for message in messages), messages
    if "turns" in entry:
        return _as_text(entry["turns"][0]), _asked(entry["turns"][0])
    for key in ("prompt", "text"):
        if key in entry:
            return _as_text(entry[key]), ()
    raise ValueError(f"it has {', '.join(map(str, entry)) or 'nothing'}")


def _as_text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{value!r} is no text")
    return value


def _content(value: Any) -> str:
    """A message's, of which images are left out."""
    if isinstance(value, list):
        return "\n".join(part["text"] for part in value if part.get("type") == "text")
    return _as_text(value)


def _asked(turn: str) -> Messages:
    return ({"role": "user", "content": turn},)


def wikitext_articles(rows: Sequence[str]) -> tuple[str, ...]:
    """Each row's article, by its title: a line ` = Title = `."""
    found, title = [], ""
    for row in rows:
        text = row.strip()
        if text.startswith("= ") and text.endswith(" =") and not text.startswith("= ="):
            title = text.strip("= ")
        found.append(title)
    return tuple(found)


def wikitext_rows(text: str) -> tuple[str, ...]:
    """A line with its newline a row; blank lines are empty strings, as the hub serves them."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return tuple(f"{line}\n" if line.strip() else "" for line in lines)


def _from_files(name: str, root: Path) -> Dataset:
    if not root.is_dir():
        raise UserError("data_root", root, "is not a folder", "Name a folder laid out as docs/runs.md says")
    if name == "wikitext":
        path = root / "wikitext-2-raw-v1" / "test.txt"
        rows = wikitext_rows(_read(path))
        ids = tuple(str(i) for i in range(len(rows)))
        return Dataset(name, rows, ids, source=str(path), strata=wikitext_articles(rows))
    if name == "pg19":
        books = sorted((root / "pg19" / "test").glob("*.txt"), key=_book_order)
        if not books:
            problem = "holds no pg19/test/*.txt"
            raise UserError("data_root", root, problem, "Put a book a file there, or leave --data-root out")
        rows = tuple(_read(book) for book in books)
        return Dataset(name, rows, tuple(b.stem for b in books), source=str(root / "pg19" / "test"))
    return _spec_bench(root / "spec_bench" / "question.jsonl")


def _book_order(path: Path) -> tuple[int, str]:
    return (int(path.stem) if path.stem.isdigit() else 0, path.stem)


def _spec_bench(path: Path) -> Dataset:
    try:
        questions = [json.loads(line) for line in _read(path).splitlines() if line.strip()]
        rows = tuple(str(question["turns"][0]) for question in questions)
        ids = tuple(str(question["question_id"]) for question in questions)
        categories = tuple(str(question.get("category", "")) for question in questions)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        remedy = "Take question.jsonl from the Spec-Bench repository (hemingkx/Spec-Bench)"
        raise UserError("dataset", path, "is not a Spec-Bench question file", remedy) from error
    conversations = tuple(_asked(row) for row in rows)
    return Dataset("spec-bench", rows, ids, str(path), strata=categories, conversations=conversations)


def _from_hub(name: str) -> Dataset:
    if name not in HUB:
        remedy = "Give --data-root DIR with DIR/spec_bench/question.jsonl (from hemingkx/Spec-Bench)"
        raise UserError("dataset", name, "is not on the hub", remedy)
    repo, subset, column = HUB[name]
    try:
        import datasets
    except ImportError as error:
        remedy = "Install it with: pip install 'bitdraft[data]', or give --data-root DIR"
        raise UserError("dataset", name, "the datasets package is not installed", remedy) from error
    from huggingface_hub import HfApi

    try:
        revision = HfApi().dataset_info(repo).sha
        table: Any = datasets.load_dataset(repo, subset, split="test", revision=revision)
        rows = tuple(table[column])
    except Exception as error:  # the hub's client raises a family of types without a common base
        problem = f"could not be loaded from the hub ({one_line(error)})"
        remedy = "Check the network and HF_ENDPOINT, or give --data-root DIR with the files"
        raise UserError("dataset", f"{name} ({repo})", problem, remedy) from error
    ids = tuple(str(i) for i in range(len(rows)))
    strata = wikitext_articles(rows) if name == "wikitext" else ids
    return Dataset(name, rows, ids, source=repo, revision=revision, strata=strata)
