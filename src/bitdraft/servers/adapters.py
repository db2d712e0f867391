"""What each engine, by version, says of a request's speculation, in the names that it has for it.

Facts: docs/servers.md. An engine that is not known, or that says nothing, has no acceptance: it is never
guessed from the pieces in which text arrives.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bitdraft.schema.serving import SpecCounts

Said = Mapping[str, Any]
"""The last of each entry beside the text in a response's events: usage, timings, metrics, meta_info, stats"""


@dataclass(frozen=True)
class Adapter:
    """`asks` stands in each request, so that the server tells what it counts."""

    name: str
    read: Callable[[Said], SpecCounts | None]
    asks: Mapping[str, Any]
    takes_ids: bool = False


def _number(entry: Any, *names: str) -> int | None:
    """The first of these names that is a count."""
    for name in names:
        found = entry.get(name) if isinstance(entry, Mapping) else None
        if isinstance(found, int | float) and not isinstance(found, bool) and found >= 0:
            return round(found)
    return None


def _bars(entry: Any, *names: str) -> tuple[int, ...] | None:
    for name in names:
        found = entry.get(name) if isinstance(entry, Mapping) else None
        if isinstance(found, list) and found and all(isinstance(one, int) and one >= 0 for one in found):
            return tuple(found)
    return None


def _vllm(said: Said) -> SpecCounts | None:
    """`metrics.speculative_decoding` on the last event (from 0.32, --per-request-spec-decode-metrics)."""
    metrics = said.get("metrics")
    found = metrics.get("speculative_decoding") if isinstance(metrics, Mapping) else None
    if not isinstance(found, Mapping):
        return None
    return SpecCounts(
        num_steps=_number(found, "num_spec_steps"),
        num_drafted=_number(found, "num_draft_tokens"),
        num_accepted=_number(found, "num_accepted_draft_tokens"),
        histogram=_bars(found, "acceptance_histogram"),
        k=_number(found, "num_spec_tokens"),
    )


def _llama_cpp(said: Said) -> SpecCounts | None:
    """`timings`: what was drafted and kept, and no steps. Each step gives one token more than it keeps, and
    the first token comes of the prompt."""
    timings = said.get("timings")
    drafted, accepted = _number(timings, "draft_n"), _number(timings, "draft_n_accepted")
    tokens = _number(timings, "predicted_n")
    if drafted is None or accepted is None:
        return None
    steps = None if tokens is None else tokens - 1 - accepted
    is_known = steps is not None and steps >= 0
    return SpecCounts(
        num_steps=steps if is_known else None,
        num_drafted=drafted,
        num_accepted=accepted,
        steps_are_derived=True if is_known else None,
    )


def _sglang(said: Said) -> SpecCounts | None:
    """`meta_info`, under names that changed with 0.5.11 and 0.5.12."""
    for entry in (said.get("meta_info"), said.get("usage"), said.get("sglext"), said):
        steps = _number(entry, "spec_verify_ct")
        if steps is not None:
            return SpecCounts(
                num_steps=steps,
                num_drafted=_number(
                    entry, "spec_num_proposed_drafts", "spec_proposed_drafts", "spec_draft_token_num"
                ),
                num_accepted=_number(
                    entry, "spec_num_correct_drafts", "spec_accepted_drafts", "spec_accept_token_num"
                ),
                histogram=_bars(entry, "spec_correct_drafts_histogram", "spec_accept_histogram"),
            )
    return None


def _lm_studio(said: Said) -> SpecCounts | None:
    """`stats` of its own interface (/api/v0)."""
    stats = said.get("stats")
    drafted = _number(stats, "total_draft_tokens_count")
    accepted = _number(stats, "accepted_draft_tokens_count")
    if drafted is None or accepted is None:
        return None
    return SpecCounts(num_drafted=drafted, num_accepted=accepted)


def _mlx_vlm(said: Said) -> SpecCounts | None:
    """`timings`, with rounds."""
    timings = said.get("timings")
    steps = _number(timings, "draft_rounds")
    if steps is None:
        return None
    return SpecCounts(
        num_steps=steps,
        num_drafted=_number(timings, "draft_n"),
        num_accepted=_number(timings, "draft_n_accepted"),
    )


def _nothing(_: Said) -> SpecCounts | None:
    return None


GENERIC = Adapter("generic", _nothing, {})
_VLLM = Adapter("vllm", _vllm, {}, takes_ids=True)
# cached prompts look instantaneous; timings stand on every event only where they are asked for
_LLAMA_CPP = Adapter(
    "llama.cpp", _llama_cpp, {"cache_prompt": False, "timings_per_token": True}, takes_ids=True
)
_SGLANG = Adapter("sglang", _sglang, {"return_spec_tokens_details": True})

# engine → (first version of this naming, adapter), the newest first
_BY_ENGINE: Mapping[str, tuple[tuple[tuple[int, ...], Adapter], ...]] = {
    "vllm": (((0, 32), _VLLM), ((0,), Adapter("vllm before 0.32 (counters)", _nothing, {}, takes_ids=True))),
    "llama.cpp": (((0,), _LLAMA_CPP),),
    "sglang": (((0,), _SGLANG),),
    "tensorrt-llm": (((0,), Adapter("tensorrt-llm (counters)", _nothing, {})),),
    "lm-studio": (((0,), Adapter("lm-studio", _lm_studio, {})),),
    "mlx-vlm": (((0,), Adapter("mlx-vlm", _mlx_vlm, {})),),
}
ENGINES = tuple(_BY_ENGINE)


def adapter_of(engine: str, version: str | None) -> Adapter:
    """By engine and version; of an unknown version the newest naming."""
    known = _BY_ENGINE.get(engine)
    if known is None:
        return GENERIC
    own = version_numbers(version)
    fitting = (adapter for least, adapter in known if not own or own >= least)
    return next(fitting, known[-1][1])


def version_numbers(version: str | None) -> tuple[int, ...]:
    """(0, 32, 1) of `0.32.1.dev3`; () where it is none."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", version or "")
    return tuple(map(int, found[1].split("."))) if found else ()
