"""AIPerf's `profile_export.jsonl`: a line a request. Its lines do not say how many were in flight: that is
the largest number of them that overlap. Of 0.13 (docs/import.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from bitdraft.schema.serving import ServerRequest
from bitdraft.serving.imports.base import Imported, Run, Unreadable, counts_of, failed, pieces_until

TOOL = "AIPerf"
_TO_S = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0}


def is_one(entries: Sequence[Any]) -> bool:
    """By its first line."""
    first: Any = entries[0] if entries else None
    metadata = first.get("metadata") if isinstance(first, Mapping) else None
    return isinstance(metadata, Mapping) and "request_start_ns" in metadata and "metrics" in first


def read(entries: Sequence[Any], server: str) -> Imported:
    """All lines of the measured phase."""
    lines = [one for one in entries if one["metadata"].get("benchmark_phase", "profiling") == "profiling"]
    if not lines:
        raise Unreadable("has no line of the measured phase")
    lines.sort(key=lambda one: (one["metadata"].get("session_num", 0), one["metadata"]["request_start_ns"]))
    first_ns = min(one["metadata"]["request_start_ns"] for one in lines)
    spans = [(one["metadata"]["request_start_ns"], one["metadata"]["request_end_ns"]) for one in lines]
    load = most_at_once(spans)
    requests = [_request(one, server, load, place, first_ns) for place, one in enumerate(lines)]
    engines = [(one.get("spec_decode_acceptance") or {}).get("engine") for one in lines]
    has_gaps = all(
        "inter_chunk_latency" in (one.get("metrics") or {}) for one in lines if not one.get("error")
    )
    engine = next(filter(None, engines), None)
    return Imported(TOOL, None, [Run(load, requests)], engine=engine, knows_gaps=has_gaps)


def most_at_once(spans: Sequence[tuple[float, float]]) -> int:
    """The largest number of (start, end) that overlap; one that ends when another begins does not."""
    changes = sorted([(end, -1) for _, end in spans] + [(start, 1) for start, _ in spans])
    return max(accumulate(change for _, change in changes))


def _request(line: Mapping[str, Any], server: str, load: int, place: int, first_ns: int) -> ServerRequest:
    metrics, start_s = line.get("metrics") or {}, (line["metadata"]["request_start_ns"] - first_ns) * 1e-9
    error = line.get("error")
    if error or line["metadata"].get("was_cancelled"):
        why = error.get("message") if isinstance(error, Mapping) else error or "cancelled"
        return failed(server, load, place, start_s, why)
    latency_s = _seconds(metrics, "request_latency")
    if not isinstance(latency_s, float):
        raise Unreadable("has a request without request_latency")
    ttft_s = _seconds(metrics, "time_to_first_token")
    if not isinstance(ttft_s, float):
        raise Unreadable("has no time_to_first_token: requests were not streamed (--streaming)")
    gaps = _seconds(metrics, "inter_chunk_latency")
    if not isinstance(gaps, list):
        gaps = [latency_s - ttft_s] if latency_s > ttft_s else []
    end_s = start_s + latency_s
    pieces = pieces_until(end_s, start_s + ttft_s, gaps)
    return ServerRequest(
        server=server,
        load=load,
        prompt=place,
        submit_s=start_s,
        event_s=pieces,
        end_s=max(end_s, pieces[-1]),
        prompt_tokens=_tokens(metrics, "input_sequence_length", "usage_prompt_tokens"),
        completion_tokens=_tokens(metrics, "usage_completion_tokens", "output_sequence_length"),
        spec=counts_of(line.get("spec_decode_acceptance")),
    )


def _seconds(metrics: Mapping[str, Any], name: str) -> float | list[float] | None:
    found = metrics.get(name)
    if not isinstance(found, Mapping):
        return None
    factor = _TO_S.get(str(found.get("unit")))
    if factor is None:
        raise Unreadable(f"has {name} in {found.get('unit')}, which is no unit of time")
    value = found["value"]
    return [factor * one for one in value] if isinstance(value, list) else factor * float(value)


def _tokens(metrics: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        if isinstance(metrics.get(name), Mapping):
            return round(float(metrics[name]["value"]))
    return None
