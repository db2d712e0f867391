"""Which of the measured options to deploy, and which predicted ones to measure. Pure.

Options of different sweeps are compared at one pace of the machine, by what plain decoding took beside each,
with the noise of all that was measured. An option that breaks a limit is out. At each precision the candidate
is the fastest (draft, K) that pays, as in the verdict on a sweep. What is chosen is at the precision that was
chosen first, unless something at another, with a draft or without, is faster beyond the intervals (and beyond
the machine's own drift, because precisions cannot be interleaved); a draft there must bring over plain
decoding here what is asked of a draft. Whatever was measured neither slower nor faster than the choice is
named beside it. Intervals hold for all pairs of options at once. Not to speculate is a choice like any other,
and needs as much evidence: where plain decoding is chosen beside a draft that may well bring what is asked,
whether to speculate is left open.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from bitdraft.config import RecommendConfig
from bitdraft.metrics.speed import clusters_of, tokens_and_seconds
from bitdraft.recommend.options import Option, Prediction
from bitdraft.schema.findings import Finding, Value, answer
from bitdraft.schema.naming import Pair
from bitdraft.schema.records import Figure
from bitdraft.spec_decode.plan_verdict import MARGIN
from bitdraft.stats.intervals import Noise
from bitdraft.stats.selection import of_the_best, pays, speedup_of_the_best, told

MOST_CONTENDERS, MOST_OF_A_DRAFT = 6, 2
_BY_SPEED = ("speculation.unsure", "speculation.too_little", "speculation.slower")
NEAR_BEST = 0.85


@dataclass(frozen=True)
class Choice:
    """`first` is the precision that was chosen before drafts were looked at. `tied` are the options that were
    measured neither slower nor faster than the chosen one, `faster` those that were measured faster and are
    not shown to bring what is asked of a draft. `speed` (tokens/s), `speedup`, and `against` (over plain
    decoding, by precision) are told of it, and of a (draft, K) free of its having been chosen. `unsure` says
    why it isn't known whether to speculate."""

    option: Option | None
    first: str | None = None
    tied: list[Option] = field(default_factory=list)
    faster: list[Option] = field(default_factory=list)
    speed: Figure | None = None
    speedup: Figure | None = None
    against: dict[str, Figure] = field(default_factory=dict)
    unsure: Finding | None = None


def contenders(
    predictions: Sequence[Prediction], precision: str, config: RecommendConfig
) -> list[Prediction]:
    """What is worth measuring: the best by predicted throughput, few of each draft, and the best at the
    precision that was chosen first. None that is predicted to lose clearly; where the costs are in doubt,
    predictions drop nothing but further K of a draft."""
    is_sure = all(one.is_sure for one in predictions)
    least = MARGIN * max(config.min_speedup, 1.0)
    hopeful = [one for one in predictions if not is_sure or one.speedup >= least]
    ordered = sorted(hopeful, key=lambda one: -one.throughput)
    kept: list[Prediction] = []
    for one in ordered:
        alike = [other for other in kept if (other.pair, other.draft) == (one.pair, one.draft)]
        near = not is_sure or one.throughput >= NEAR_BEST * ordered[0].throughput
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
    plain: Sequence[Option],
    measured: Sequence[Option],
    precision: str | None,
    drift: float,
    *,
    noise: Noise | None = None,
    min_speedup: float = 1.0,
) -> Choice:
    """`precision` is the precision module's choice among those within all limits; `min_speedup` is what a
    draft must bring."""
    base = next((one for one in plain if one.precision == precision), None)
    if base is None:
        return Choice(None)
    fit = [one for one in measured if not one.problems]
    options = [*(one for one in measured if not one.is_out), *(one for one in plain if not one.problems)]
    judge = _Judge(drift, noise, math.comb(len(options), 2))
    leading = {one.precision: one for one in sorted(fit, key=_throughput)}
    chosen = leading.get(base.precision, base)
    able = [*leading.values(), *(one for one in options if one.draft is None)]
    there = [one for one in able if one.precision != chosen.precision]
    better = [one for one in there if judge.takes_the_place_of(chosen, one, min_speedup)]
    chosen = max(better, key=_throughput, default=chosen)
    others = [one for one in options if one is not chosen]
    faster = [one for one in others if judge.is_faster(one, chosen)]
    slower = [one for one in others if judge.is_faster(chosen, one)]
    tied = [one for one in others if not any(one is told_apart for told_apart in (*faster, *slower))]
    speed, speedup, share = chosen.speed, None, 1.0
    if chosen.draft is not None:
        speed, speedup = _told(chosen, _rivals(measured, chosen.precision), len(measured))
        share = speed.value / chosen.throughput
    against = {one.precision: _scaled(judge.ratio(chosen, one), share) for one in plain if one is not chosen}
    unsure = None
    if chosen.draft is None:
        unsure = _unsure(chosen, [*tied, *faster], judge, min_speedup)
    return Choice(chosen, precision, tied, faster, speed, speedup, against, unsure)


def _scaled(ratio: Figure, share: float) -> Figure:
    """By the share that is told of a value, within its interval."""
    value = ratio.value * share
    return ratio.model_copy(update={"value": value if ratio.low is None else max(value, ratio.low)})


def _rivals(measured: Sequence[Option], precision: str) -> list[Option]:
    """What could be chosen at a precision if it is faster than plain decoding: what is dropped for its
    speedup's interval is dropped by the same prompts that chose the others."""
    return [
        one
        for one in measured
        if one.precision == precision and all(problem.code in _BY_SPEED for problem in one.problems)
    ]


def _throughput(option: Option) -> float:
    return option.throughput


@dataclass(frozen=True)
class _Judge:
    """Which of two options is faster, by intervals for so many pairs at once."""

    drift: float
    noise: Noise | None
    num_pairs: int

    def is_faster(self, one: Option, other: Option) -> bool:
        """A (draft, K) without problems was measured faster than plain decoding at its precision. Precisions
        were measured one after another: between them the machine's own drift does not count."""
        if one.precision == other.precision and other.draft is None and not one.problems:
            return True
        found = self.ratio(one, other)
        least = self.drift if one.precision != other.precision else 1.0
        return found.low is not None and found.low > 1 and found.value > least

    def takes_the_place_of(self, chosen: Option, one: Option, min_speedup: float) -> bool:
        """Whether what was measured at another precision is faster, and a draft, in place of plain decoding,
        brings what is asked of one."""
        if not self.is_faster(one, chosen):
            return False
        return (
            one.draft is None
            or chosen.draft is not None
            or pays(self.ratio(one, chosen), min_speedup) is True
        )

    def ratio(self, one: Option, other: Option) -> Figure:
        """Of their speeds, by an interval for all pairs."""
        return one.ratio(other, self.noise, self.num_pairs)


def _told(chosen: Option, rivals: Sequence[Option], num_looked_at: int) -> tuple[Figure, Figure]:
    """Throughput and speedup of the chosen (draft, K) as they are said: by value free of its having been
    chosen among the rivals, which are those at its precision."""
    own = of_the_best(chosen.metrics["speedup"], num_looked_at)
    speedup = told(own, _value_of_the_best(rivals), does_pay=True)
    return _scaled(chosen.speed, speedup.value / own.value), speedup


def _value_of_the_best(rivals: Sequence[Option]) -> float | None:
    """The speedup of the fastest on prompts that did not choose it; each rival beside plain decoding of its
    own sweep. None where one has no such, or too few prompts."""
    parts = [
        (runs, base)
        for one in rivals
        for (runs,) in [*one.over.values()][-1:]
        for (base,) in one.under.values()
    ]
    if len(parts) < len(rivals):
        return None
    num_prompts = min(len(part) for pair in parts for part in pair)
    work, seconds = [], []
    for runs, base in parts:
        plain = [tokens_and_seconds([run]) for run in base[:num_prompts]]
        tok_s = sum(tokens for tokens, _ in plain) / sum(took_s for _, took_s in plain)
        own = [tokens_and_seconds([run]) for run in runs[:num_prompts]]
        work.append([tokens for tokens, _ in own])
        seconds.append([tok_s * took_s for _, took_s in own])
    ones = [1.0] * num_prompts
    clusters = clusters_of(parts[0][0][:num_prompts])
    return speedup_of_the_best(work, seconds, ones, ones, clusters=clusters)


def _unsure(chosen: Option, others: Sequence[Option], judge: _Judge, min_speedup: float) -> Finding | None:
    """The fastest that may bring what is asked of a draft: too few prompts, or too wide an interval, are no
    evidence against speculation. At the chosen precision a (draft, K) that is not out may."""
    drafts = [one for one in others if one.draft]
    could_pay = [
        one
        for one in drafts
        if one.precision == chosen.precision or pays(judge.ratio(one, chosen), min_speedup) is not False
    ]
    if not could_pay:
        return None
    best = max(could_pay, key=_throughput)
    speedup = best.metrics["speedup"]
    if speedup.low is None:
        few: dict[str, Value] = {"speedup": speedup, "num_prompts": len(best.over[best.name][0])}
        return answer("recommend.too_few", best.name, precision=best.precision, **few)
    ratio = judge.ratio(best, chosen)
    return answer("recommend.too_noisy", best.name, ratio=ratio, min_speedup=min_speedup)


def by_pair(predictions: Sequence[Prediction]) -> dict[Pair, list[Prediction]]:
    """Those that one sweep can measure."""
    found: dict[Pair, list[Prediction]] = {}
    for one in predictions:
        found.setdefault(one.pair, []).append(one)
    return found
