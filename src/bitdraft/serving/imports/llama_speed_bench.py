"""The file of llama.cpp's `speed_bench.py`, which does not stream: a request's first token is placed by the
server's own timings, the decoding time before its end. Of October 2026 (docs/import.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bitdraft.schema.serving import ServerRequest, SpecCounts
from bitdraft.serving.imports.base import Imported, Run, Unreadable, failed, needed, number, whole

TOOL = "llama.cpp's speed_bench.py"


def is_one(entries: Sequence[Any]) -> bool:
    """One object."""
    first = entries[0] if entries else None
    return isinstance(first, Mapping) and {"results", "summary", "selected_samples"} <= set(first)


def read(entries: Sequence[Any], server: str) -> Imported:
    """Samples in the order of their names; they come in that of their ends."""
    found = entries[0]
    config = found.get("config") or {}
    load = whole(config, "concurrency") or 1
    if not found["results"]:
        raise Unreadable("holds no sample")
    samples = sorted(found["results"], key=lambda one: str(one.get("id")))
    requests = [_request(one, server, load, place) for place, one in enumerate(samples)]
    notes = ["import.not_streamed"]
    notes += ["import.turns"] if any((whole(one, "turns") or 1) > 1 for one in samples) else []
    return Imported(TOOL, config.get("model"), [Run(load, requests)], "none", "llama.cpp", False, notes)


def _request(one: Mapping[str, Any], server: str, load: int, place: int) -> ServerRequest:
    if not one.get("ok"):
        return failed(server, load, place, 0.0, one.get("error"))
    latency_s = needed(one, "latency_s")
    decoding_s = min((number(one, "predicted_ms") or 0.0) / 1000, latency_s)
    tokens = whole(one, "completion_tokens")
    drafted, accepted = whole(one, "draft_n"), whole(one, "draft_n_accepted")
    steps = (tokens or 0) - (whole(one, "turns") or 1) - (accepted or 0)
    spec = None
    if drafted:
        spec = SpecCounts(
            num_steps=steps if steps > 0 else None,
            num_drafted=drafted,
            num_accepted=accepted,
            steps_are_derived=True if steps > 0 else None,
        )
    return ServerRequest(
        server=server,
        load=load,
        prompt=place,
        submit_s=0.0,
        event_s=(latency_s - decoding_s, latency_s),
        end_s=latency_s,
        prompt_tokens=whole(one, "prompt_tokens"),
        completion_tokens=tokens,
        finish_reason=one.get("finish_reason"),
        spec=spec,
        cluster=str(one.get("category") or ""),
    )
