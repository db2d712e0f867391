"""From requests to rows: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Literal

from bitdraft.config.serving import ServeBenchConfig
from bitdraft.metrics.serving import (
    acceptance_figures,
    counter_figures,
    goodput_figures,
    kept_by_position,
    latency_figures,
    load_figures,
    positions_of,
    speedup_figures,
)
from bitdraft.runs.cell import Event
from bitdraft.schema.serving import ServerRequest, ServingRow, SpecCounts
from bitdraft.servers.turns import NUM_TURNS, halves
from bitdraft.serving.schedule import blocks_of
from bitdraft.stats.intervals import noise_of_turns, with_noise

Key = tuple[str, int]
"""(server, load)"""


@dataclass(frozen=True)
class Window:
    """What a server counted while it was sent `num_sent` requests: `num_requests` by its own count."""

    counts: SpecCounts | None
    num_requests: int | None
    num_sent: int
    restarted: bool

    def __add__(self, other: Window) -> Window:
        """Of a server that was started twice."""
        num_requests = None
        if self.num_requests is not None and other.num_requests is not None:
            num_requests = self.num_requests + other.num_requests
        counts = None if self.counts is None or other.counts is None else self.counts + other.counts
        return Window(counts, num_requests, self.num_sent + other.num_sent, self.restarted or other.restarted)

    def covers(self, requests: Sized) -> bool:
        """Whether it was read around all of them: not where a load was interrupted in between."""
        return self.num_sent >= len(requests)

    @property
    def has_others(self) -> bool:
        """Whether somebody else used it meanwhile."""
        return self.num_requests is not None and self.num_requests > self.num_sent


@dataclass
class Records:
    """All that has arrived so far. `timeline` says which requests were together: as we send them (`sent`),
    all (`whole`), or none, where the times of different requests are of no common clock."""

    timeline: Literal["sent", "whole", "none"] = "sent"
    requests: dict[Key, dict[int, ServerRequest]] = field(default_factory=dict)
    windows: dict[Key, Window] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Add one event of a cell."""
        if event["event"] == "request":
            found = ServerRequest.model_validate(event["request"])
            self.requests.setdefault((found.server, found.load), {})[found.prompt] = found
        elif event["event"] == "counters":
            counts = event["counts"]
            window = Window(
                None if counts is None else SpecCounts.model_validate(counts),
                event["num_requests"],
                event["num_sent"],
                event["restarted"],
            )
            key = event["server"], event["load"]
            self.windows[key] = window if key not in self.windows else self.windows[key] + window

    def in_order(self) -> list[ServerRequest]:
        """Of all servers and loads."""
        return [own[index] for own in self.requests.values() for index in sorted(own)]


def build_rows(
    records: Records, config: ServeBenchConfig, failures: Mapping[Key, str] | None = None
) -> list[ServingRow]:
    """A row a server and load that was begun; `failures` say why some ended."""
    why = failures or {}
    return [
        _row(records, config, server, load, why.get((server, load), ""))
        for load in config.loads
        for server in config.urls
        if (server, load) in records.requests or (server, load) in why
    ]


def with_noise_of_turns(
    rows: Sequence[ServingRow], records: Records, config: ServeBenchConfig
) -> list[ServingRow]:
    """Of servers that ran one at a time: speedups whose intervals hold what differs from start to start, told
    by the ratios to the baseline of each turn."""
    ratios = {
        (row.server, row.load): found
        for row in rows
        if "speedup" in row.metrics and len(found := _of_turns(records, config, row)) > 1
    }
    noise = noise_of_turns(list(ratios.values()))
    widened = []
    for row in rows:
        metrics = dict(row.metrics)
        for name in ("speedup", "decode_speedup"):
            if name in metrics:
                metrics[name] = with_noise(metrics[name], noise, 1 / NUM_TURNS)[0]
        widened.append(row.model_copy(update={"metrics": metrics}))
    return widened


def _of_turns(records: Records, config: ServeBenchConfig, row: ServingRow) -> list[float]:
    own, base = (records.requests.get((name, row.load), {}) for name in (row.server, config.baseline))
    found = []
    for half in halves(config.num_prompts):
        pairs = _pairs({index: own[index] for index in half if index in own}, base)
        if pairs:
            found.append(speedup_figures(pairs)["speedup"].value)
    return found


def _pairs(
    own: Mapping[int, ServerRequest], base: Mapping[int, ServerRequest]
) -> list[tuple[ServerRequest, ServerRequest]]:
    """Requests of the same prompt that did not fail, and the baseline's."""
    return [
        (request, base[index])
        for index, request in sorted(own.items())
        if request.error is None and index in base and base[index].error is None
    ]


def _row(records: Records, config: ServeBenchConfig, server: str, load: int, why: str) -> ServingRow:
    own = records.requests.get((server, load), {})
    done = {index: request for index, request in own.items() if request.error is None}
    failed = [request for request in own.values() if request.error is not None]
    if not done:
        reason = failed[-1].error if failed else why or "no request was sent"
        return ServingRow(
            server=server, load=load, status="failed", reason=reason or "", num_failed=len(failed)
        )
    window = records.windows.get((server, load))
    counters = None
    if window is not None and not window.has_others and window.covers(own):
        counters = window.counts
    k = k_of(list(done.values()), counters, config.k_of(server))
    told = [request for request in done.values() if not contradictions(request.spec, k)]
    counters = None if contradictions(counters, k) else counters
    blocks = _blocks(done, config, load) if records.timeline == "sent" else [list(done.values())]
    metrics = latency_figures(list(done.values()))
    if records.timeline != "none":
        metrics |= load_figures(blocks)
    if config.max_ttft_ms is not None or config.max_tpot_ms is not None:
        metrics |= goodput_figures(blocks, len(failed), config.max_ttft_ms, config.max_tpot_ms)
    accepted = acceptance_figures(told, k)
    if counters is not None:
        accepted = counter_figures(counters, k) | accepted
    kept = kept_by_position(told)
    if kept is None and counters is not None and counters.accepted_by_position and counters.num_steps:
        kept = counters.accepted_by_position, counters.num_steps
    base = {} if server == config.baseline else records.requests.get((config.baseline, load), {})
    pairs = _pairs(done, base)
    return ServingRow(
        server=server,
        load=load,
        status="ok",
        num_failed=len(failed),
        k=k,
        metrics={**metrics, **accepted, **(speedup_figures(pairs) if pairs else {})},
        acceptance_by_position=positions_of(*kept) if kept is not None else (),
        counters=None if window is None else window.counts,
    )


def _blocks(
    done: Mapping[int, ServerRequest], config: ServeBenchConfig, load: int
) -> list[list[ServerRequest]]:
    """Of those that were sent together, the requests that did not fail."""
    found = [
        [done[index] for index in block if index in done] for block in blocks_of(config.num_prompts, load)
    ]
    return [block for block in found if block]


def contradictions(spec: SpecCounts | None, k: int | None) -> tuple[str, ...]:
    """Why what a server says of its speculation, with this K, can't be: then it is in no figure."""
    if spec is None:
        return ()
    return (spec if k is None else spec.model_copy(update={"k": k})).contradictions


def k_of(requests: Sequence[ServerRequest], counters: SpecCounts | None, asked: int | None) -> int | None:
    """What was said; else what a server says of itself: its K, or how far its histogram goes."""
    if asked is not None:
        return asked
    for spec in (*(request.spec for request in requests), counters):
        if spec is not None and spec.k:
            return spec.k
        if spec is not None and spec.histogram is not None and len(spec.histogram) > 1:
            return len(spec.histogram) - 1
    return None
