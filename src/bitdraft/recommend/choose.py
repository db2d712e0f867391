"""Which of the measured options to deploy, and which predicted ones to measure. Pure.

Options of different sweeps are compared at one pace of the machine, by what plain decoding took beside each.
An option that breaks a limit is out. Of what is left the fastest is chosen, but never against the precision
that was chosen first: another precision's speculation must be faster beyond the interval (and beyond the
machine's own drift, because precisions cannot be interleaved). What cannot be told from the choice is named
beside it. Not to speculate is a choice like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bitdraft.config import RecommendConfig
from bitdraft.metrics.speed import speed_ratio
from bitdraft.recommend.options import Option, Prediction
from bitdraft.schema.findings import Finding, answer
from bitdraft.schema.naming import Pair
from bitdraft.schema.records import Figure

MOST_CONTENDERS, MOST_OF_A_DRAFT = 6, 2
# a prediction holds within a few percent (docs/benchmarks)
NEAR_BEST, PREDICTION_MARGIN = 0.85, 0.9


@dataclass(frozen=True)
class Choice:
    """`tied` are the options whose speed cannot be told from the chosen one's; `unsure` says why it isn't
    known whether to speculate."""

    option: Option | None
    tied: list[Option] = field(default_factory=list)
    unsure: Finding | None = None


def contenders(
    predictions: Sequence[Prediction], precision: str, config: RecommendConfig
) -> list[Prediction]:
    """What is worth measuring: the best by predicted throughput, few of each draft, and the best at the
    precision that was chosen first. None that is predicted to lose clearly."""
    hopeful = [p for p in predictions if p.speedup >= PREDICTION_MARGIN * max(config.min_speedup, 1.0)]
    ordered = sorted(hopeful, key=lambda one: -one.throughput)
    kept: list[Prediction] = []
    for one in ordered:
        alike = [other for other in kept if (other.pair, other.draft) == (one.pair, one.draft)]
        near = one.throughput >= NEAR_BEST * ordered[0].throughput
        if near and len(alike) < MOST_OF_A_DRAFT and len(kept) < MOST_CONTENDERS:
            kept.append(one)
    own = next((one for one in ordered if one.precision == precision), None)
    if own is not None and not any(one.precision == precision for one in kept):
        kept = [*kept[: MOST_CONTENDERS - 1], own]
    return kept


def mixed_could_pay(predictions: Sequence[Prediction], draft: str) -> bool:
    """Whether a draft at another precision could bring the fastest: what it would bring if its forwards
    cost nothing is the most that any precision can make of it."""
    best = max(one.throughput for one in predictions)
    free = [one.throughput / one.speedup * one.bound for one in predictions if one.draft == draft]
    return bool(free) and max(free) > best


def choose(
    plain: Sequence[Option], measured: Sequence[Option], precision: str | None, drift: float
) -> Choice:
    """`precision` is the precision module's choice among those within all limits."""
    base = next((one for one in plain if one.precision == precision), None)
    if base is None:
        return Choice(None)
    allowed = {one.precision for one in plain if not one.problems}
    fit = [one for one in measured if not one.problems and one.precision in allowed]
    best = max(fit, key=lambda one: one.throughput, default=None)
    if best is not None and best.precision != base.precision:
        own = max((one for one in fit if one.precision == base.precision), key=_throughput, default=base)
        if not _is_faster(best, own, drift):
            best = None if own is base else own
    chosen = best or base
    others = [one for one in (*fit, *(o for o in plain if not o.problems)) if one is not chosen]
    tied = [one for one in others if _is_tied(one, chosen, drift)]
    return Choice(chosen, tied, None if best else _unsure(measured))


def _throughput(option: Option) -> float:
    return option.throughput


def ratio(one: Option, other: Option) -> Figure:
    """Throughput over throughput at one pace of the machine, prompts paired; without an interval where the
    prompts differ in number."""
    if len(one.runs) != len(other.runs):
        return Figure(value=one.throughput / other.throughput)
    found, pace = speed_ratio(one.runs, other.runs), one.pace / other.pace
    low, high = (None if end is None else end * pace for end in (found.low, found.high))
    return Figure(value=found.value * pace, low=low, high=high, n=found.n)


def _is_faster(one: Option, other: Option, drift: float) -> bool:
    found = ratio(one, other)
    return found.low is not None and found.low > 1 and (one.pair == other.pair or found.value > drift)


def _is_tied(one: Option, chosen: Option, drift: float) -> bool:
    """Plain decoding ties with plain decoding alone: a chosen (draft, K) was faster in its own sweep."""
    if one.draft is None and chosen.draft is not None:
        return False
    return not _is_faster(chosen, one, drift) and not _is_faster(one, chosen, drift)


def _unsure(measured: Sequence[Option]) -> Finding | None:
    """Too few prompts for an interval are no evidence against speculation."""
    open_ones = [one for one in measured if one.metrics["speedup"].low is None]
    if not open_ones:
        return None
    best = max(open_ones, key=_throughput)
    return answer("recommend.too_few", best.name, speedup=best.metrics["speedup"], precision=best.precision)


def by_pair(predictions: Sequence[Prediction]) -> dict[Pair, list[Prediction]]:
    """Those that one sweep can measure."""
    found: dict[Pair, list[Prediction]] = {}
    for one in predictions:
        found.setdefault(one.pair, []).append(one)
    return found
