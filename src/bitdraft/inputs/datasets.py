"""Rows of text by dataset name, prompts cut from them, and the text that perplexity is taken on.

Rows are the hub's, whether they come from the hub or from files: WikiText a line with its newline
(a blank line is the empty string), PG-19 a book, Spec-Bench a first turn, the standard library a
module, `file:PATH` the whole file.
"""

from __future__ import annotations

import hashlib
import json
import sysconfig
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


@dataclass(frozen=True)
class Dataset:
    """Rows with their ids, and where they came from (a path or hub id, a revision, a sha256)."""

    name: str
    rows: tuple[str, ...]
    row_ids: tuple[str, ...]
    source: str
    revision: str | None = None

    @property
    def sha256(self) -> str:
        return hashlib.sha256("\0".join(self.rows).encode()).hexdigest()

    @property
    def has_long_rows(self) -> bool:
        """Books and whole files, which prompts are windows of."""
        return self.name == "pg19" or self.name.startswith("file")

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
        remedy = "Give a readable UTF-8 text file, or a --data-root laid out as the README shows"
        raise UserError("dataset", shown, f"cannot be read ({one_line(error)})", remedy) from error
    except UnicodeDecodeError as error:
        raise UserError("dataset", shown, "is not UTF-8 text", "Convert the file to UTF-8") from error
    if not text.strip():
        raise UserError("dataset", shown, "is empty", "Give a file with text in it")
    return text


def _one_file(name: str) -> Dataset:
    path = Path(name.removeprefix("file:")).expanduser()
    text = _read(path, newline="", asked=name)  # as it stands: bits per byte count its own line ends
    # a name of its own, so that results of two texts are told apart
    return Dataset(f"file-{path.stem}", (text,), (path.name,), source=str(path))


def wikitext_rows(text: str) -> tuple[str, ...]:
    """A line with its newline a row; blank lines are empty strings, as the hub serves them."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return tuple(f"{line}\n" if line.strip() else "" for line in lines)


def _from_files(name: str, root: Path) -> Dataset:
    if not root.is_dir():
        raise UserError("data_root", root, "is not a folder", "Name a folder laid out as the README shows")
    if name == "wikitext":
        path = root / "wikitext-2-raw-v1" / "test.txt"
        rows = wikitext_rows(_read(path))
        return Dataset(name, rows, tuple(str(i) for i in range(len(rows))), source=str(path))
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
    except (ValueError, KeyError, IndexError, TypeError) as error:
        remedy = "Take question.jsonl from the Spec-Bench repository (hemingkx/Spec-Bench)"
        raise UserError("dataset", path, "is not a Spec-Bench question file", remedy) from error
    return Dataset("spec-bench", rows, ids, source=str(path))


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
    return Dataset(name, rows, tuple(str(i) for i in range(len(rows))), source=repo, revision=revision)
