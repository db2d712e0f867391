"""What a search has decided, kept in its journal: who goes on decides alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bitdraft.runs.journal import Journal


class Decisions:
    """What was decided between the stages, by a stage's name; decided once, and read back by who goes on."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._known = {e["name"]: e["value"] for e in journal.events if e["event"] == "decision"}
        self._seconds = {e["name"]: e["seconds"] for e in journal.events if e["event"] == "stage"}

    def of(self, name: str, decide: Callable[[], Any]) -> Any:
        """JSON of what was decided under this name."""
        if name not in self._known:
            self._known[name] = decide()
            self._journal.append({"event": "decision", "name": name, "value": self._known[name]})
        return self._known[name]

    def seconds(self, name: str, measured_s: float) -> float:
        """How long a stage took when it was measured."""
        if name not in self._seconds:
            self._seconds[name] = round(measured_s, 1)
            self._journal.append({"event": "stage", "name": name, "seconds": self._seconds[name]})
        return float(self._seconds[name])

    def spent_s(self) -> float:
        """Of all stages that an earlier attempt has finished."""
        return float(sum(self._seconds.values()))
