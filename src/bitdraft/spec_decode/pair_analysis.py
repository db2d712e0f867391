"""From the events of `pairs` to a record for every pair of formats, and the alarms. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bitdraft import formats
from bitdraft.config import SpecDecodeConfig
from bitdraft.formats.kv_cache import AUTO
from bitdraft.runs.cell import Event
from bitdraft.schema.findings import Finding, reason, warning
from bitdraft.schema.records import Figure
from bitdraft.schema.spec_decode import FormatPair
from bitdraft.spec_decode.records import Records
from bitdraft.spec_decode.replay import expected, model_chain
from bitdraft.stats.intervals import LOGIT, ratio_of_sums

DEAD = 0.02
"""Share of tokens: a draft that agrees more seldom brings nothing at any K"""
HALF = 0.5
LEAST_TOKENS = 50
"""Fewer say nothing of a draft"""
Key = tuple[str, str, str, str]


def pair_records(events: Sequence[Event], config: SpecDecodeConfig) -> tuple[FormatPair, ...]:
    """In the order in which formats were asked for. The first token comes from the prefill, not from a
    draft."""
    found: dict[Key, list[list[int]]] = {}
    for event in events:
        if event["event"] == "agreement":
            key = (event["draft"], event["target"], event["kv_cache"], event["draft_precision"])
            found.setdefault(key, []).append(event["keeps"])
    order = {name: place for place, name in enumerate(config.pairs)}

    def place_of(key: Key) -> tuple[str, int, bool, str, int]:
        draft, target, kv_cache, draft_precision = key
        return draft, order[target], kv_cache != AUTO, kv_cache, order[draft_precision]

    return tuple(_record(key, found[key], config) for key in sorted(found, key=place_of))


def _record(key: Key, keeps: Sequence[Sequence[int]], config: SpecDecodeConfig) -> FormatPair:
    draft, target, kv_cache, draft_precision = key
    chains = [model_chain(own, 1, config.max_new_tokens) for own in keeps]
    told = [own[1:] for own in keeps if len(own) > 1]
    sums, lengths = [sum(own) for own in told], [len(own) for own in told]
    agreement = ratio_of_sums(sums, lengths, scale=LOGIT) if told else Figure(value=0.0)
    return FormatPair(
        draft=draft,
        target=target,
        kv_cache=kv_cache,
        draft_precision=draft_precision,
        agreement=agreement,
        tokens_per_step={k: expected(chains, k).summary().tokens_per_step for k in config.k},
    )


def pair_findings(pairs: Sequence[FormatPair], events: Sequence[Event]) -> tuple[Finding, ...]:
    """A draft that a format has killed or halved, beside the same draft where both models round least;
    formats that could not be looked at."""
    found = []
    for draft in dict.fromkeys(pair.draft for pair in pairs):
        own = [pair for pair in pairs if pair.draft == draft]
        base = _base(own)
        own_format, share = base.draft_precision, base.agreement.value
        found.append(reason("pairs.base", draft, target=base.target, own=own_format, share=share))
        for pair in own:
            code = _alarm(pair, base)
            if code is not None:
                found.append(
                    warning(
                        code,
                        draft,
                        target=_variant(pair),
                        own=pair.draft_precision,
                        share=pair.agreement.value,
                        base=base.agreement.value,
                    )
                )
    for event in events:
        if event["event"] == "lost":
            which = event.get("target") or f"{event['draft']} in {event['draft_precision']}"
            found.append(warning("pairs.lost", which, status=event["status"], why=event["reason"]))
    return tuple(found)


def dead_drafts(records: Records) -> list[Finding]:
    """Draft models that agree with hardly any of the target's tokens, whatever the reason."""
    config = records.config
    if config.random_weights or config.synthetic_acceptance is not None:
        return []
    found = []
    for label in records.labels:
        num_tokens = sum(chain.num_tokens - chain.first for chain in records.chains(label))
        share = records.alpha(label) if num_tokens >= LEAST_TOKENS else None
        if share is not None and share < DEAD:
            found.append(warning("spec.dead_draft", label, share=share, n=num_tokens))
    return found


def _base(pairs: Sequence[FormatPair]) -> FormatPair:
    """Where both round least, with the cache that a backend has by itself."""

    def rounds(pair: FormatPair) -> tuple[float, float, bool]:
        target, own = (formats.find(name).bits for name in (pair.target, pair.draft_precision))
        return target, own, pair.kv_cache == AUTO

    return max(pairs, key=rounds)


def _alarm(pair: FormatPair, base: FormatPair) -> str | None:
    """By value where there are too few prompts for an interval."""
    at_most = pair.agreement.value if pair.agreement.high is None else pair.agreement.high
    if pair.agreement.value < DEAD:
        return "pairs.dead"
    return "pairs.halved" if pair is not base and at_most < HALF * base.agreement.value else None


def _variant(pair: FormatPair) -> str:
    """`Q8_0` or `Q8_0 with a q4_0 cache`."""
    return pair.target if pair.kv_cache == AUTO else f"{pair.target} with a {pair.kv_cache} cache"
