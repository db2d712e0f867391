"""B over A, from the raw generations. Pure.

An item is what was decoded at once: one prompt, or a group of them; measured in turn it was decoded once a
round. Items are paired, so what makes one prompt slower than another cancels; intervals are over the pairs,
and over the rounds where there are any. Two sides that were not measured in turn were measured at different
times, and no interval over prompts can contain what the machine did in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bitdraft.metrics.speed import Item, clusters_of_items, tokens_and_seconds, ttft_ms
from bitdraft.schema.comparison import Better, Ratio, Standing
from bitdraft.schema.records import Figure
from bitdraft.stats.intervals import (
    FEWEST_ITEMS,
    Clusters,
    Floats,
    Noise,
    figure_of_sums,
    median_figure,
    over_rounds,
    with_noise,
)
from bitdraft.stats.selection import mean_p_value, p_value, t_p_value

Rounds = Sequence[Item]
"""An item, once a round"""
Items = Sequence[Rounds]
Part = tuple[float, float]
"""(numerator, denominator) of one item"""


@dataclass(frozen=True)
class Between:
    """What is known of the two sides beside their prompts: the speed of the same fixed work in B over A, and
    how processes differ that did the same (`noise`), by themselves or, `in_turn`, from round to round.
    Without `noise` the rounds of the ratio itself tell."""

    machine: float = 1.0
    noise: Noise | None = None
    in_turn: bool = False

    def added_to(
        self, figure: Figure, sides: Sequence[Floats], of_rounds: Sequence[float]
    ) -> tuple[Figure, float]:
        """The figure with it, and its degrees of freedom; the sides have a line a round."""
        if self.noise is None:
            return over_rounds(figure, of_rounds)
        return with_noise(figure, self.noise, self._num_processes(sides, of_rounds))

    def chance_of(self, log_loss: float, sides: Sequence[Floats], of_rounds: Sequence[float]) -> float:
        """One-sided, of such a loss by what differs between processes, or between the rounds' own losses."""
        if self.noise is None:
            return mean_p_value(of_rounds) if len(of_rounds) > 1 else 0.0
        variance = self.noise.variance * self._num_processes(sides, of_rounds)
        return t_p_value(log_loss, math.sqrt(variance), self.noise.degrees)

    def _num_processes(self, sides: Sequence[Floats], of_rounds: Sequence[float]) -> float:
        """As `with_noise` counts them: pairs of processes in turn, or each side's."""
        return 1 / len(of_rounds) if self.in_turn else sum(1 / len(side) for side in sides)


def speeds_by_round(items: Items) -> list[float]:
    """Tokens/s of each round, over all items."""
    parts = _parts(tokens_and_seconds, items)
    return [float(_value(of_round)) for of_round in parts.sum(1)] if parts.size else []


def judge(ratio: Figure, better: Better, machine: float = 1.0) -> Standing:
    """`machine` is the speed of the same fixed work in B over A. As in the verdict of `precision`, a drift
    takes with it every difference in its own direction that is no larger."""
    if ratio.low is None or ratio.high is None:
        return "unknown"
    if ratio.low <= 1 <= ratio.high:
        return "same"
    speed, drift = math.log(ratio.value), math.log(machine)
    speed = speed if better == "higher" else -speed
    if speed * drift > 0 and abs(speed) <= abs(drift):
        return "drift"
    return "better" if speed > 0 else "worse"


def ratio_of_parts(
    measure: Callable[[Item], Part],
    a: Items,
    b: Items,
    better: Better,
    between: Between | None = None,
) -> Ratio | None:
    """Σ numerators / Σ denominators of B over that of A; items without any on one side are left out."""
    sides = [_parts(measure, items) for items in (a, b)]
    used = [all((side[:, place] > 0).all() for side in sides) for place in range(len(a))]
    clusters = [name for name, is_used in zip(_clusters(a), used, strict=True) if is_used]
    return _ratio([side[:, used] for side in sides], better, between, clusters)


def ratio_of_speedups(a: tuple[Items, Items], b: tuple[Items, Items]) -> Ratio | None:
    """Of the speedups over K = 0, each side given with its own K = 0. Within a side both were measured in
    turn, so this ratio alone is free of the machine's drift."""
    sides = [np.concatenate([_parts(tokens_and_seconds, items) for items in side], axis=2) for side in (a, b)]
    if not all((side > 0).all() for side in sides):
        return None
    return _ratio(sides, "higher", None, _clusters(a[0]))


def _parts(measure: Callable[[Item], Part], items: Items) -> Floats:
    """rounds × items × (numerator, denominator)"""
    found = np.asarray([[measure(item) for item in rounds] for rounds in items], float)
    return found.transpose(1, 0, 2) if found.size else np.zeros((1, 0, 2))


def _clusters(items: Items) -> list[str]:
    return clusters_of_items([rounds[0] for rounds in items])


def _ratio(
    sides: Sequence[Floats], better: Better, between: Between | None, clusters: Clusters
) -> Ratio | None:
    """Of two sides, rounds × items × parts each, B's figure over A's."""
    if not sides[0].shape[1]:
        return None
    num_rounds = min(len(side) for side in sides)
    by_round = [np.concatenate([side[index] for side in sides], axis=1).T for index in range(num_rounds)]
    together = np.concatenate([side.sum(0) for side in sides], axis=1).T
    of_rounds = [float(_b_over_a(parts.sum(1))) for parts in by_round]
    between = between or Between()
    found, degrees = between.added_to(
        figure_of_sums([*together], _b_over_a, clusters=clusters), sides, of_rounds
    )
    own = _b_over_a(together)
    return Ratio(
        a=float(_value(sides[0].sum((0, 1)))),
        b=float(_value(sides[1].sum((0, 1)))),
        ratio=found.model_copy(update={"median": float(np.median(own))}),
        better=better,
        standing=judge(found, better, between.machine),
        chance=p_value(found, degrees),
        **_typical(own, sides, [_b_over_a(parts) for parts in by_round], better, between),
    )


def _typical(
    own: Floats, sides: Sequence[Floats], by_round: Sequence[Floats], better: Better, between: Between
) -> dict[str, Any]:
    """In how many items B is worse, and whether that may be chance: of prompts, with the one that is kindest
    to B left out, for a stall of A is one; of processes or rounds; or the machine's drift."""
    worse = -1 if better == "higher" else 1
    logs = np.sort(worse * np.log(own))
    median, drift = float(np.median(logs)), -math.log(between.machine)
    chances = [
        1.0 if logs.size < FEWEST_ITEMS else min(1.0, logs.size * mean_p_value(logs[1:].tolist())),
        between.chance_of(median, sides, [worse * float(np.median(np.log(r))) for r in by_round]),
        1.0 if 0 < median <= drift else 0.0,
    ]
    return {"num_worse": int((logs > 0).sum()), "worse_chance": max(chances)}


def _b_over_a(sums: Floats) -> Floats:
    """Of sums of the parts of A, then of B, a row each."""
    half = len(sums) // 2
    return _value(sums[half:]) / _value(sums[:half])


def _value(sums: Floats) -> Floats:
    """A quotient, or one over another: a speedup is tokens and seconds, and those of K = 0."""
    found = sums[0] / sums[1]
    return np.asarray(found if len(sums) == 2 else found / (sums[2] / sums[3]))


def ratio_of_ttft(a: Items, b: Items, between: Between | None = None) -> Ratio | None:
    """The median of the ratios of prompts, each decoded alone; `a` and `b` are the sides' own medians. Over
    rounds a prompt's time is their median."""
    first = [np.asarray([[ttft_ms(run) for (run,) in rounds] for rounds in side]) for side in (a, b)]
    if not first[0].size or min(side.min() for side in first) <= 0:
        return None
    sides = [np.median(side, axis=1) for side in first]
    own, num_rounds = sides[1] / sides[0], min(side.shape[1] for side in first)
    by_round = [first[1][:, index] / first[0][:, index] for index in range(num_rounds)]
    on_log = median_figure(np.log(own))
    ends = {
        name: math.exp(end) for name in ("value", "low", "high") if (end := getattr(on_log, name)) is not None
    }
    between = between or Between()
    medians = [float(np.median(ratios)) for ratios in by_round]
    by_side = [side.T for side in first]
    found, degrees = between.added_to(Figure(**ends, n=on_log.n), by_side, medians)
    return Ratio(
        a=float(np.median(sides[0])),
        b=float(np.median(sides[1])),
        ratio=found.model_copy(update={"median": found.value}),
        better="lower",
        standing=judge(found, "lower", between.machine),
        chance=p_value(found, degrees),
        **_typical(own, by_side, by_round, "lower", between),
    )


def ratio_of_values(a: float, b: float, better: Better) -> Ratio | None:
    """Of what has no interval, such as peak memory: never significant."""
    if min(a, b) <= 0:
        return None
    return Ratio(a=a, b=b, ratio=Figure(value=b / a), better=better, standing="unknown")
