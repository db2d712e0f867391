"""GuideLLM's `benchmarks.json`: a benchmark a load, of 0.4 to 0.8, and of 0.2 and 0.3 under other names
(docs/import.md). Requests that the run's end cut off (`incomplete`) are no requests of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bitdraft.schema.serving import ServerRequest
from bitdraft.serving.imports.base import (
    Imported,
    Run,
    Unreadable,
    counts_of,
    failed,
    number,
    pieces_until,
    whole,
)

TOOL = "GuideLLM"


def is_one(entries: Sequence[Any]) -> bool:
    """One object."""
    first = entries[0] if entries else None
    found = first.get("benchmarks") if isinstance(first, Mapping) else None
    return isinstance(found, list) and bool(found) and "requests" in found[0]


def read(entries: Sequence[Any], server: str) -> Imported:
    """All benchmarks of the file."""
    benchmarks = entries[0]["benchmarks"]
    first = benchmarks[0]
    backend, worker = (first.get("config") or {}).get("backend") or {}, first.get("worker") or {}
    model = backend.get("model") or worker.get("backend_model")
    return Imported(TOOL, model, [_run(one, server) for one in benchmarks], knows_gaps=False)


def _run(found: Mapping[str, Any], server: str) -> Run:
    own = found.get("config") or found.get("args") or {}
    strategy = own.get("strategy") or {}
    done, errors = (found["requests"].get(name) or [] for name in ("successful", "errored"))
    if not done and not errors:
        raise Unreadable("holds no single requests (they were not kept: sample size)")
    kind, rate = strategy.get("type_"), number(strategy, "rate")
    load = whole(strategy, "streams", "max_concurrency") or (1 if kind == "synchronous" else len(done))
    load = 0 if kind in ("constant", "poisson") and rate else load
    entries = sorted([*done, *errors], key=_start_s)
    first_s = _start_s(entries[0])
    requests = [_request(one, server, load, place, first_s) for place, one in enumerate(entries)]
    return Run(load, requests, rate if load == 0 else None)


def _start_s(one: Mapping[str, Any]) -> float:
    timings = (one.get("info") or {}).get("timings") or {}
    found = number(one, "request_start_time", "start_time")
    return found if found is not None else number(timings, "request_start", "resolve_start") or 0.0


def _request(one: Mapping[str, Any], server: str, load: int, place: int, first_s: float) -> ServerRequest:
    info, start_s = one.get("info") or {}, _start_s(one) - first_s
    timings = info.get("timings") or {}
    error = info.get("error") or one.get("error")
    first = number(timings, "first_token_iteration") or number(one, "first_token_time")
    last = number(timings, "last_token_iteration") or number(one, "last_token_time")
    if error or info.get("status") in ("errored", "cancelled"):
        return failed(server, load, place, start_s, error or info.get("status"))
    if first is None or last is None:
        raise Unreadable("has a request without the times of its tokens: it was not streamed")
    end = number(one, "request_end_time", "end_time") or last
    pieces = pieces_until(end - first_s, first - first_s, [last - first] if last > first else [])
    spec = (one.get("response_metrics") or {}).get("speculative_decoding")
    return ServerRequest(
        server=server,
        load=load,
        prompt=place,
        submit_s=start_s,
        event_s=pieces,
        end_s=max(end - first_s, pieces[-1]),
        prompt_tokens=whole(one, "prompt_tokens"),
        completion_tokens=whole(one, "output_tokens"),
        text=one.get("output") or "",
        spec=counts_of(spec),
    )
