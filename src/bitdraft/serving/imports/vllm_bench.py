"""The file of `vllm bench serve --save-result --save-detailed`: arrays in seconds, in the order of sending.
Acceptance is of the whole run, from the server's counters. Of autumn 2026 (docs/import.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bitdraft.schema.serving import ServerRequest, SpecCounts
from bitdraft.serving.imports.base import Imported, Run, Unreadable, failed, number, pieces_until, whole

TOOL = "vllm bench serve"
_COLUMNS = ("output_lens", "itls", "start_times", "input_lens", "errors", "latencies", "generated_texts")


def is_one(entries: Sequence[Any]) -> bool:
    """One object, or one a line where results were appended."""
    first = entries[0] if entries else None
    return (
        isinstance(first, Mapping) and number(first, "request_throughput") is not None and "duration" in first
    )


def read(entries: Sequence[Any], server: str) -> Imported:
    """A run an object."""
    runs = [_run(one, server) for one in entries]
    notes = [] if all("start_times" in one for one in entries) else ["import.no_start_times"]
    first = entries[0]
    model = first.get("model_id")
    return Imported(TOOL, model, runs, "whole" if not notes else "none", "vllm", notes=notes)


def _run(found: Mapping[str, Any], server: str) -> Run:
    if "ttfts" not in found or "output_lens" not in found:
        raise Unreadable("holds no single requests: run it with --save-detailed")
    rate = number(found, "request_rate")
    num = len(found["ttfts"])
    if not num:
        raise Unreadable("holds no request")
    wrong = next((name for name in _COLUMNS if found.get(name) and len(found[name]) != num), None)
    if wrong is not None:
        raise Unreadable(f"holds {num} ttfts and {len(found[wrong])} {wrong}")
    most = whole(found, "max_concurrency")
    load = 0 if rate is not None and most is None else most or num
    starts = found.get("start_times") or [0.0] * num
    columns = [found.get(name) or [None] * num for name in ("input_lens", "errors", "latencies")]
    requests = []
    for place, more in enumerate(zip(*columns, strict=True)):
        start_s = starts[place] - min(starts)
        requests.append(_request(server, load, place, start_s, found, *more))
    return Run(load, requests, rate if load == 0 else None, _counts(found))


def _request(  # noqa: PLR0917
    server: str,
    load: int,
    place: int,
    start_s: float,
    found: Mapping[str, Any],
    prompt_tokens: int | None,
    error: str | None,
    latency_s: float | None,
) -> ServerRequest:
    tokens, ttft_s = found["output_lens"][place], found["ttfts"][place]
    if isinstance(tokens, int) and tokens < 0:
        raise Unreadable(f"has a request of {tokens} tokens")
    if error or not tokens:
        return failed(server, load, place, start_s, error or "no output")
    told_s = math.inf if latency_s is None else start_s + latency_s
    pieces = pieces_until(told_s, start_s + ttft_s, found["itls"][place])
    end_s = pieces[-1] if latency_s is None else max(pieces[-1], told_s)
    return ServerRequest(
        server=server,
        load=load,
        prompt=place,
        submit_s=start_s,
        event_s=pieces,
        end_s=end_s,
        prompt_tokens=prompt_tokens,
        completion_tokens=tokens,
        text=(found.get("generated_texts") or [""] * (place + 1))[place] or "",
    )


def _counts(found: Mapping[str, Any]) -> SpecCounts | None:
    steps = whole(found, "spec_decode_num_drafts")
    if not steps:
        return None
    shares = found.get("spec_decode_per_position_acceptance_rates") or []
    if any(not 0 <= share <= 1 for share in shares):
        raise Unreadable(f"has a rate of acceptance that is none ({', '.join(map(str, shares))})")
    return SpecCounts(
        num_steps=steps,
        num_drafted=whole(found, "spec_decode_draft_tokens"),
        num_accepted=whole(found, "spec_decode_accepted_tokens"),
        accepted_by_position=tuple(round(share * steps) for share in shares) or None,
        k=len(shares) or None,
        source="counter",
    )
