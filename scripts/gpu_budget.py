"""Time and memory of a check: what is left of them, and which points are dropped first. Pure, but for the
clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bitdraft.probes.clock import now

GIB = 2**30


class Point(NamedTuple):
    """One point of the sweep: a draft, the acceptance it is made to have, K."""

    draft: str
    alpha: float
    k: int


@dataclass
class Budget:
    """Seconds from its making. `reserve_s` is what later parts are to find."""

    seconds: float
    start_s: float = field(default_factory=now)

    def left_s(self, reserve_s: float = 0.0) -> float:
        return self.seconds - reserve_s - (now() - self.start_s)


def by_importance(drafts: Sequence[str], alphas: Sequence[float], ks: Sequence[int]) -> list[Point]:
    """The first draft before the second; within, what is nearest to a usual pair: acceptances around 0.8 and
    K around 4 come first, the ends of both ranges last."""
    points = [Point(draft, alpha, k) for draft in drafts for alpha in alphas for k in ks]

    def cost(point: Point) -> tuple[float, int, float, int]:
        far = abs(point.alpha - 0.8) / 0.1 + abs(point.k - 4) / 2
        return (
            round(far + 1.5 * drafts.index(point.draft), 3),
            point.k,
            point.alpha,
            drafts.index(point.draft),
        )

    return sorted(points, key=cost)


def affordable(
    points: Sequence[Point], seconds: Mapping[Point, float], left_s: float
) -> tuple[list[Point], list[Point]]:
    """(kept, dropped): the longest beginning whose seconds fit. A point without a time was never reached."""
    kept: list[Point] = []
    for point in points:
        if point not in seconds or left_s < seconds[point]:
            break
        left_s -= seconds[point]
        kept.append(point)
    return kept, list(points[len(kept) :])


def dropped_text(dropped: Sequence[Point]) -> str:
    """`pythia-70m: K = 9, 10 at α = 0.5; …`"""
    groups: dict[tuple[str, float], list[int]] = {}
    for draft, alpha, k in dropped:
        groups.setdefault((draft, alpha), []).append(k)
    return "; ".join(
        f"{draft}: K = {', '.join(map(str, sorted(ks)))} at α = {alpha:g}"
        for (draft, alpha), ks in sorted(groups.items())
    )


def model_bytes(shape: Mapping[str, int], bytes_each: int) -> int:
    """About what weights take, from a config's sizes: 12 h² a layer with a feed-forward of 4 h, and two
    embeddings."""
    hidden, layers = shape["hidden_size"], shape["num_hidden_layers"]
    block = 4 * hidden**2 + 2 * hidden * shape.get("intermediate_size", 4 * hidden)
    return bytes_each * (layers * block + 2 * shape["vocab_size"] * hidden)
