"""Which of the measured options to deploy, and which predicted ones to measure. Pure.

Options of different sweeps are compared at one pace of the machine, by what plain decoding took beside each,
with the noise of all that was measured. An option that breaks a limit is out. At each precision the fastest
(draft, K) by value is the candidate, as in the verdict on a sweep: it pays, or nothing there does. What is
chosen is at the precision that was chosen first, unless something at another, with a draft or without, is
faster beyond the intervals (and beyond the machine's own drift, because precisions cannot be interleaved).
Whatever was not measured slower than the choice is named beside it. Intervals hold for all pairs of options
at once. Not to speculate is a choice like any other, and needs as much evidence: where plain decoding is
chosen beside a draft that may well be faster, whether to speculate is left open.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from bitdraft.config import RecommendConfig
from bitdraft.metrics.speed import clusters_of, tokens_and_seconds
from bitdraft.recommend.options import Option, Prediction
from bitdraft.schema.findings import Finding, answer
from bitdraft.schema.naming import Pair
from bitdraft.schema.records import Figure
from bitdraft.stats.intervals import Noise
from bitdraft.stats.selection import of_the_best, pays, speedup_of_the_best

MOST_CONTENDERS, MOST_OF_A_DRAFT = 6, 2
# a prediction holds within a few percent (docs/benchmarks)
_BY_SPEED = ("speculation.unsure", "speculation.too_little", "speculation.slower")
NEAR_BEST, PREDICTION_MARGIN = 0.85, 0.9


@dataclass(frozen=True)
class Choice:
    """`tied` are the options that were not measured slower than the chosen one. `speed` (tokens/s) and
    `speedup` are told of it, and of a (draft, K) free of its having been chosen. `unsure` says why it isn't
    known whether to speculate."""

    option: Option | None
    tied: list[Option] = field(default_factory=list)
    speed: Figure | None = None
    speedup: Figure | None = None
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
    leading = [one for one in fit if one is _fastest(measured, one.precision)]
    own = [one for one in leading if one.precision == base.precision]
    chosen = own[0] if own else base
    able = [*leading, *(one for one in options if one.draft is None)]
    faster = [one for one in able if one.precision != chosen.precision and judge.is_faster(one, chosen)]
    chosen = max(faster, key=_throughput, default=chosen)
    others = [one for one in options if one is not chosen]
    tied = [one for one in others if not judge.is_faster(chosen, one)]
    if chosen.draft is None:
        return Choice(chosen, tied, chosen.speed, unsure=_unsure(chosen, tied, judge, min_speedup))
    rivals = _rivals(measured, chosen.precision)
    return Choice(chosen, tied, *_told(chosen, rivals, len(measured)))


def _rivals(measured: Sequence[Option], precision: str) -> list[Option]:
    """What could be chosen at a precision if it is faster than plain decoding: what is dropped for its
    speedup's interval is dropped by the same prompts that chose the others."""
    return [
        one
        for one in measured
        if one.precision == precision and all(problem.code in _BY_SPEED for problem in one.problems)
    ]


def _fastest(measured: Sequence[Option], precision: str) -> Option | None:
    """The candidate at a precision, as in the verdict on a sweep: it pays, or nothing there does."""
    return max(_rivals(measured, precision), key=_throughput, default=None)


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
        if one.precision == other.precision and other.draft is None:
            return not one.problems
        found = self.ratio(one, other)
        least = self.drift if one.precision != other.precision else 1.0
        return found.low is not None and found.low > 1 and found.value > least

    def ratio(self, one: Option, other: Option) -> Figure:
        """Of their speeds, by an interval for all pairs."""
        return one.ratio(other, self.noise, self.num_pairs)


def _told(chosen: Option, rivals: Sequence[Option], num_looked_at: int) -> tuple[Figure, Figure]:
    """Throughput and speedup of the chosen (draft, K) as they are said: by value free of its having been
    chosen among the rivals, which are those at its precision, and never above its own."""
    speed, speedup = chosen.speed, of_the_best(chosen.metrics["speedup"], num_looked_at)
    value = _value_of_the_best(rivals)
    if value is None:
        return speed, speedup
    value = min(value, speedup.value)
    said = speed.value * value / speedup.value
    return speed.model_copy(update={"value": said}), speedup.model_copy(update={"value": value})


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


def _unsure(chosen: Option, tied: Sequence[Option], judge: _Judge, min_speedup: float) -> Finding | None:
    """The fastest that may bring what is worth a draft: too few prompts, or too wide an interval, are no
    evidence against speculation."""
    drafts = [one for one in tied if one.draft]
    could_pay = [one for one in drafts if pays(judge.ratio(one, chosen), min_speedup) is not False]
    if not could_pay:
        return None
    best = max(could_pay, key=_throughput)
    speedup = best.metrics["speedup"]
    if speedup.low is None:
        return answer("recommend.too_few", best.name, speedup=speedup, precision=best.precision)
    return answer("recommend.too_noisy", best.name, ratio=judge.ratio(best, chosen))


def by_pair(predictions: Sequence[Prediction]) -> dict[Pair, list[Prediction]]:
    """Those that one sweep can measure."""
    found: dict[Pair, list[Prediction]] = {}
    for one in predictions:
        found.setdefault(one.pair, []).append(one)
    return found
