"""The device's side of one decoding: its state, and the order in which the parts of a step are called."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from bitdraft.engine.speculative import NonFiniteDecoding
from bitdraft.engine.static.books import Books, Log
from bitdraft.engine.static.forward import StaticForward
from bitdraft.engine.static.step import (
    Sampling,
    State,
    Step,
    draft_by_model,
    draft_token,
    look_up,
    recorded_look_up,
    verify,
    verify_greedy,
    verify_greedy_to_stops,
)
from bitdraft.engine.verify import Sampler, Uniforms, draw
from bitdraft.timing import PhaseClock, now

Draft = StaticForward | Literal["lookup"]
LOOKUP: Literal["lookup"] = "lookup"


@dataclass(frozen=True)
class Drawing:
    """How tokens are chosen: greedy without a sampler; a seed a row."""

    sampler: Sampler | None = None
    seeds: Sequence[int] = (0,)


GREEDY = Drawing()


@dataclass
class Proposal:
    """Where a step begins, its drafted tokens, B × K, the rows that have any, and their laws, B × K × V,
    where they are sampled."""

    step: Step
    drafted_BK: torch.Tensor
    found_B: torch.Tensor
    laws_BKV: torch.Tensor | None = None


class Run:
    """The device's side of one decoding of these texts."""

    def __init__(  # noqa: PLR0917
        self,
        target: StaticForward,
        texts: Sequence[Sequence[int]],
        draft: Draft | None,
        k: int,
        max_new_tokens: int,
        drawing: Drawing = GREEDY,
        stop_ids: Sequence[int] = (),
        forced: Sequence[Sequence[int]] = (),
    ) -> None:
        self.target, self.draft, self.k = target, draft, k
        device = self.target.device
        self.state = State.of(texts, max_new_tokens, k + 1, device)
        self._stop_ids = torch.tensor(list(stop_ids), dtype=torch.long, device=device)
        self._offsets_X = torch.arange(-2, k, device=device)
        self._all_B = torch.ones(len(texts), dtype=torch.bool, device=device)
        self.sampler = drawing.sampler
        self.clock = PhaseClock(device)
        uniforms = [Uniforms(seed, max_new_tokens, k) for seed in drawing.seeds] if self.sampler else []
        self._first_uniforms_B = _stacked([row.first for row in uniforms], device)
        self._uniforms_BSU = _stacked([row.by_step for row in uniforms], device)
        self._num_steps = 0
        self._forced_BN = _forced_text(self.state, texts, forced) if any(forced) else None
        # a GPU works on the next step while the host reads the log of the last one
        self._lag = 1 if device.type == "cuda" else 0

    def first_tokens(self, logits_BV: torch.Tensor) -> list[int]:
        """From the prefill's logits to the host."""
        state = self.state
        top_B, token_B = logits_BV.max(-1)
        state.watch_target_B += top_B.float()
        if self.sampler is not None:
            token_B = draw(self.sampler.probabilities(logits_BV), self._first_uniforms_B[:, 0])
        state.text_BN.scatter_(1, state.lengths_B[:, None], token_B[:, None])
        state.lengths_B += 1
        state.active_B &= (state.lengths_B < state.limits_B) & ~torch.isin(token_B, self._stop_ids)
        ids: list[int] = token_B.tolist()
        return ids

    def to_end(self, books: Books) -> None:
        logs: deque[Log] = deque()
        while books.longest_active() or logs:
            if books.longest_active():
                logs.append(Log(self.step(books.longest_active())))
            if len(logs) > self._lag or not books.longest_active():
                found = logs.popleft().read()
                if self._lag == 0:
                    self.clock.mark("verify")
                books.enter(found, now())
            self.clock.mark("host")

    def step(self, longest: int) -> torch.Tensor:
        """`longest`: tokens of the longest row that was active when the host last looked."""
        span = longest + (self._lag + 1) * (self.k + 1)
        proposal = self.propose(span)
        self.clock.mark("draft")
        log = self.check(proposal, span)
        if self._lag:
            self.clock.mark("verify")
        self._num_steps += 1
        return log

    def propose(self, span: int) -> Proposal:
        """By the draft, which reads at least `span` tokens."""
        state, step = self.state, Step.of(self.state, self._offsets_X)
        if self.draft is None:
            return Proposal(step, step.tokens_B2[:, :0], self._all_B)
        if isinstance(self.draft, StaticForward):
            next_token = functools.partial(_next_token, self.draft, self.draft.span(span))
            uniforms_BU = self._uniforms() if self.sampler else None
            drafted_BK, laws_BKV = draft_by_model(
                state, step, next_token, self.k, self.sampler, uniforms_BU, self._forced_BN
            )
            return Proposal(step, drafted_BK, self._all_B, laws_BKV)
        on_cpu = state.text_BN.device.type == "cpu"
        lookup = recorded_look_up() if on_cpu else look_up
        drafted_BK, found_B = lookup(state.text_BN, state.lengths_B, self._offsets_X[2:])
        # without captured graphs a step may be smaller where nothing is found
        if on_cpu and not found_B.any():
            drafted_BK = drafted_BK[:, :0]
        return Proposal(step, drafted_BK, found_B)

    def check(self, proposal: Proposal, span: int) -> torch.Tensor:
        """Verify and advance; the step's log."""
        step, drafted_BK, span = proposal.step, proposal.drafted_BK, self.target.span(span)
        tokens_BT = torch.cat([step.tokens_B2[:, 1:], drafted_BK], 1)
        shape = (tokens_BT.shape[0], tokens_BT.shape[1])
        positions_BT = step.positions_BX[:, 1 : shape[1] + 1].contiguous()
        inputs = [*self.state.of_target(), tokens_BT, positions_BT, proposal.found_B]
        log: torch.Tensor
        if self.sampler is not None:
            sampling = Sampling(self.sampler, drafted_BK, proposal.laws_BKV, self._uniforms()[:, -2:])
            forward = functools.partial(self.target.logits, span)
            log = verify(forward, *inputs, stop_ids=self._stop_ids, sampling=sampling)
        elif len(self._stop_ids):
            log = self.target.call(verify_greedy_to_stops, shape, span, self._stop_ids, *inputs)
        else:
            log = self.target.call(verify_greedy, shape, span, *inputs)
        return log

    def _uniforms(self) -> torch.Tensor:
        return self._uniforms_BSU[:, min(self._num_steps, self._uniforms_BSU.shape[1] - 1)]

    def check_finite(self) -> None:
        state = self.state
        for who, watch_B in (("target", state.watch_target_B), ("draft", state.watch_draft_B)):
            if not watch_B.isfinite().all():
                raise NonFiniteDecoding(who)


def _stacked(rows: list[torch.Tensor], device: torch.device) -> torch.Tensor:
    numbers = torch.stack(rows) if rows else torch.zeros(1, 1, dtype=torch.float64)
    return numbers.float().to(device) if device.type == "mps" else numbers.to(device)


def _next_token(draft: StaticForward, span: int, *tensors: torch.Tensor) -> Any:
    """`draft_token` by this model."""
    rows, tokens = tensors[0].shape
    return draft.call(draft_token, (rows, tokens), span, *tensors)


def _forced_text(
    state: State, prompts: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]
) -> torch.Tensor:
    """What a draft is made to say at each place of the text, B × N."""
    text_BN = state.text_BN.clone()
    for row, (prompt, output) in enumerate(zip(prompts, outputs, strict=True)):
        text_BN[row, len(prompt) : len(prompt) + len(output)] = torch.tensor(output, device=text_BN.device)
    return text_BN
