"""Answers of a certificate as they arrive, on disk: the same command doesn't ask for them again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bitdraft.errors import Interrupted, signal_of
from bitdraft.runs.cell import fingerprint
from bitdraft.runs.journal import Journal
from bitdraft.servers.client import Answer

FILE = "certificate.jsonl"
Key = tuple[str, str, int, int]
"""(what it is for, server, prompt, number)"""


class Said(NamedTuple):
    """What counts of an answer."""

    text: str
    error: str | None


class Kept:
    """What was answered; without a folder in memory alone. What failed is asked again."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._known = {tuple(event["key"]): Said(event["text"], None) for event in journal.events}

    async def once(self, key: Key, ask: Callable[[], Awaitable[Answer]]) -> Said:
        """The answer to a request, unless it is known."""
        if key not in self._known:
            answer = await ask()
            if answer.error is not None:
                return Said(answer.text, answer.error)
            self._known[key] = Said(answer.text, None)
            self._journal.append({"event": "answer", "key": key, "text": answer.text})
        return self._known[key]


@contextmanager
def kept(folder: Path | None, identity: object) -> Iterator[Kept]:
    """From the first answer to the certificate, with which the file goes. Raises `Interrupted`, which says
    where it stays, and `UserError` where it is another certificate's."""
    path = None if folder is None else folder / FILE
    journal = Journal(path, {"id": fingerprint(identity)})
    try:
        yield Kept(journal)
    except KeyboardInterrupt as error:
        raise Interrupted(signal_of(error), folder=folder if journal.events else None) from error
    finally:
        journal.close()
    if path is not None:
        path.unlink(missing_ok=True)
