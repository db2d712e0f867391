"""Rows of text by dataset name, prompts cut from them, and the text that perplexity is taken on.

Rows are the hub's, whether they come from the hub or from files: WikiText a line with its newline
(a blank line is the empty string), PG-19 a book, Spec-Bench a first turn, the standard library a
module, `file:PATH` the whole file, or of JSON Lines, JSON and tables a prompt each (`text_files`).
"""

from __future__ import annotations

import hashlib
import json
import re
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitdraft.config import TextConfig
from bitdraft.errors import UserError, one_line
from bitdraft.inputs.text_files import (
    PROMPT_SUFFIXES,
    Messages,
    asked,
    kind_of,
    read_prompts,
    read_text,
    stem_of,
    whole,
)

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
        digest = hashlib.sha256()
        for index, row in enumerate(self.rows):
            digest.update((f"\0{row}" if index else row).encode())
        return digest.hexdigest()

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


def _one_file(name: str) -> Dataset:
    path = Path(name.removeprefix("file:")).expanduser()
    # a name of its own, so that results of two texts are told apart
    own = f"file-{stem_of(path)}"
    if kind_of(path) not in PROMPT_SUFFIXES:
        text = read_text(path, name, keep_line_ends=True)  # bits per byte count its own line ends
        return Dataset(own, (text,), (path.name,), source=str(path))
    found = read_prompts(path, name)
    return Dataset(
        own,
        tuple(entry.text for entry in found),
        tuple(entry.entry_id for entry in found),
        source=str(path),
        strata=tuple(entry.category for entry in found),
        conversations=tuple(entry.messages for entry in found),
        are_prompts=True,
    )


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
        rows = wikitext_rows(read_text(path))
        ids = tuple(str(i) for i in range(len(rows)))
        return Dataset(name, rows, ids, source=str(path), strata=wikitext_articles(rows))
    if name == "pg19":
        books = sorted((root / "pg19" / "test").glob("*.txt"), key=_book_order)
        if not books:
            problem = "holds no pg19/test/*.txt"
            raise UserError("data_root", root, problem, "Put a book a file there, or leave --data-root out")
        rows = tuple(read_text(book) for book in books)
        return Dataset(name, rows, tuple(b.stem for b in books), source=str(root / "pg19" / "test"))
    return _spec_bench(root / "spec_bench" / "question.jsonl")


def _book_order(path: Path) -> tuple[int, str]:
    return (int(path.stem) if path.stem.isdigit() else 0, path.stem)


def _spec_bench(path: Path) -> Dataset:
    try:
        questions = [json.loads(line) for line in read_text(path).split("\n") if line.strip()]
        rows = tuple(whole(str(question["turns"][0])) for question in questions)
        ids = tuple(str(question["question_id"]) for question in questions)
        categories = tuple(str(question.get("category", "")) for question in questions)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        remedy = "Take question.jsonl from the Spec-Bench repository (hemingkx/Spec-Bench)"
        raise UserError("dataset", path, "is not a Spec-Bench question file", remedy) from error
    conversations = tuple(asked(row) for row in rows)
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
    from huggingface_hub.errors import HfHubHTTPError

    revision, unreachable = None, None
    try:
        revision = HfApi().dataset_info(repo).sha
    except HfHubHTTPError as error:
        raise _no_dataset(name, repo, one_line(error)) from error
    except Exception as error:  # no answer: httpx and the hub's client have no common base
        unreachable = f"the hub cannot be reached ({one_line(error, 160)})"
    try:
        table: Any = datasets.load_dataset(repo, subset, split="test", revision=revision)
        rows = tuple(table[column])
    except Exception as error:
        why = f"{unreachable} and it is not cached" if unreachable else one_line(error)
        raise _no_dataset(name, repo, why) from error
    revision = revision or _cached_revision(table)
    ids = tuple(str(i) for i in range(len(rows)))
    strata = wikitext_articles(rows) if name == "wikitext" else ids
    return Dataset(name, rows, ids, source=repo, revision=revision, strata=strata)


def _no_dataset(name: str, repo: str, why: str) -> UserError:
    remedy = "Check the network, a proxy and HF_ENDPOINT, or give --data-root DIR with the files"
    return UserError("dataset", f"{name} ({repo})", f"could not be loaded from the hub: {why}", remedy)


def _cached_revision(table: Any) -> str | None:
    """The commit that a cached data set is of: its files lie in a folder of that name."""
    folders = {Path(one["filename"]).parent.name for one in table.cache_files}
    return next((name for name in folders if re.fullmatch(r"[0-9a-f]{40}", name)), None)
