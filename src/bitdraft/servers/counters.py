"""Counters of a server in Prometheus' text form, as differences over a window."""

from __future__ import annotations

import re
from collections.abc import Mapping

from bitdraft.schema.serving import SpecCounts

Samples = Mapping[str, float]
"""By name and labels as they stand: `a_total{position="0"}`"""

_LINE = re.compile(r"^([A-Za-z_:][\w:]*)(\{[^}]*\})?\s+(\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_PREFIXES = ("vllm:spec_decode", "llamacpp:spec_decode", "trtllm_spec_decode")
# as all of them call theirs; TensorRT-LLM counts no steps
_STEPS, _DRAFTED = "_num_drafts_total", "_num_draft_tokens_total"
_ACCEPTED, _BY_POSITION = "_num_accepted_tokens_total", "_num_accepted_tokens_per_pos_total"
PATHS = {"tensorrt-llm": "/prometheus/metrics"}
"""Where an engine's counters are, of others at `/metrics`: of TensorRT-LLM that is JSON of iterations, which
reading takes away from others"""
_REQUESTS = ("vllm:request_success_total", "sglang:num_requests_total")


def read_samples(text: str) -> dict[str, float]:
    """Of an exposition, what are numbers; the times at which counters were made are none."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None or match[1].endswith("_created"):
            continue
        try:
            found[match[1] + (match[2] or "")] = float(match[3])
        except ValueError:
            continue
    return found


def total(samples: Samples, name: str) -> float | None:
    """Over all labels; None where there is no such counter."""
    own = [value for key, value in samples.items() if key.partition("{")[0] == name]
    return sum(own) if own else None


def by_position(samples: Samples, name: str) -> dict[int, float]:
    """By the label `position`, summed over the others."""
    found: dict[int, float] = {}
    for key, value in samples.items():
        base, _, labels = key.partition("{")
        position = dict(_LABEL.findall(labels)).get("position") if base == name else None
        if position is not None and position.isdigit():
            found[int(position)] = found.get(int(position), 0.0) + value
    return found


def restarted(before: Samples, after: Samples) -> bool:
    """Whether a server began to count anew in between: a counter only rises."""
    return any(
        after.get(key, value) < value for key, value in before.items() if "_total" in key.partition("{")[0]
    )


def num_requests(before: Samples, after: Samples) -> int | None:
    """Requests that ended in between, by the server's own count; None where it has none."""
    risen = (_risen(before, after, name) for name in _REQUESTS)
    return next((found for found in risen if found is not None), None)


def counts_between(before: Samples, after: Samples) -> SpecCounts | None:
    """What was drafted and kept in between; None where a server counts none, or began anew."""
    if restarted(before, after):
        return None
    for prefix in _PREFIXES:
        steps, drafted, accepted = (
            _risen(before, after, prefix + name) for name in (_STEPS, _DRAFTED, _ACCEPTED)
        )
        if drafted is None or accepted is None:
            continue
        old, new = (by_position(samples, prefix + _BY_POSITION) for samples in (before, after))
        positions = tuple(round(new[i] - old.get(i, 0.0)) for i in sorted(new))
        return SpecCounts(
            num_steps=steps,
            num_drafted=drafted,
            num_accepted=accepted,
            accepted_by_position=positions or None,
            k=len(positions) or None,
            source="counter",
        )
    return _of_sglang(before, after)


def _of_sglang(before: Samples, after: Samples) -> SpecCounts | None:
    """It counts verifications and tokens: every request's first token comes of its prefill."""
    steps, tokens, requests = (
        _risen(before, after, f"sglang:{name}_total")
        for name in ("spec_verify_calls", "generation_tokens", "num_requests")
    )
    if not steps or tokens is None or requests is None:
        return None
    return SpecCounts(num_steps=steps, num_accepted=max(tokens - requests - steps, 0), source="counter")


def _risen(before: Samples, after: Samples, name: str) -> int | None:
    new = total(after, name)
    return None if new is None else round(new - (total(before, name) or 0.0))
