"""What was measured: requests, steps, scores, divergences. Nothing here is computed from anything else."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    computed_field,
    model_serializer,
    model_validator,
)

Status = Literal["ok", "overflow", "oom", "unsupported", "failed"]


class Record(BaseModel):
    """Immutable, and strict about its fields' names."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Sparse(Record):
    """A record most of whose fields may be missing: those that are None are left out of JSON."""

    @model_serializer(mode="wrap")
    def _without_nones(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}


def refuse_twice(keys: Iterable[Any]) -> None:
    """Raise a `ValueError` where rows are not told apart by these."""
    for key, num in Counter(keys).items():
        if num > 1:
            raise ValueError(f"{num} rows of {key}")


class Figure(Record):
    """A number with its 95 % interval, the number of items, and their median."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int = Field(1, ge=0)
    median: float | None = None

    @model_validator(mode="after")
    def _interval_has_two_ends(self) -> Figure:
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval with one end")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError("an interval whose low end is above its high one")
        return self

    @property
    def no_interval(self) -> str | None:
        """Why there is none, where there is none."""
        if self.low is not None:
            return None
        if self.n < 2:
            return "a single value"
        return "fewer than 5 items" if self.n < 5 else "pooled over all items, or too wide"


def row_text(head: str, metrics: Mapping[str, Figure]) -> str:
    """A row's first figures: `PrecisionRow(fp32, ok, throughput_tok_s 93.3 [90.1, 95.2], …)`"""
    shown = []
    for name, figure in list(metrics.items())[:4]:
        ends = "" if figure.low is None else f" [{figure.low:.4g}, {figure.high:.4g}]"
        shown.append(f"{name} {figure.value:.4g}{ends}")
    return f"{', '.join([head, *shown])}{', …' if len(metrics) > 4 else ''})"


def _not_negative(figures: dict[str, Figure]) -> dict[str, Figure]:
    for name, figure in figures.items():
        if figure.value < 0:
            raise ValueError(f"{name} is negative")
    return figures


Metrics = Annotated[dict[str, Figure], AfterValidator(_not_negative)]
"""Speeds, times, rates and memory by name (docs/metrics.md)"""
Seconds = Annotated[float, Field(ge=0)]
WorkSeconds = Annotated[float, Field(gt=0)]
"""Of work that is not nothing"""


class Step(NamedTuple):
    """One target verification of a speculative run. `truncated`: the request's end cut it short."""

    num_drafted: int
    num_accepted: int
    truncated: bool = False


class Generation(Record):
    """One request. Times are seconds of one monotonic clock; `emissions` are (time_s, num_tokens),
    one entry each time token ids reach the host. `phase_s` divides the time after the prefill of a
    speculative run into draft, verify and host. `cluster` names what the prompt shares with others."""

    prompt_tokens: int = Field(ge=0)
    submit_s: float
    emissions: tuple[tuple[float, int], ...]
    steps: tuple[Step, ...] = ()
    phase_s: dict[str, Seconds] = Field(default_factory=dict)
    token_ids: tuple[int, ...]
    finish_reason: Literal["length", "eos"]
    cluster: str = ""

    @model_validator(mode="after")
    def _times_go_forward(self) -> Generation:
        times = [self.submit_s, *(time_s for time_s, _ in self.emissions)]
        if not all(map(math.isfinite, times)):
            raise ValueError("times that are no numbers")
        if any(after < before for before, after in pairwise(times)):
            raise ValueError("times that go backwards")
        if times[-1] == times[0]:
            raise ValueError("a request that took no time, or gave no token")
        return self

    @model_validator(mode="after")
    def _counts_add_up(self) -> Generation:
        if any(count < 1 for _, count in self.emissions):
            raise ValueError("an emission of no token")
        if sum(count for _, count in self.emissions) != len(self.token_ids):
            raise ValueError("emissions that are not the token ids")
        if any(not 0 <= step.num_accepted <= step.num_drafted for step in self.steps):
            raise ValueError("a step that kept more than it drafted, or less than nothing")
        return self


class ScoreBlocks(Record):
    """Sums over blocks of consecutive scored tokens (a document each where the normaliser is
    documents). The last three are paired with the reference precision, absent for itself."""

    num_tokens: tuple[int, ...]
    log_prob: tuple[float, ...]
    reference_log_prob: tuple[float, ...] | None = None
    num_same_top1: tuple[int, ...] | None = None
    delta_p_squared: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _are_of_the_same_blocks(self) -> ScoreBlocks:
        sums = (self.log_prob, self.reference_log_prob, self.num_same_top1, self.delta_p_squared)
        if any(one is not None and len(one) != len(self.num_tokens) for one in sums):
            raise ValueError("sums of other blocks than those that were counted")
        if any(count < 1 for count in self.num_tokens):
            raise ValueError("a block of no token")
        if any(same > num for same, num in zip(self.num_same_top1 or (), self.num_tokens, strict=False)):
            raise ValueError("more tokens that agree than there are")
        if any(value > 0 for one in (self.log_prob, self.reference_log_prob or ()) for value in one):
            raise ValueError("log-probabilities above 0")
        return self


class EnergyBlock(Record):
    """Work that an energy counter was read around; `is_valid` where it was long against the counter's
    steps."""

    joules: float
    seconds: float
    num_tokens: int
    is_valid: bool


class Overflow(Record):
    """Where the first non-finite number appeared: the module in execution order, the token position."""

    layer: str
    window: int
    position: int


class Divergence(Record):
    """Where a greedy run left the text of K = 0. `logit_gap` is how far the less probable of the two tokens
    is behind the target's most probable one there, and `tie_lead` how far rounding can make it in this
    format. The control: does the same pair of runs, in the same execution, agree at `control_precision`?
    If not the difference is a `bug`. If so, and within the lead, it is a `rounding tie`; beyond it
    `unexplained`; without a control `unchecked`. (Files from before the lead was recorded have ties by the
    control alone.) An engine that people deploy has no control: there it is told whether K = 0's own text
    comes again (`own_repeats`). If not the difference is `engine noise`; if so, and within the lead, it is a
    `rounding tie`, else `unexplained`."""

    prompt: int
    position: int
    expected: int = -1
    found: int = -1
    logit_gap: float | None = None
    tie_lead: float | None = None
    control_precision: str | None = None
    control_agrees: bool | None = None
    own_repeats: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _kind_follows(cls, value: Any) -> Any:
        return {k: v for k, v in value.items() if k != "kind"} if isinstance(value, dict) else value

    @computed_field  # type: ignore[prop-decorator]
    @property
    def kind(self) -> Literal["unchecked", "engine noise", "rounding tie", "unexplained", "bug"]:
        """What the control, or the engine itself, and the gap say of it."""
        if self.own_repeats is False:
            return "engine noise"
        if self.control_agrees is None and self.own_repeats is None:
            return "unchecked"
        if self.control_agrees is False:
            return "bug"
        if self.tie_lead is None:
            return "rounding tie"
        is_near = self.logit_gap is not None and self.logit_gap < self.tie_lead
        return "rounding tie" if is_near else "unexplained"
