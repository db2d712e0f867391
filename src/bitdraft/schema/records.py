"""What was measured: requests, steps, scores, divergences. Nothing here is computed from anything else."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

Status = Literal["ok", "overflow", "oom", "unsupported", "failed"]


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Figure(Record):
    """A number with its 95 % interval (absent below five items), item count and item median."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int = 1
    median: float | None = None


class Step(NamedTuple):
    """One target verification of a speculative run. `truncated`: the request's end cut it short."""

    num_drafted: int
    num_accepted: int
    truncated: bool = False


class Generation(Record):
    """One request. Times are seconds of one monotonic clock; `emissions` are (time_s, num_tokens),
    one entry each time token ids reach the host. `phase_s` divides the time after the prefill of a
    speculative run into draft, verify and host."""

    prompt_tokens: int
    submit_s: float
    emissions: tuple[tuple[float, int], ...]
    steps: tuple[Step, ...] = ()
    phase_s: dict[str, float] = Field(default_factory=dict)
    token_ids: tuple[int, ...]
    finish_reason: Literal["length", "eos"]


class ScoreBlocks(Record):
    """Sums over blocks of consecutive scored tokens (a document each where the normaliser is
    documents). The last three are paired with the reference precision, absent for itself."""

    num_tokens: tuple[int, ...]
    log_prob: tuple[float, ...]
    reference_log_prob: tuple[float, ...] | None = None
    num_same_top1: tuple[int, ...] | None = None
    delta_p_squared: tuple[float, ...] | None = None


class Overflow(Record):
    """Where the first non-finite number appeared: the module in execution order, the token position."""

    layer: str
    window: int
    position: int


class Divergence(Record):
    """Where a greedy run left the text of K = 0. `logit_gap` is the target's between its two most
    probable tokens there. `control`: does the same pair of runs agree at `control_precision`? If so
    the difference is a `rounding tie`, else a `bug`; without a control it is `unchecked`."""

    prompt: int
    position: int
    expected: int
    found: int
    logit_gap: float | None = None
    control_precision: str | None = None
    control_agrees: bool | None = None

    @property
    def kind(self) -> str:
        if self.control_agrees is None:
            return "unchecked"
        return "rounding tie" if self.control_agrees else "bug"
