"""The host's side of one decoding: what reached it, when, and which rows go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from bitdraft.schema.records import Generation, Step


class StepOutput:
    """A step's log on its way to the host."""

    def __init__(self, log_BX: torch.Tensor) -> None:
        self._event: Any = None
        if log_BX.device.type == "cuda":
            self._log_BX = torch.empty(log_BX.shape, dtype=log_BX.dtype, pin_memory=True)
            self._log_BX.copy_(log_BX, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()
        else:
            # the next step may write where this one did
            self._log_BX = log_BX.clone()

    def read(self) -> list[list[int]]:
        if self._event is not None:
            self._event.synchronize()
        rows: list[list[int]] = self._log_BX.tolist()
        return rows


@dataclass
class RequestState:
    """One prompt's record, filled as its tokens reach the host."""

    prompt_tokens: int
    limit: int
    stops: frozenset[int]
    k: int
    emissions: list[tuple[float, int]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)

    @property
    def length(self) -> int:
        return self.prompt_tokens + len(self.token_ids)

    @property
    def ended(self) -> bool:
        return len(self.token_ids) >= self.limit or self.token_ids[-1] in self.stops

    def enter(self, log: list[int], time_s: float) -> None:
        count, num_kept, found, *token_ids = log
        if count == 0:
            return
        if self.k:
            fits = min(self.k, self.limit - len(self.token_ids) - 1)
            cut = fits < self.k or num_kept == count  # the latter: ended by a drafted token
            num_drafted = fits if found else 0
            self.steps.append(Step(num_drafted, num_kept, cut))
        self.token_ids += token_ids[:count]
        self.emissions.append((time_s, count))

    def generation(self, submit_s: float, phase_s: dict[str, float]) -> Generation:
        return Generation(
            prompt_tokens=self.prompt_tokens,
            submit_s=submit_s,
            emissions=tuple(self.emissions),
            steps=tuple(self.steps),
            phase_s=phase_s,
            token_ids=tuple(self.token_ids),
            finish_reason="eos" if self.token_ids[-1] in self.stops else "length",
        )


class RequestTracker:
    def __init__(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, stops: frozenset[int], k: int
    ) -> None:
        self.rows = [RequestState(len(prompt), max_new_tokens, stops, k) for prompt in prompts]

    def enter_first(self, token_ids: list[int], time_s: float) -> None:
        for row, token_id in zip(self.rows, token_ids, strict=True):
            row.token_ids.append(token_id)
            row.emissions.append((time_s, 1))

    def enter(self, log: list[list[int]], time_s: float) -> None:
        for row, entry in zip(self.rows, log, strict=True):
            row.enter(entry, time_s)

    def longest_active(self) -> int:
        """Tokens of the longest row that goes on; 0 when all are done."""
        return max((row.length for row in self.rows if not row.ended), default=0)
