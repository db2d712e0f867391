"""Two rows of the same name, compared. Pure: the same raw records give the same ratios."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bitdraft.compare.measured import Measured, Places
from bitdraft.compare.pairing import (
    Between,
    judge,
    ratio_of_parts,
    ratio_of_speedups,
    ratio_of_ttft,
    ratio_of_values,
)
from bitdraft.metrics.acceptance import tokens_and_steps
from bitdraft.metrics.memory import NAMES
from bitdraft.metrics.quality import perplexity
from bitdraft.metrics.speed import span_ms_and_tokens, tokens_and_seconds
from bitdraft.schema.comparison import Ratio, RowComparison, RowName
from bitdraft.schema.findings import Finding
from bitdraft.schema.precision import ProtocolCard
from bitdraft.stats.intervals import Noise, ratio_of_sums
from bitdraft.stats.selection import p_value

EARLY = "ended early"
# what a card says of the place where a text was found, which the text's sha256 makes indifferent
_NOT_OF_THE_PROTOCOL = {"source", "revision", "dataset", "dataset_sha256"}


@dataclass(frozen=True)
class Pair:
    """What is known of the two files. `same_work`: the fixed work timed between prompts is the same on
    both sides, so its times tell how the machine itself changed. `noise`: how processes differ that did the
    same, where each row is a process of its own; `in_turn`: from round to round of the two sides."""

    is_greedy: bool
    tokenizer_problem: str | None
    same_work: bool
    noise: Noise | None = None
    in_turn: bool = False


def compare_rows(name: RowName, a: Measured, b: Measured, pair: Pair) -> RowComparison:
    places = [place for place in a.items if place in b.items]
    machine = _machine(a, b)
    notes = []
    if a.status == b.status == "ok" and not places:
        notes.append(Finding(code="compare.no_same_prompts"))
    if pair.tokenizer_problem is not None:
        notes.append(Finding(code="compare.other_tokens"))
    ppl, why_not = _ppl(a, b, pair)
    if why_not is not None:
        notes.append(Finding(code="compare.no_ppl", figures={"why": why_not}))
    between = Between(machine if machine and pair.same_work else 1.0, pair.noise, pair.in_turn)
    ratios = _speeds(a, b, places, between)
    ratios |= _values(a, b)
    if ppl is not None:
        ratios["ppl"] = ppl
    elif why_not is not None:
        ratios |= _bits_per_byte(a, b)
    no_numbers = tuple(name for name, ratio in ratios.items() if not math.isfinite(ratio.ratio.value))
    if no_numbers:
        notes.append(Finding(code="compare.no_numbers", figures={"names": no_numbers}))
        ratios = {name: ratio for name, ratio in ratios.items() if name not in no_numbers}
    statuses = _statuses(a, b)
    return RowComparison(
        name=name,
        status_a=statuses[0],
        status_b=statuses[1],
        reason_a=a.reason,
        reason_b=b.reason,
        status_change=_status_change(*statuses),
        ratios=ratios,
        same_ids=_same_ids(a, b, places) if pair.is_greedy and pair.tokenizer_problem is None else None,
        acceptance=_acceptance(a, b),
        unexplained=(a.num_unexplained, b.num_unexplained),
        machine=machine,
        missing=tuple(metric for metric in _metrics_of(a) if metric not in ratios),
        notes=tuple(notes),
    )


def _metrics_of(side: Measured) -> list[str]:
    """Those that a row can be judged by."""
    items = [item for rounds in side.items.values() for item in rounds]
    has = {
        "throughput_tok_s": bool(items),
        "speedup": bool(side.base),
        "tokens_per_step": any(run.steps for item in items for run in item),
        "ppl": side.raw.score_blocks is not None,
    }
    return [name for name, is_there in has.items() if is_there]


def _statuses(a: Measured, b: Measured) -> tuple[str, str]:
    """A side that finished fewer prompts, or groups of them, than the other ended early."""
    short_a, short_b = len(a.items) < len(b.items), len(b.items) < len(a.items)
    both_ok = a.status == b.status == "ok"
    return (EARLY if both_ok and short_a else a.status), (EARLY if both_ok and short_b else b.status)


def _status_change(a: str, b: str) -> Literal["better", "worse"] | None:
    if (a == "ok") == (b == "ok"):
        return None
    return "worse" if a == "ok" else "better"


def _machine(a: Measured, b: Measured) -> float | None:
    """Speed of the same fixed work, timed between the prompts, in B over A: of the medians, which a stall in
    one of them does not move."""
    for name in ("reference_work_s", "calibration_s"):
        times_a, times_b = (getattr(side.raw, name) for side in (a, b))
        if times_a and times_b:
            return float(np.median(times_a) / np.median(times_b))
    return None


def _speeds(a: Measured, b: Measured, places: list[Places], between: Between) -> dict[str, Ratio]:
    items_a, items_b = [a.items[place] for place in places], [b.items[place] for place in places]
    found = {
        "throughput_tok_s": ratio_of_parts(tokens_and_seconds, items_a, items_b, "higher", between),
        "tpot_ms": ratio_of_parts(span_ms_and_tokens, items_a, items_b, "lower", between),
    }
    if all(len(item) == 1 for rounds in (*items_a, *items_b) for item in rounds):
        found["ttft_ms"] = ratio_of_ttft(items_a, items_b, between)
    if a.base and b.base:
        both = [place for place in places if place in a.base and place in b.base]
        sides = [([side.items[p] for p in both], [side.base[p] for p in both]) for side in (a, b)]
        found["speedup"] = ratio_of_speedups(sides[0], sides[1])
    found["tokens_per_step"] = ratio_of_parts(tokens_and_steps, items_a, items_b, "higher")
    return {name: ratio for name, ratio in found.items() if ratio is not None}


def _values(a: Measured, b: Measured) -> dict[str, Ratio]:
    """Peak memory, where both sides have the same of its two kinds."""
    for name in NAMES:
        if name in a.metrics and name in b.metrics:
            ratio = ratio_of_values(a.metrics[name].value, b.metrics[name].value, "lower")
            return {} if ratio is None else {name: ratio}
    return {}


def _acceptance(a: Measured, b: Measured) -> tuple[float, float] | None:
    rate_a, rate_b = (side.metrics.get("acceptance_rate") for side in (a, b))
    return None if rate_a is None or rate_b is None else (rate_a.value, rate_b.value)


def _same_ids(a: Measured, b: Measured, places: list[Places]) -> tuple[int, int] | None:
    same = [
        one.token_ids == other.token_ids
        for place in places
        for pair in zip(a.items[place], b.items[place], strict=False)
        for one, other in zip(*pair, strict=True)
    ]
    return (sum(same), len(same)) if same else None


def _ppl(a: Measured, b: Measured, pair: Pair) -> tuple[Ratio | None, str | None]:
    """PPL of B over A from the paired sums of blocks, or why there is none (no reason where a side has
    nothing to compare, as its status says)."""
    card_a, card_b = (side.quality.protocol for side in (a, b))
    sums_a, sums_b = (side.raw.score_blocks for side in (a, b))
    if card_a is None or card_b is None or sums_a is None or sums_b is None:
        return None, None
    problem = pair.tokenizer_problem or _other_card(card_a, card_b)
    if problem is not None:
        return None, problem
    if sums_a.num_tokens != sums_b.num_tokens:
        return None, "the text was scored in other blocks"
    tokens = np.asarray(sums_a.num_tokens, float)
    # ln PPL is the mean negative log-probability, so A − B is the change of ln PPL (metrics.paired_figures)
    change = np.asarray(sums_a.log_prob) - np.asarray(sums_b.log_prob)
    if card_a.normaliser == "documents":
        change, weights = change / tokens, np.ones_like(tokens)
    else:
        weights = tokens
    found = ratio_of_sums(change, weights, transform=np.exp).model_copy(update={"median": None})
    values = [perplexity(entry, card_a.normaliser).value for entry in (sums_a, sums_b)]
    ratio = Ratio(
        a=values[0],
        b=values[1],
        ratio=found,
        better="lower",
        standing=judge(found, "lower"),
        chance=p_value(found, found.n - 1),
    )
    return ratio, None


def _other_card(a: ProtocolCard, b: ProtocolCard) -> str | None:
    for name in ProtocolCard.model_fields:
        values = getattr(a, name), getattr(b, name)
        if name not in _NOT_OF_THE_PROTOCOL and values[0] != values[1]:
            return f"{name} is {values[0]} in A, {values[1]} in B"
    return None


def _bits_per_byte(a: Measured, b: Measured) -> dict[str, Ratio]:
    """Bytes are the same under every tokenizer; there where the whole text was scored."""
    bits_a, bits_b = a.quality.bits_per_byte, b.quality.bits_per_byte
    if bits_a is None or bits_b is None or a.quality.num_bytes != b.quality.num_bytes:
        return {}
    ratio = ratio_of_values(bits_a.value, bits_b.value, "lower")
    return {} if ratio is None else {"bits_per_byte": ratio}
