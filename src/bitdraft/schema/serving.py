"""What was measured of running servers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import pairwise, zip_longest
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from bitdraft.config.serving import CertifyConfig, ServeBenchConfig
from bitdraft.schema.records import Figure, Metrics, Record, Sparse, Status, refuse_twice
from bitdraft.schema.results import Result
from bitdraft.schema.spec_decode import PositionAcceptance


class SpecCounts(Sparse):
    """What a server says of one request's speculation, or of that of all in a window of its counters.

    `num_steps` are verifications that checked a draft (`steps_are_derived`: from tokens, where the server
    counts none), `num_drafted` and `num_accepted` draft tokens alone, without the token that every step adds;
    `histogram[j]` are steps that kept j of them; `accepted_by_position[i]` steps that kept the (i + 1)-th.
    `k` is the most that a step drafts."""

    num_steps: int | None = Field(None, ge=0)
    num_drafted: int | None = Field(None, ge=0)
    num_accepted: int | None = Field(None, ge=0)
    histogram: tuple[int, ...] | None = None
    accepted_by_position: tuple[int, ...] | None = None
    k: int | None = None
    steps_are_derived: bool | None = None
    source: Literal["response", "counter"] = "response"

    def __add__(self, other: SpecCounts) -> SpecCounts:
        """Of two windows of the same server."""

        def both(name: str) -> int | None:
            values = getattr(self, name), getattr(other, name)
            return None if None in values else sum(values)

        def by_place(name: str) -> tuple[int, ...] | None:
            values = getattr(self, name), getattr(other, name)
            return None if None in values else tuple(map(sum, zip_longest(*values, fillvalue=0)))

        return SpecCounts(
            num_steps=both("num_steps"),
            num_drafted=both("num_drafted"),
            num_accepted=both("num_accepted"),
            histogram=by_place("histogram"),
            accepted_by_position=by_place("accepted_by_position"),
            k=self.k or other.k,
            steps_are_derived=self.steps_are_derived or other.steps_are_derived,
            source=self.source,
        )

    @property
    def contradictions(self) -> tuple[str, ...]:
        """Where the numbers do not fit each other."""
        steps, drafted, accepted, bars = self.num_steps, self.num_drafted, self.num_accepted, self.histogram
        found = []
        if drafted is not None and accepted is not None and accepted > drafted:
            found.append(f"{accepted} tokens accepted of {drafted} drafted")
        if bars is not None and steps is not None and sum(bars) != steps:
            found.append(f"{sum(bars)} steps in the histogram, {steps} counted")
        kept = None if bars is None else sum(j * n for j, n in enumerate(bars))
        if kept is not None and accepted is not None and kept != accepted:
            found.append(f"{kept} tokens accepted in the histogram, {accepted} counted")
        if self.k is not None and steps is not None and accepted is not None and accepted > self.k * steps:
            how_many = "1 step" if steps == 1 else f"{steps} steps"
            found.append(f"{accepted} tokens accepted in {how_many} of K = {self.k}")
        return tuple(found)


class ServerRequest(Record):
    """One request. `event_s` are arrivals of pieces of text, in seconds of one monotonic clock of the client;
    a piece is not a step, and its tokens aren't known. `cached_tokens` of the prompt were in the server's
    cache. `error` says why it failed."""

    server: str
    load: int
    prompt: int
    submit_s: float
    event_s: tuple[float, ...] = ()
    end_s: float
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    finish_reason: str | None = None
    text: str = ""
    spec: SpecCounts | None = None
    error: str | None = None
    num_tries: int = 1
    cluster: str = ""

    @model_validator(mode="after")
    def _times_go_forward(self) -> Self:
        times = (self.submit_s, *self.event_s, self.end_s)
        if not all(map(math.isfinite, times)):
            raise ValueError("times that are no numbers")
        if any(after < before for before, after in pairwise(times)):
            raise ValueError("times that go backwards")
        if self.error is None and (not self.event_s or not self.completion_tokens):
            raise ValueError("a request without text or tokens that did not fail")
        return self


class ServerRecord(Sparse):
    """What a server is: engine and version, by which its adapter was chosen, and the model that it names."""

    name: str
    engine: str = "generic"
    version: str | None = None
    served_model: str | None = None
    adapter: str | None = None


class ServingRow(Record):
    """A server under one load: `load` requests in flight, or 0 for those that come at a rate."""

    server: str
    load: int
    status: Status
    reason: str = ""
    num_failed: int = 0
    k: int | None = None
    metrics: Metrics = Field(default_factory=dict)
    acceptance_by_position: tuple[PositionAcceptance, ...] = ()
    counters: SpecCounts | None = None


class ServingVerdict(Record):
    """By load, the server that is shown to pay; between which loads speculation stops paying."""

    best: dict[str, str] = Field(default_factory=dict)
    pays_up_to: dict[str, int] = Field(default_factory=dict)
    stops_at: dict[str, int] = Field(default_factory=dict)


class ServingResult(Result):
    """A run of `serve-bench`, or what other tools have measured: `imported_from` are then their files,
    NAME=FILE."""

    kind: Literal["serving"] = "serving"
    config: ServeBenchConfig
    servers: tuple[ServerRecord, ...] = ()
    rows: tuple[ServingRow, ...] = ()
    requests: tuple[ServerRequest, ...] = ()
    verdict: ServingVerdict = ServingVerdict()
    imported_from: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        refuse_twice((row.server, row.load) for row in self.rows)
        return self

    @property
    def best(self) -> str | None:
        """The server that is shown to pay at the smallest load, the baseline where none does; None where
        nothing was told apart."""
        return next(iter(self.verdict.best.values()), None)

    def rows_of_figures(self) -> Iterable[tuple[dict[str, Any], Mapping[str, Figure]]]:
        """A row a server and load."""
        for row in self.rows:
            yield {"server": row.server, "concurrency": row.load or None}, row.metrics


class TextDivergence(Record):
    """Where a greedy answer leaves the plain server's: behind `num_chars` characters. `gap` is how far the
    plain server has the other's token behind its own there, in nats; None where it doesn't tell.

    `engine noise`: the plain server leaves its own text there or before, on repetition or at another
    concurrency. `near-tie`: rounding in the servers' format can make this gap. `unexplained`: neither."""

    prompt: int
    num_chars: int
    expected: str
    found: str
    gap: float | None = None
    kind: Literal["near-tie", "engine noise", "unexplained"]


class DrawnPrompt(Record):
    """Answers drawn from two servers to one prompt: `distance` between their distributions (total variation),
    and how often shuffled answers are further apart."""

    prompt: int
    num_outcomes: int
    distance: float
    p_value: float


class Certificate(Result):
    """Whether a server that speculates gives what the plain one gives."""

    kind: Literal["certificate"] = "certificate"
    config: CertifyConfig
    servers: tuple[ServerRecord, ...] = ()
    num_prompts: int = 0
    num_same: int = 0
    num_failed: int = 0
    divergences: tuple[TextDivergence, ...] = ()
    drawn: tuple[DrawnPrompt, ...] = ()
    is_lossless: bool | None = None

    @property
    def best(self) -> None:
        """Nothing is chosen."""
        return

    def rows_of_figures(self) -> Iterable[tuple[dict[str, Any], Mapping[str, Figure]]]:
        """No speed was measured."""
        return ()
