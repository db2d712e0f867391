"""Decode prompts over the static path: steps on the device, books on the host.

Prompts are prefilled once, each alone into its row, so that nothing is padded; they can then be decoded any
number of times, and each run counts the prefills it rests on as its own time. On a GPU the host reads a
step's log when the next one is already under way; a step that begins after all rows ended produces
nothing.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from bitdraft.config import DecodingConfig
from bitdraft.engine.speculative import NonFiniteDecoding
from bitdraft.engine.static.forward import StaticForward
from bitdraft.engine.static.step import (
    Sampling,
    State,
    Step,
    draft_by_model,
    draft_token,
    look_up,
    verify,
    verify_greedy,
    verify_greedy_to_stops,
)
from bitdraft.engine.verify import Sampler, Uniforms, draw
from bitdraft.results import Generation
from bitdraft.results import Step as StepRecord
from bitdraft.timing import PhaseClock, now, synchronize

Draft = StaticForward | Literal["lookup"]
LOOKUP: Literal["lookup"] = "lookup"


@dataclass(frozen=True)
class Drawing:
    """How tokens are chosen: greedy without a sampler; a seed a row."""

    sampler: Sampler | None = None
    seeds: Sequence[int] = (0,)


class StaticPrompts:
    """Prompts in the target's cache, a row each, ready to be decoded again and again."""

    @torch.inference_mode()
    def __init__(self, target: StaticForward, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
        self.target = target
        self.prompts = [list(prompt) for prompt in prompts]
        self.capacity = max(map(len, prompts)) + max_new_tokens
        self._draft_prefill_s: dict[int, float] = {}
        target.allocate(len(prompts), self.capacity)
        start_s = now()
        logits = [target.prefill(row, prompt) for row, prompt in enumerate(self.prompts)]
        synchronize(target.device)
        self.prefill_s = now() - start_s
        self.first_logits_BV = torch.cat(logits)

    @torch.inference_mode()
    def ready(self, draft: Draft | None) -> float:
        """Let a draft model read all prompts but their last tokens, which come with its first forward; the
        seconds that took when it was done."""
        if not isinstance(draft, StaticForward):
            return 0.0
        if id(draft) not in self._draft_prefill_s:
            draft.allocate(len(self.prompts), self.capacity)
            start_s = now()
            for row, prompt in enumerate(self.prompts):
                if len(prompt) > 1:
                    draft.prefill(row, prompt[:-1])
            synchronize(draft.device)
            self._draft_prefill_s[id(draft)] = now() - start_s
        return self._draft_prefill_s[id(draft)]

    @torch.inference_mode()
    def decode(  # noqa: PLR0917
        self,
        config: DecodingConfig,
        draft: Draft | None = None,
        k: int = 0,
        drawing: Drawing = Drawing(),
        eos_ids: frozenset[int] = frozenset(),
        forced: Sequence[Sequence[int]] | None = None,
        *,
        finite_only: bool = True,
    ) -> list[Generation]:
        """One run; a record for each prompt. `eos_ids` end a row unless the config ignores them. `forced` are
        output tokens that the draft is made to say (synthetic acceptance).

        With `finite_only`, raises `NonFiniteDecoding` at the end of a run in which any logits weren't.
        """
        assert (draft is None) == (k == 0)
        stops = frozenset[int]() if config.ignore_eos else eos_ids
        draft_prefill_s = self.ready(draft)
        limit = config.max_new_tokens
        run = _Run(self.target, self.prompts, draft, k, limit, drawing, sorted(stops), forced)
        books = _Books(self.prompts, limit, stops, k)
        start_s = now()
        first_ids = run.first_tokens(self.first_logits_BV)
        books.enter_first(first_ids, now() - draft_prefill_s)
        run.clock.mark("host")
        run.to_end(books)
        if finite_only:
            run.check_finite()
        submit_s = start_s - self.prefill_s - draft_prefill_s
        phases = run.clock.seconds() if draft is not None else {}
        return [row.generation(submit_s, phases) for row in books.rows]

    @torch.inference_mode()
    def draft_seconds(
        self, draft: Draft, texts: Sequence[Sequence[int]], k: int, sampler: Sampler | None
    ) -> float:
        """What drafting K tokens behind these texts takes. Their caches are as the last run left them."""
        run = _Run(self.target, texts, draft, k, k + 2, Drawing(sampler, range(len(texts))))
        synchronize(self.target.device)
        start_s = now()
        run.propose(max(map(len, texts)) + k + 1)
        synchronize(self.target.device)
        return now() - start_s

    @torch.inference_mode()
    def verify_seconds(self, texts: Sequence[Sequence[int]], k: int, sampler: Sampler | None) -> float:
        """What verifying K tokens behind these texts takes, until the ids are on the host."""
        run = _Run(self.target, texts, None, k, k + 2, Drawing(sampler, range(len(texts))))
        proposal = run.propose(0)
        proposal.drafted_BK = proposal.step.tokens_B2[:, -1:].expand(len(texts), k).contiguous()
        synchronize(self.target.device)
        start_s = now()
        _Log(run.check(proposal, max(map(len, texts)) + k + 1)).read()
        return now() - start_s


@dataclass
class Proposal:
    """Where a step begins, its drafted tokens, B × K, the rows that have any, and their laws, B × K × V,
    where they are sampled."""

    step: Step
    drafted_BK: torch.Tensor
    found_B: torch.Tensor
    laws_BKV: torch.Tensor | None = None


class _Run:
    """The device's side of one decoding of these texts."""

    def __init__(  # noqa: PLR0917
        self,
        target: StaticForward,
        texts: Sequence[Sequence[int]],
        draft: Draft | None,
        k: int,
        max_new_tokens: int,
        drawing: Drawing = Drawing(),
        stop_ids: Sequence[int] = (),
        forced: Sequence[Sequence[int]] | None = None,
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
        self._forced_BN = None if forced is None else _forced_text(self.state, texts, forced)
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

    def to_end(self, books: _Books) -> None:
        logs: deque[_Log] = deque()
        while books.longest_active() or logs:
            if books.longest_active():
                logs.append(_Log(self.step(books.longest_active())))
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
        drafted_BK, found_B = look_up(state.text_BN, state.lengths_B, self._offsets_X[2:])
        # without captured graphs a step may be smaller where nothing is found
        if state.text_BN.device.type == "cpu" and not found_B.any():
            drafted_BK = drafted_BK[:, :0]
        return Proposal(step, drafted_BK, found_B)

    def check(self, proposal: Proposal, span: int) -> torch.Tensor:
        """Verify and advance; the step's log."""
        step, drafted_BK, span = proposal.step, proposal.drafted_BK, self.target.span(span)
        tokens_BT = torch.cat([step.tokens_B2[:, 1:], drafted_BK], 1)
        shape = (tokens_BT.shape[0], tokens_BT.shape[1])
        positions_BT = step.positions_BX[:, 1 : shape[1] + 1]
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


class _Log:
    """A step's log on its way to the host."""

    def __init__(self, log_BX: torch.Tensor) -> None:
        self._event: Any = None
        self._log_BX = log_BX
        if log_BX.device.type == "cuda":
            self._log_BX = log_BX.to("cpu", non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()

    def read(self) -> list[list[int]]:
        if self._event is not None:
            self._event.synchronize()
        rows: list[list[int]] = self._log_BX.tolist()
        return rows


@dataclass
class _Row:
    """One prompt's record, filled as its tokens reach the host."""

    prompt_tokens: int
    limit: int
    stops: frozenset[int]
    k: int
    emissions: list[tuple[float, int]] = field(default_factory=list)
    steps: list[StepRecord] = field(default_factory=list)
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
            self.steps.append(StepRecord(num_drafted, num_kept, cut))
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


class _Books:
    def __init__(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, stops: frozenset[int], k: int
    ) -> None:
        self.rows = [_Row(len(prompt), max_new_tokens, stops, k) for prompt in prompts]

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
