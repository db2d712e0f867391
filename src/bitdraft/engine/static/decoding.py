"""Decode prompts over the static path: steps on the device, tracker on the host.

Prompts are prefilled once, each alone into its row, so that nothing is padded; they can then be decoded any
number of times, and each run counts the prefills it rests on as its own time. On a GPU the host reads a
step's log when the next one is already under way; a step that begins after all rows ended produces
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bitdraft.config import DecodingConfig
from bitdraft.engine.acceptance import Sampler
from bitdraft.engine.static.forward import StaticForward
from bitdraft.engine.static.run import GREEDY, REPEAT, Draft, Run, SamplingState
from bitdraft.engine.static.tracker import RequestTracker
from bitdraft.probes.clock import now, synchronize
from bitdraft.schema.records import Generation


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
        sampling: SamplingState = GREEDY,
        eos_ids: frozenset[int] = frozenset(),
        forced: Sequence[Sequence[int]] = (),
        *,
        finite_only: bool = True,
    ) -> list[Generation]:
        """One run; a record for each prompt. `eos_ids` end a row unless the config ignores them. `forced` are
        output tokens that a draft model is made to say (synthetic acceptance), a row each.

        With `finite_only`, raises `NonFiniteDecoding` at the end of a run in which any logits weren't.
        """
        assert (draft is None) == (k == 0)
        stops = frozenset[int]() if config.ignore_eos else eos_ids
        draft_prefill_s = self.ready(draft)
        limit = config.max_new_tokens
        run = Run(self.target, self.prompts, draft, k, limit, sampling, sorted(stops), forced)
        run.capture()
        tracker = RequestTracker(self.prompts, limit, stops, k)
        start_s = now()
        first_ids = run.first_tokens(self.first_logits_BV)
        tracker.enter_first(first_ids, now() - draft_prefill_s)
        run.clock.mark("host")
        run.to_end(tracker)
        if finite_only:
            run.check_finite()
        submit_s = start_s - self.prefill_s - draft_prefill_s
        phases = run.clock.seconds() if draft is not None else {}
        return [row.generation(submit_s, phases) for row in tracker.rows]

    @torch.inference_mode()
    def draft_seconds(
        self, draft: Draft, texts: Sequence[Sequence[int]], k: int, sampler: Sampler | None
    ) -> float:
        """What drafting K tokens behind these texts takes. Their caches are as the last run left them."""
        sampling = SamplingState(sampler, range(len(texts)))
        return Run(self.target, texts, draft, k, k + 2, sampling).draft_seconds()

    @torch.inference_mode()
    def verify_seconds(self, texts: Sequence[Sequence[int]], k: int, sampler: Sampler | None) -> float:
        """What verifying K tokens behind these texts takes, until the ids are on the host."""
        sampling = SamplingState(sampler, range(len(texts)))
        return Run(self.target, texts, REPEAT if k else None, k, k + 2, sampling).verify_seconds()
