"""Speeds, latencies and acceptance of requests to servers. Definitions: docs/metrics.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from bitdraft.metrics.acceptance import SHARE_SCALE, STEP_SCALE
from bitdraft.schema.records import Figure
from bitdraft.schema.serving import ServerRequest, SpecCounts
from bitdraft.schema.spec_decode import PositionAcceptance
from bitdraft.stats.drift import drift_over_time
from bitdraft.stats.intervals import median_figure, ratio_of_rates, ratio_of_sums

Requests = Sequence[ServerRequest]


def request_seconds(request: ServerRequest) -> float:
    """From its sending to its last piece of text, s."""
    return request.event_s[-1] - request.submit_s


def tokens_of(request: ServerRequest) -> int:
    """Output tokens, by the server's count."""
    return request.completion_tokens or 0


def ttft_ms(request: ServerRequest) -> float:
    """To the first piece of text."""
    return 1000 * (request.event_s[0] - request.submit_s)


def decode_span(request: ServerRequest) -> tuple[float, int]:
    """(seconds, tokens) behind the first piece, which is taken for one token."""
    return request.event_s[-1] - request.event_s[0], tokens_of(request) - 1


def tpot_ms(request: ServerRequest) -> float | None:
    """Of one request; None where nothing came behind its first piece."""
    seconds, tokens = decode_span(request)
    return 1000 * seconds / tokens if tokens > 0 and seconds > 0 else None


def paces(requests: Iterable[ServerRequest], server: str) -> dict[int, float | None]:
    """By load, how much a server's own TPOT changed while it was asked: the slowest over the fastest median
    of the thirds of its requests, in the order of their sending."""
    by_load: dict[int, list[ServerRequest]] = {}
    for request in requests:
        if request.server == server and request.error is None:
            by_load.setdefault(request.load, []).append(request)
    return {load: drift_over_time(_tpots_in_order(own)) for load, own in by_load.items()}


def _tpots_in_order(requests: Requests) -> list[float]:
    found = [tpot_ms(request) for request in sorted(requests, key=lambda one: one.submit_s)]
    return [one for one in found if one is not None]


def block_seconds(requests: Requests) -> float:
    """Of requests that were sent together: from the first one's sending to the last piece of any, s."""
    return max(r.event_s[-1] for r in requests) - min(r.submit_s for r in requests)


def latency_figures(requests: Requests) -> dict[str, Figure]:
    """Throughput of a request, TTFT, TPOT and gaps between pieces, over requests."""
    clusters = [request.cluster for request in requests]
    tokens, seconds = [tokens_of(r) for r in requests], [request_seconds(r) for r in requests]
    figures = {
        "throughput_tok_s": ratio_of_sums(tokens, seconds, clusters=clusters),
        "ttft_ms": median_figure([ttft_ms(request) for request in requests]),
    }
    seen = [request for request in requests if tpot_ms(request) is not None]
    if not seen:
        return figures
    span_s, span_tokens = np.array([decode_span(request) for request in seen]).T
    figures["tpot_ms"] = ratio_of_sums(
        1000 * span_s, span_tokens, clusters=[request.cluster for request in seen]
    )
    gaps = [[1000 * (b - a) for a, b in pairwise(request.event_s)] for request in seen]
    figures["itl_ms"] = median_figure([float(np.median(own)) for own in gaps])
    for percent in (95, 99):
        figures[f"itl_p{percent}_ms"] = median_figure([float(np.percentile(own, percent)) for own in gaps])
    return figures


def load_figures(blocks: Sequence[Requests]) -> dict[str, Figure]:
    """Output tokens of the whole server a second, over blocks of requests that were sent together."""
    tokens = [sum(map(tokens_of, block)) for block in blocks]
    return {"output_tok_s": ratio_of_sums(tokens, [block_seconds(block) for block in blocks])}


def goodput_figures(
    blocks: Sequence[Requests], num_failed: int, max_ttft_ms: float | None, max_tpot_ms: float | None
) -> dict[str, Figure]:
    """Requests a second that kept within the limits, and their share of all, those that failed among them."""
    good = [[_is_good(request, max_ttft_ms, max_tpot_ms) for request in block] for block in blocks]
    num_all = sum(map(len, blocks)) + num_failed
    rate = ratio_of_sums([sum(own) for own in good], [block_seconds(block) for block in blocks])
    share = sum(map(sum, good)) / num_all
    return {"goodput_req_s": rate, "goodput_share": Figure(value=share, n=num_all)}


def _is_good(request: ServerRequest, max_ttft_ms: float | None, max_tpot_ms: float | None) -> bool:
    own = tpot_ms(request)
    in_time = max_ttft_ms is None or ttft_ms(request) <= max_ttft_ms
    return in_time and (max_tpot_ms is None or own is None or own <= max_tpot_ms)


def speedup_figures(pairs: Sequence[tuple[ServerRequest, ServerRequest]]) -> dict[str, Figure]:
    """Throughput over the baseline's, and the same behind the first piece, over requests of the same prompt
    and load: (own, baseline's)."""
    clusters = [own.cluster for own, _ in pairs]
    columns = [
        [measure(request) for request in side]
        for side in zip(*pairs, strict=True)
        for measure in (tokens_of, request_seconds)
    ]
    figures = {"speedup": ratio_of_rates(*columns, clusters=clusters)}
    spans = [[decode_span(request) for request in side] for side in zip(*pairs, strict=True)]
    if all(seconds > 0 and tokens > 0 for side in spans for seconds, tokens in side):
        work = [[value[place] for value in side] for side in spans for place in (1, 0)]
        figures["decode_speedup"] = ratio_of_rates(*work, clusters=clusters)
    return figures


def acceptance_figures(requests: Requests, k: int | None) -> dict[str, Figure]:
    """Tokens per step τ = 1 + accepted / steps, acceptance rate (τ − 1) / K where K is known, and the share
    of drafted tokens that were kept; over the requests that speculated."""
    counted = [(r, r.spec) for r in requests if r.spec is not None]
    figures: dict[str, Figure] = {}
    steps = [
        (r, s.num_steps, s.num_accepted) for r, s in counted if s.num_steps and s.num_accepted is not None
    ]
    if steps:
        clusters = [request.cluster for request, _, _ in steps]
        tokens = [(n or 0) + (kept or 0) for _, n, kept in steps]
        num_steps = [n or 0 for _, n, _ in steps]
        figures["tokens_per_step"] = ratio_of_sums(tokens, num_steps, scale=STEP_SCALE, clusters=clusters)
        if k is not None:
            figures["acceptance_rate"] = ratio_of_sums(
                tokens, num_steps, lambda tau: (tau - 1) / k, SHARE_SCALE, clusters
            )
    drafted = [(r, s.num_drafted, s.num_accepted) for r, s in counted if s.num_drafted]
    if drafted and all(kept is not None for _, _, kept in drafted):
        figures["draft_acceptance"] = ratio_of_sums(
            [kept or 0 for _, _, kept in drafted],
            [n or 0 for _, n, _ in drafted],
            scale=SHARE_SCALE,
            clusters=[request.cluster for request, _, _ in drafted],
        )
    return figures


def counter_figures(counts: SpecCounts, k: int | None) -> dict[str, Figure]:
    """The same of a server's counters, which tell no request from another: without intervals."""
    figures: dict[str, Figure] = {}
    steps, drafted, accepted = counts.num_steps, counts.num_drafted, counts.num_accepted
    if steps and accepted is not None:
        figures["tokens_per_step"] = Figure(value=1 + accepted / steps)
        if k is not None:
            figures["acceptance_rate"] = Figure(value=accepted / steps / k)
    if drafted and accepted is not None:
        figures["draft_acceptance"] = Figure(value=accepted / drafted)
    return figures


def kept_by_position(requests: Requests) -> tuple[tuple[int, ...], int] | None:
    """How many steps kept the first, the second, … drafted token, and the steps; None without histograms."""
    bars = [r.spec.histogram for r in requests if r.spec is not None and r.spec.histogram is not None]
    if not bars:
        return None
    summed = np.zeros(max(map(len, bars)), int)
    for own in bars:
        summed[: len(own)] += own
    kept = summed[::-1].cumsum()[::-1]
    return tuple(map(int, kept[1:])), int(kept[0])


def positions_of(kept: Sequence[int], num_steps: int) -> tuple[PositionAcceptance, ...]:
    """Shares of all steps, and of those that had kept the one before."""
    found, before = [], num_steps
    for place, own in enumerate(kept, 1):
        share = own / num_steps if num_steps else None
        conditional = own / before if before else None
        found.append(PositionAcceptance(position=place, n=num_steps, share=share, conditional=conditional))
        before = own
    return tuple(found)
