"""The unit of measuring: what runs in one process, has an identity, and emits events."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bitdraft.schema.history import SCHEMA_VERSION
from bitdraft.schema.records import Status

ENGINE_VERSION = 2
"""Counts up when the same cell would give other numbers: what an older engine measured is not continued."""

Event = dict[str, Any]
"""One line of a journal: `event` is its kind, the other entries are the kind's own."""


@dataclass(frozen=True)
class Failure:
    """Why a cell did not end well. `detail` is a traceback or the end of what the process printed."""

    status: Status
    reason: str
    detail: str = ""

    def as_event(self) -> Event:
        """The journal's last line of such a cell."""
        return {"event": "failure", "status": self.status, "reason": self.reason, "detail": self.detail}

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> Failure:
        """From that line."""
        return cls(event["status"], event["reason"], event.get("detail", ""))


def unless_failed(events: Sequence[Event]) -> list[Event]:
    """All events; none of a cell that did not end well."""
    return [] if events and events[-1]["event"] == "failure" else list(events)


@dataclass(frozen=True)
class Cell:
    """`target` is a `module:function` that is called with (`payload`, emit) in a process of its own.

    `name` is for people, unique in its run. `identity` holds all that decides the numbers: the
    configuration's part of it, and hashes of checkpoints and texts. `payload` is JSON, and all that the
    function is given: prompts by value, checkpoints by their folders. `num_gpus` is what an executor that
    hands out devices gives it. `stage` is what it does first, for the progress that is shown. `retried` says
    of its events which stay where what failed is measured again: all of them where nothing did.
    """

    name: str
    target: str
    payload: Mapping[str, Any]
    identity: Mapping[str, Any] = field(default_factory=dict)
    num_gpus: float = 0
    stage: str = "load"
    retried: Callable[[Sequence[Event]], list[Event]] = unless_failed

    @property
    def id(self) -> str:
        """The name and a hash of the identity, fit for a file's name."""
        own = {"target": self.target, "schema": SCHEMA_VERSION, "engine": ENGINE_VERSION}
        return f"{slug(self.name)}-{fingerprint(own | dict(self.identity))}"


def fingerprint(value: object, length: int = 12) -> str:
    """A short hash of a JSON value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def slug(text: str, longest: int = 40) -> str:
    """Of a name, what any file system takes: letters, digits, dots, dashes."""
    found = re.sub(r"[^A-Za-z0-9.+]+", "-", text).strip("-.")
    return found[:longest] or "x"
