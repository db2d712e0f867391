"""What a search has decided, kept in its journal: who goes on decides alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from bitdraft.runs.journal import Journal


class Decisions:
    """What was decided between the stages, by a stage's name; decided once, and read back by who goes on."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._known = {e["name"]: e["value"] for e in journal.events if e["event"] == "decision"}
        self._seconds = {e["name"]: e["seconds"] for e in journal.events if e["event"] == "stage"}
        self._broken_s: defaultdict[str, float] = defaultdict(float)
        for event in journal.events:
            if event["event"] == "broken":
                self._broken_s[event["name"]] += event["seconds"]

    def of(self, name: str, decide: Callable[[], Any]) -> Any:
        """JSON of what was decided under this name."""
        if name not in self._known:
            self._known[name] = decide()
            self._journal.append({"event": "decision", "name": name, "value": self._known[name]})
        return self._known[name]

    def seconds(self, name: str, measured_s: float) -> float:
        """How long a stage took when it was measured, over all attempts."""
        if name not in self._seconds:
            self._seconds[name] = round(measured_s + self._broken_s.pop(name, 0.0), 1)
            self._journal.append({"event": "stage", "name": name, "seconds": self._seconds[name]})
        return float(self._seconds[name])

    def spent_s(self) -> float:
        """Of earlier attempts: stages that are finished, and what broke off."""
        return float(sum(self._seconds.values()) + sum(self._broken_s.values()))

    def broken(self, name: str, measured_s: float) -> None:
        """A stage was ended before its end."""
        if name not in self._seconds:
            self._journal.append({"event": "broken", "name": name, "seconds": round(measured_s, 1)})
