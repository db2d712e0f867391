"""The best K for each batch size and context, from replay and costs measured there. Pure.

A server that is never idle takes a step of all its rows at once: speculation gives τ tokens a row and step in
place of one, and a step takes T(B, L, K) = K draft forwards and a verification in place of T(B, L, 0). So

    speedup(B, L, K) = τ(K) · T(B, L, 0) / T(B, L, K)

with τ of the replay, over prompts, and the times of B rows behind L tokens, over rounds. Both have their
noise in the interval. How far τ depends on L is not known from this: it is that of the prompts that were
replayed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from bitdraft.metrics.acceptance import STEP_SCALE
from bitdraft.schema.findings import Finding, answer, reason, warning
from bitdraft.schema.records import Figure
from bitdraft.schema.spec_decode import Schedule, ScheduleChoice, SchedulePoint
from bitdraft.spec_decode.candidates import name_of
from bitdraft.spec_decode.records import GridPoint, Records
from bitdraft.spec_decode.replay import expected
from bitdraft.stats.intervals import Noise, ratio_of_sums, with_noise
from bitdraft.stats.selection import of_the_best, pays


def schedule_of(records: Records) -> Schedule:
    """Empty where no point of the grid was measured, or nothing was replayed."""
    taus = tokens_per_step(records)
    if not taus or not records.grid:
        return Schedule()
    points = [point for own in records.grid for point in points_of(own, taus)]
    num_looked_at = len(points)
    choices = [
        _choice(
            [p for p in points if (p.batch_size, p.context) == (own.batch_size, own.context)], num_looked_at
        )
        for own in records.grid
    ]
    return Schedule(
        points=tuple(points),
        choices=tuple(choices),
        grid_s=sum(own.seconds for own in records.grid),
        sweep_s=_sweep_seconds(points, taus, records),
        left_out=tuple(records.grid_failed),
    )


def tokens_per_step(records: Records) -> dict[tuple[str, int], Figure]:
    """τ by draft and K, over prompts: of the replay, in which truncated steps are few."""
    found = {}
    for label in records.labels:
        chains = records.chains(label)
        for k in records.config.k if chains else ():
            each = [expected([chain], k) for chain in chains]
            if sum(one.num_steps for one in each):
                found[label, k] = ratio_of_sums(
                    [one.num_tokens for one in each], [one.num_steps for one in each], scale=STEP_SCALE
                )
    return found


def points_of(own: GridPoint, taus: Mapping[tuple[str, int], Figure]) -> list[SchedulePoint]:
    """Every (draft, K) at a batch size and context."""
    found = []
    target = {size: np.array(seconds) for size, seconds in own.costs.target_s.items()}
    for (draft, k), tau in taus.items():
        if draft not in own.costs.draft_s:
            continue
        step = k * np.array(own.costs.draft_s[draft]) + target[k + 1]
        ratios = target[1] / step
        ratio = math.exp(float(np.log(ratios).mean()))
        speedup = with_noise(_times(tau, ratio), Noise.of([list(ratios)]), 1 / len(ratios))[0]
        found.append(
            SchedulePoint(
                batch_size=own.batch_size,
                context=own.context,
                draft=draft,
                k=k,
                plain_ms=1000 * float(np.median(target[1])),
                step_ms=1000 * float(np.median(step)),
                speedup=speedup,
            )
        )
    return found


def _times(figure: Figure, factor: float) -> Figure:
    low, high = (None if end is None else end * factor for end in (figure.low, figure.high))
    update = {"value": figure.value * factor, "low": low, "high": high, "median": None}
    return figure.model_copy(update=update)


def _choice(points: Sequence[SchedulePoint], num_looked_at: int) -> ScheduleChoice:
    judged = {point.draft + str(point.k): of_the_best(point.speedup, num_looked_at) for point in points}
    best = max(points, key=lambda point: point.speedup.value)
    speedup = judged[best.draft + str(best.k)]
    verdict = pays(speedup)
    if verdict is False and any(pays(figure) is not False for figure in judged.values()):
        verdict = None
    return ScheduleChoice(
        batch_size=best.batch_size,
        context=best.context,
        draft=best.draft,
        k=best.k if verdict else 0,
        best_k=best.k,
        speedup=speedup,
        pays=verdict,
    )


def _sweep_seconds(
    points: Sequence[SchedulePoint], taus: Mapping[tuple[str, int], Figure], records: Records
) -> float:
    """Of decoding all prompts at every point, and without a draft, as often as there are groups of them."""
    num_prompts, num_tokens = len(records.prompts), records.config.max_new_tokens
    total, plain = 0.0, {}
    for point in points:
        groups = math.ceil(num_prompts / point.batch_size)
        total += groups * num_tokens / taus[point.draft, point.k].value * point.step_ms / 1000
        plain[point.batch_size, point.context] = groups * num_tokens * point.plain_ms / 1000
    return total + sum(plain.values())


def findings_of(schedule: Schedule) -> tuple[Finding, ...]:
    """What the schedule says: where to speculate with which K, and from where on no longer."""
    if not schedule:
        return (answer("schedule.none"),)
    paying = [one for one in schedule.choices if one.pays]
    found: list[Finding] = []
    if paying:
        best = max(paying, key=lambda one: one.speedup.value)
        found.append(
            answer(
                "schedule.pays",
                name_of(best.draft, best.k),
                n=len(paying),
                of=len(schedule.choices),
                size=best.batch_size,
                context=best.context,
                speedup=best.speedup,
            )
        )
    else:
        is_open = any(one.pays is None for one in schedule.choices)
        found.append(answer("schedule.open" if is_open else "schedule.refuse", n=len(schedule.choices)))
    for context in schedule.contexts:
        own = sorted(
            (one for one in schedule.choices if one.context == context), key=lambda one: one.batch_size
        )
        found.append(
            reason(
                "schedule.context",
                context=context,
                sizes=tuple(one.batch_size for one in own),
                ks=tuple(one.k for one in own),
                open=tuple(one.batch_size for one in own if one.pays is None),
            )
        )
    found.append(reason("schedule.time", grid_s=schedule.grid_s, sweep_s=schedule.sweep_s))
    found += [
        warning("schedule.left_out", size=size, context=context, why=why)
        for size, context, why in schedule.left_out
    ]
    return tuple(found)
