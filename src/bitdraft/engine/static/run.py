"""The device's side of one decoding: its state, and the order in which the parts of a step are called."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from bitdraft.engine.acceptance import Sampler, UniformStream, draw
from bitdraft.engine.drafters.base import Draft, StaticDrafter, StaticStep
from bitdraft.engine.loop import NonFiniteDecoding
from bitdraft.engine.static.forward import StaticForward
from bitdraft.engine.static.graphs import StepGraphs
from bitdraft.engine.static.step import Sampling, State, Step, verify, verify_greedy, verify_greedy_to_stops
from bitdraft.engine.static.tracker import RequestTracker, StepOutput
from bitdraft.probes.clock import PhaseClock, now, synchronize


@dataclass(frozen=True)
class SamplingState:
    """How tokens are chosen: greedy without a sampler; a seed a row."""

    sampler: Sampler | None = None
    seeds: Sequence[int] = (0,)


GREEDY = SamplingState()


@dataclass
class Proposal:
    """Where a step begins, and what was drafted for it."""

    step: Step
    draft: Draft


class Run:
    """The device's side of one decoding of these texts."""

    def __init__(  # noqa: PLR0917
        self,
        target: StaticForward,
        texts: Sequence[Sequence[int]],
        drafter: StaticDrafter | None,
        k: int,
        max_new_tokens: int,
        sampling: SamplingState = GREEDY,
        stop_ids: Sequence[int] = (),
        oracle_ids: Sequence[Sequence[int]] = (),
    ) -> None:
        self.target, self.drafter, self.k = target, drafter, k
        self.sampler, self._has_oracle = sampling.sampler, any(oracle_ids)
        self._end = max(map(len, texts)) + max_new_tokens
        self._stop_ids = tuple(stop_ids)
        self.state = target.state(self._end, k, self._stop_ids)
        self.state.begin(texts, max_new_tokens, oracle_ids)
        self.clock = PhaseClock(target.device)
        uniforms = [UniformStream(seed, max_new_tokens, k) for seed in sampling.seeds] if self.sampler else []
        self._first_uniforms_B = _stacked([row.first for row in uniforms], self.state)
        self._uniforms_BSU = _stacked([row.by_step for row in uniforms], self.state)
        self._num_steps = 0
        # with graphs the device works on the next step while the host reads the log of the last one
        self._lag = 0 if target.graphs is None else 1

    def capture(self) -> None:
        """Take the graphs of all spans that this run will meet, where there are graphs."""
        lengths_B = self.state.lengths_B.clone()
        self.state.lengths_B.clamp_(min=2)  # as after the first token
        for longest in range(int(lengths_B.max()), self._end + 1, self.target.grain):
            self._graphs_of(self._span(longest))
        self._graphs_of(self._span(self._end))
        self.state.lengths_B.copy_(lengths_B)

    def first_tokens(self, logits_BV: torch.Tensor) -> list[int]:
        """From the prefill's logits to the host."""
        state = self.state
        top_B, token_B = logits_BV.max(-1)
        state.watch_target_B += top_B.float()
        if self.sampler is not None:
            token_B = draw(self.sampler.probabilities(logits_BV), self._first_uniforms_B[:, 0])
        state.text_BN.scatter_(1, state.lengths_B[:, None], token_B[:, None])
        state.lengths_B += 1
        state.active_B &= (state.lengths_B < state.limits_B) & ~torch.isin(token_B, state.stop_ids)
        ids: list[int] = token_B.tolist()
        return ids

    def to_end(self, tracker: RequestTracker) -> None:
        logs: deque[StepOutput] = deque()
        while (longest := tracker.longest_active()) or logs:
            if longest:
                logs.append(StepOutput(self.step(longest)))
            if len(logs) > self._lag or not longest:
                found = logs.popleft().read()
                if self._lag == 0:
                    self.clock.mark("verify")
                tracker.enter(found, now())
            self.clock.mark("host")

    def step(self, longest: int) -> torch.Tensor:
        """`longest`: tokens of the longest row that was active when the host last looked. The log is
        overwritten by the next step where there are graphs."""
        span = self._span(longest)
        step_graphs = self._graphs_of(span)
        if self.sampler is not None:
            last = self._uniforms_BSU.shape[1] - 1
            self.state.uniforms_BU.copy_(self._uniforms_BSU[:, min(self._num_steps, last)])
        if step_graphs is None:
            proposal = self.draft_tokens(span)
            self.clock.mark("draft")
            log = self.verify_tokens(proposal, span)
        else:
            step_graphs.draft()
            self.clock.mark("draft")
            step_graphs.verify()
            log = step_graphs.log
        if self._lag:
            self.clock.mark("verify")
        self._num_steps += 1
        return log

    def _span(self, longest: int) -> int:
        return self.target.span(longest + (self._lag + 1) * (self.k + 1))

    def _graphs_of(self, span: int) -> StepGraphs | None:
        graphs = self.target.graphs
        if graphs is None:
            return None
        drafter = None if self.drafter is None else self.drafter.graph_key()
        key = (drafter, self.k, span, self.sampler is None, self._stop_ids, self._has_oracle)
        verified = functools.partial(self.verify_tokens, span=span)
        return graphs.take(key, functools.partial(self.draft_tokens, span), verified, self.state.changing())

    def draft_tokens(self, span: int) -> Proposal:
        """By the drafter; none without one."""
        step = Step.of(self.state)
        if self.drafter is None:
            return Proposal(step, Draft(step.tokens_B2[:, :0]))
        may_ask = self.target.device.type == "cpu" and self.target.graphs is None
        asked = StaticStep(self.state, step, self.k, span, self.sampler, self._has_oracle, may_ask)
        return Proposal(step, self.drafter.draft(asked))

    def verify_tokens(self, proposal: Proposal, span: int) -> torch.Tensor:
        """Verify and advance; the step's log."""
        step, state, drafted_BK = proposal.step, self.state, proposal.draft.tokens_BK
        found_B = state.all_B if proposal.draft.found_B is None else proposal.draft.found_B
        tokens_BT = torch.cat([step.tokens_B2[:, 1:], drafted_BK], 1)
        shape = (tokens_BT.shape[0], tokens_BT.shape[1])
        positions_BT = step.positions_BX[:, 1 : shape[1] + 1].contiguous()
        inputs = [*state.of_target(), tokens_BT, positions_BT, found_B]
        log: torch.Tensor
        if self.sampler is not None:
            sampling = Sampling(self.sampler, drafted_BK, proposal.draft.probs_BKV, state.uniforms_BU[:, -2:])
            forward = functools.partial(self.target.logits, span)
            log = verify(forward, *inputs, stop_ids=state.stop_ids, sampling=sampling)
        elif self._stop_ids:
            log = self.target.call(verify_greedy_to_stops, shape, span, state.stop_ids, *inputs)
        else:
            log = self.target.call(verify_greedy, shape, span, *inputs)
        return log

    def draft_seconds(self) -> float:
        span, step_graphs = self._ready()
        return self._seconds(step_graphs.draft if step_graphs else functools.partial(self.draft_tokens, span))

    def verify_seconds(self) -> float:
        """Until the ids are on the host."""
        span, step_graphs = self._ready()
        if step_graphs is None:
            proposal = self.draft_tokens(span)
            return self._seconds(lambda: StepOutput(self.verify_tokens(proposal, span)).read())

        def verified() -> None:
            step_graphs.verify()
            StepOutput(step_graphs.log).read()

        return self._seconds(verified)

    def _ready(self) -> tuple[int, StepGraphs | None]:
        """The span of a first step, and its graphs, replayed to where the verification begins."""
        span = self._span(self._end - self.k - 2)
        step_graphs = self._graphs_of(span)
        if step_graphs is not None:
            step_graphs.draft()
        return span, step_graphs

    def _seconds(self, function: Callable[[], object]) -> float:
        """Again where something was recorded or compiled meanwhile."""
        while True:
            prepared_s = self._preparation_s()
            synchronize(self.target.device)
            start_s = now()
            function()
            synchronize(self.target.device)
            if self._preparation_s() == prepared_s:
                return now() - start_s

    def _preparation_s(self) -> float:
        return self.target.preparation_s + (self.drafter.preparation_s if self.drafter else 0.0)

    def check_finite(self) -> None:
        state = self.state
        for who, watch_B in (("target", state.watch_target_B), ("draft", state.watch_draft_B)):
            if not watch_B.isfinite().all():
                raise NonFiniteDecoding(who)


def _stacked(rows: list[torch.Tensor], state: State) -> torch.Tensor:
    return torch.stack(rows).to(state.uniforms_BU) if rows else state.uniforms_BU
