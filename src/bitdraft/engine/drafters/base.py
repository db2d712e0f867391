"""What a drafter is asked, and what it gives: one interface on both paths.

A drafter reads the prompts once (`start`); then, at each step, it is asked for tokens behind all that are
certain, and told afterwards how many of them hold (`rewind`, in O(1)). What it is asked with is what its path
knows of a step: `EagerStep` has one text as ids on the host, `StaticStep` the state of all rows on the
device. A drafter that needs more of the target than its tokens, hidden states for example, finds it there as
a field of its own.

Shapes: B rows, K drafted tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch

from bitdraft.engine.acceptance import Sampler
from bitdraft.engine.static.step import State, Step
from bitdraft.probes.clock import now, synchronize

Asked_contra = TypeVar("Asked_contra", contravariant=True)


@dataclass(frozen=True)
class EagerStep:
    """`context` are all tokens that are certain, K is `num_tokens`. `uniforms_K` are the numbers that draws
    take, where there is a sampler. `oracle_ids`, by their index in the whole text, are what a draft model is
    made to say (synthetic acceptance)."""

    context: Sequence[int]
    num_tokens: int
    sampler: Sampler | None
    uniforms_K: torch.Tensor
    oracle_ids: Sequence[int] = ()


@dataclass(frozen=True)
class StaticStep:
    """A step of fixed shape. The target reads `span` slots. With `has_oracle` a draft model is made to say
    what the state holds. Only where the drafter `may_ask` does it look at values: never inside graphs."""

    state: State
    step: Step
    k: int
    span: int
    sampler: Sampler | None
    has_oracle: bool
    may_ask: bool


@dataclass(frozen=True)
class Draft:
    """Drafted tokens on the target's device, none (K = 0) where a drafter finds nothing; their distributions
    where they were drawn; in `found_B` the rows that have any, None for all. `top_logits` is the largest
    logit of each forward on the eager path: not finite where the model's logits weren't."""

    tokens_BK: torch.Tensor
    probs_BKV: torch.Tensor | None = None
    found_B: torch.Tensor | None = None
    top_logits: tuple[torch.Tensor, ...] = ()


class Drafter(Protocol[Asked_contra]):
    """Proposes tokens. The eager path has one row."""

    def start(self, prompts: Sequence[Sequence[int]], capacity: int) -> None:
        """Read the prompts; texts will have up to `capacity` tokens."""

    def draft(self, asked: Asked_contra) -> Draft:
        """The next K tokens of every row."""
        ...

    def rewind(self, num_tokens: int) -> None:
        """Forget what lies behind the first `num_tokens`. On the static path positions say that already."""


class EagerDrafter(Drafter[EagerStep], Protocol):
    """A drafter of the eager path."""

    def catch_up(self, context: Sequence[int]) -> None:
        """Take in a text as the steps before would have, where drafting is timed alone."""


class StaticDrafter(Drafter[StaticStep], Protocol):
    """A drafter of the static path."""

    def graph_key(self) -> Hashable:
        """What captured graphs of its drafts depend on."""

    @property
    def preparation_s(self) -> float:
        """Seconds that recording or compiling took so far."""
        ...


class Prefills:
    """Prompts that each drafter reads once, when it is first used."""

    def __init__(self, prompts: Sequence[Sequence[int]], capacity: int, device: torch.device) -> None:
        self._prompts, self._capacity, self._device = prompts, capacity, device
        self._seconds: dict[int, float] = {}

    def ready(self, drafter: EagerDrafter | StaticDrafter) -> float:
        """Bring a drafter to the prompts' ends; the seconds that its prefill took when it was made. The last
        token of a prompt comes with the first draft."""
        if id(drafter) not in self._seconds:
            start_s = now()
            drafter.start(self._prompts, self._capacity)
            synchronize(self._device)
            self._seconds[id(drafter)] = now() - start_s
        drafter.rewind(min(map(len, self._prompts)) - 1)
        return self._seconds[id(drafter)]
