"""What a tool's file is read into, and how its entries are looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Literal

from bitdraft.schema.serving import ServerRequest, SpecCounts

_SLACK_S = 0.01

Timeline = Literal["whole", "none"]
"""Whether requests have times of one clock, from which the whole server's throughput follows"""


@dataclass
class Run:
    """Requests under one load: `load` in flight, or 0 for those that came at `rate` a second. `counts` are a
    server's counters over the run."""

    load: int
    requests: list[ServerRequest]
    rate: float | None = None
    counts: SpecCounts | None = None


@dataclass
class Imported:
    """A file. `knows_gaps` where pieces are all of a request's, not only its first and last one; `notes` are
    codes of warnings about it."""

    tool: str
    model: str | None
    runs: list[Run]
    timeline: Timeline = "whole"
    engine: str | None = None
    knows_gaps: bool = True
    notes: list[str] = field(default_factory=list)


class Unreadable(ValueError):
    """A file that is of a tool, but lacks what a result needs; the message says what, and what would help."""


def number(entry: Any, *names: str) -> float | None:
    """The first of these that is a number."""
    for name in names:
        value = entry.get(name) if isinstance(entry, Mapping) else None
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return None


def whole(entry: Any, *names: str) -> int | None:
    """The same as a whole number."""
    found = number(entry, *names)
    return None if found is None else round(found)


def needed(entry: Any, *names: str) -> float:
    """The same, which has to be there."""
    found = number(entry, *names)
    if found is None:
        raise Unreadable(f"has a request without {names[0]}")
    return found


def counts_of(found: Any) -> SpecCounts | None:
    """vLLM's record of a request's speculation, as it and others write it: a histogram as a list, or by
    numbers as names."""
    if not isinstance(found, Mapping):
        return None
    bars = found.get("acceptance_histogram")
    k = whole(found, "num_spec_tokens")
    if isinstance(bars, Mapping):
        kept = {int(name): int(value) for name, value in bars.items()}
        bars = [kept.get(place, 0) for place in range(max([*kept, k or 0], default=0) + 1)]
    histogram = tuple(map(int, bars)) if isinstance(bars, Sequence) and bars else None
    return SpecCounts(
        num_steps=whole(found, "num_spec_steps"),
        num_drafted=whole(found, "num_draft_tokens"),
        num_accepted=whole(found, "num_accepted_draft_tokens"),
        histogram=histogram,
        k=k,
    )


def pieces_until(end_s: float, first_s: float, gaps_s: Iterable[float]) -> tuple[float, ...]:
    """When a request's pieces came: the first, and each behind its gap. Clocks are read one after another, so
    that the last may lie a little behind the request's own end. Raises `Unreadable` where it lies further."""
    found = (first_s, *(first_s + gap for gap in accumulate(gaps_s)))
    if found[-1] > end_s + _SLACK_S:
        raise Unreadable(f"has a request whose last token came {found[-1] - end_s:.3g} s behind its end")
    return found


def failed(server: str, load: int, prompt: int, submit_s: float, why: object) -> ServerRequest:
    """A request that failed then."""
    return ServerRequest(
        server=server, load=load, prompt=prompt, submit_s=submit_s, end_s=submit_s, error=str(why or "failed")
    )
