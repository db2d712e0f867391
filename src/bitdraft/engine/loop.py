"""Decoding, the simple way: draft K tokens, verify them with one forward of the target, keep what holds.
K = 0 is the same loop without a drafter. The static path (engine.static) is held equal to it.

A prompt is prefilled once, into the target's cache and into that of each drafter that is used, and
can then be decoded any number of times; each run counts the prefills it rests on as its own time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch

from bitdraft.config import DecodingConfig
from bitdraft.engine.acceptance import (
    Sampler,
    UniformStream,
    accept_greedy,
    accept_sampled,
    draw,
    is_on_host,
    most_probable,
)
from bitdraft.engine.drafters.base import Draft, EagerDrafter, EagerStep, Prefills
from bitdraft.engine.token_model import TokenModel
from bitdraft.errors import NonFiniteNumbers
from bitdraft.probes.clock import PhaseClock, now, synchronize
from bitdraft.schema.records import Generation, Step


class NonFiniteDecoding(NonFiniteNumbers):
    """A model gave logits that are not finite; `who` is `target` or `draft`."""

    def __init__(self, who: str) -> None:
        super().__init__(f"the {who} model's logits are not finite")
        self.who = who


class PrefilledPrompt:
    """A prompt in the target's cache, ready to be decoded again and again."""

    @torch.inference_mode()
    def __init__(self, target: TokenModel, prompt: Sequence[int], max_new_tokens: int) -> None:
        self.target = target
        self.prompt = list(prompt)
        self.capacity = len(prompt) + max_new_tokens
        self._draft_prefills = Prefills([self.prompt], self.capacity, target.device)
        start_s = now()
        target.start(self.capacity)
        self._logits_BTV = target.forward(target.to_device(prompt)).clone()
        synchronize(target.device)
        self.prefill_s = now() - start_s

    @torch.inference_mode()
    def ready(self, drafter: EagerDrafter) -> float:
        """Bring a drafter to the prompt's end; the seconds that its prefill took when it was made."""
        return self._draft_prefills.ready(drafter)

    @torch.inference_mode()
    def decode(  # noqa: PLR0917
        self,
        config: DecodingConfig,
        drafter: EagerDrafter | None = None,
        k: int = 0,
        sampler: Sampler | None = None,
        eos_ids: frozenset[int] = frozenset(),
        oracle_ids: Sequence[int] = (),
        *,
        seed: int = 0,
        finite_only: bool = True,
    ) -> Generation:
        """One run, greedy without a sampler, which draws by the seed. `eos_ids` end it unless the config
        ignores them. `oracle_ids` are output tokens that a draft model is made to say.

        With `finite_only`, raises `NonFiniteDecoding` at the end of a run in which any logits weren't.
        """
        assert (drafter is None) == (k == 0)
        stops = frozenset[int]() if config.ignore_eos else eos_ids
        draft_prefill_s = 0.0 if drafter is None else self.ready(drafter)
        self.target.keep(len(self.prompt))
        oracle_ids = [*self.prompt, *oracle_ids] if oracle_ids else ()
        run = _Run(self, drafter, sampler, UniformStream(seed, config.max_new_tokens, k), oracle_ids)
        start_s = now()
        run.first_token()
        emissions = [(now(), 1)]
        while len(run.token_ids) < config.max_new_tokens and run.token_ids[-1] not in stops:
            before = len(run.token_ids)
            run.step(k, config.max_new_tokens - before, stops)
            emissions.append((now(), len(run.token_ids) - before))
        if finite_only:
            run.check_finite()
        reason: Literal["length", "eos"] = "eos" if run.token_ids[-1] in stops else "length"
        return Generation(
            prompt_tokens=len(self.prompt),
            submit_s=start_s - self.prefill_s - draft_prefill_s,
            emissions=tuple(emissions),
            steps=tuple(run.steps),
            phase_s=run.clock.seconds() if drafter is not None else {},
            token_ids=tuple(run.token_ids),
            finish_reason=reason,
        )

    @torch.inference_mode()
    def draft_seconds(
        self, drafter: EagerDrafter, text: list[int], num_tokens: int, sampler: Sampler | None
    ) -> float:
        """What drafting behind a text takes. The caches are as the last run left them."""
        drafter.rewind(len(text) - 1)
        uniforms = UniformStream(0, 1, num_tokens)
        drafter.catch_up(text)
        synchronize(self.target.device)
        start_s = now()
        drafter.draft(EagerStep(text, num_tokens, sampler, uniforms.by_step[0]))
        synchronize(self.target.device)
        return now() - start_s

    @torch.inference_mode()
    def verify_seconds(self, text: list[int], num_drafted: int, sampler: Sampler | None) -> float:
        """What the target's forward over the text's last token and `num_drafted` behind it takes: tokens to
        the device, forward, choice, ids to the host."""
        tokens, uniforms = [text[-1]] * (num_drafted + 1), UniformStream(0, 1, num_drafted)
        self.target.keep(len(text) - 1)
        synchronize(self.target.device)
        start_s = now()
        logits_TV = self.target.forward(self.target.to_device(tokens), len(tokens))[0]
        chosen_T = most_probable(logits_TV)[1]
        if sampler is not None:
            chosen_T = draw(sampler.probabilities(logits_TV), uniforms.by_step[0, : len(tokens)])
        chosen_T.tolist()
        return now() - start_s


class _Run:
    """The state of one decoding: all tokens so far, and the records."""

    def __init__(
        self,
        prefilled: PrefilledPrompt,
        drafter: EagerDrafter | None,
        sampler: Sampler | None,
        uniforms: UniformStream,
        oracle_ids: Sequence[int],
    ) -> None:
        self.target, self.drafter, self.sampler = prefilled.target, drafter, sampler
        self._uniforms, self._oracle_ids = uniforms, oracle_ids
        self._num_steps = 0
        self._first_logits_TV = prefilled._logits_BTV[0]
        self.context = list(prefilled.prompt)
        self.token_ids: list[int] = []
        self.steps: list[Step] = []
        self.clock = PhaseClock(self.target.device)
        self._nothing = Draft(torch.empty(1, 0, dtype=torch.long, device=self.target.device))
        self._target_tops: list[torch.Tensor] = []
        self._host_tops: list[float] = []
        self._draft_tops: list[torch.Tensor] = []

    def first_token(self) -> None:
        top_T, token_T = most_probable(self._first_logits_TV)
        self._target_tops.append(top_T)
        if self.sampler is not None:
            token_T = draw(self.sampler.probabilities(self._first_logits_TV), self._uniforms.first)
        self._append([int(token_T[0])])
        self.clock.mark("host")

    def step(self, k: int, room: int, stops: frozenset[int]) -> None:
        """Draft at most K of the `room` tokens that still fit (one is always the target's own), verify,
        keep; the tokens behind an accepted stop are dropped."""
        num_wanted = min(k, room - 1)
        index, self._num_steps = self._num_steps, self._num_steps + 1
        if self.drafter is None:
            self._plain_step(index)
            return
        draft, uniforms = self._nothing, self._uniforms.by_step[index]
        if num_wanted > 0:
            asked = EagerStep(self.context, num_wanted, self.sampler, uniforms, self._oracle_ids)
            draft = self.drafter.draft(asked)
        self.clock.mark("draft")
        drafted_K = draft.tokens_BK[0]
        num_drafted = len(drafted_K)
        last = self.target.to_device(self.context[-1:])
        tokens_BT = torch.cat([last, drafted_K[None]], 1)
        logits_TV = self.target.forward(tokens_BT, num_drafted + 1)[0]
        kept, token = self._accept(draft, logits_TV, uniforms[-2:])
        num_kept, next_id, *drafted = torch.cat([kept[None], token[None], drafted_K]).tolist()
        self.clock.mark("verify")
        self.target.keep(len(self.context) + num_kept)
        new = [*drafted[:num_kept], next_id]
        end = next((index + 1 for index, token_id in enumerate(new) if token_id in stops), len(new))
        self.drafter.rewind(len(self.context) + num_kept)
        self._draft_tops.extend(draft.top_logits)
        cut = num_wanted < k or end < len(new)
        self.steps.append(Step(num_drafted, min(num_kept, end), cut))
        self._append(new[:end])
        self.clock.mark("host")

    def _plain_step(self, index: int) -> None:
        """The same where nothing is drafted: of a small model's step the operations that are left out take
        a tenth."""
        logits_TV = self.target.forward_one(self.context[-1])
        if self.sampler is None and is_on_host(logits_TV):
            row_V = logits_TV[0].numpy()
            token_id = int(row_V.argmax())
            self._host_tops.append(float(row_V[token_id]))
        else:
            top_T, token_T = most_probable(logits_TV)
            self._target_tops.append(top_T)
            if self.sampler is not None:
                token_T = draw(self.sampler.probabilities(logits_TV), self._uniforms.by_step[index][-1:])
            token_id = int(token_T[0])
        self.token_ids.append(token_id)
        self.context.append(token_id)

    def _append(self, token_ids: list[int]) -> None:
        self.token_ids += token_ids
        self.context += token_ids

    def _accept(
        self, draft: Draft, logits_TV: torch.Tensor, uniforms_2: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        top_T, choices_T = most_probable(logits_TV)
        self._target_tops.append(top_T)
        if self.sampler is None:
            return accept_greedy(draft.tokens_BK[0], choices_T)
        p_TV = self.sampler.probabilities(logits_TV)
        q_KV = draft.probs_BKV[0] if draft.probs_BKV is not None else p_TV[:0]
        return accept_sampled(draft.tokens_BK[0], q_KV, p_TV, uniforms_2)

    def check_finite(self) -> None:
        if not all(map(math.isfinite, self._host_tops)):
            raise NonFiniteDecoding("target")
        for who, tops in (("target", self._target_tops), ("draft", self._draft_tops)):
            if tops and not torch.cat(tops).isfinite().all():
                raise NonFiniteDecoding(who)
