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
from bitdraft.engine.drafters.base import Prefills, StaticDrafter
from bitdraft.engine.drafters.repeat import RepeatDrafter
from bitdraft.engine.static.forward import StaticForward
from bitdraft.engine.static.run import GREEDY, Run, SamplingState
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
        self._draft_prefills = Prefills(self.prompts, self.capacity, target.device)
        target.allocate(len(prompts), self.capacity)
        start_s = now()
        logits = [target.prefill(row, prompt) for row, prompt in enumerate(self.prompts)]
        synchronize(target.device)
        self.prefill_s = now() - start_s
        self.first_logits_BV = torch.cat(logits)

    @torch.inference_mode()
    def ready(self, drafter: StaticDrafter) -> float:
        """Let a drafter read all prompts; the seconds that took when it was done."""
        return self._draft_prefills.ready(drafter)

    @torch.inference_mode()
    def decode(  # noqa: PLR0917
        self,
        config: DecodingConfig,
        drafter: StaticDrafter | None = None,
        k: int = 0,
        sampling: SamplingState = GREEDY,
        eos_ids: frozenset[int] = frozenset(),
        oracle_ids: Sequence[Sequence[int]] = (),
        *,
        finite_only: bool = True,
    ) -> list[Generation]:
        """One run; a record for each prompt. `eos_ids` end a row unless the config ignores them. `oracle_ids`
        are output tokens that a draft model is made to say (synthetic acceptance), a row each.

        With `finite_only`, raises `NonFiniteDecoding` at the end of a run in which any logits weren't.
        """
        assert (drafter is None) == (k == 0)
        stops = frozenset[int]() if config.ignore_eos else eos_ids
        draft_prefill_s = 0.0 if drafter is None else self.ready(drafter)
        limit = config.max_new_tokens
        run = Run(self.target, self.prompts, drafter, k, limit, sampling, sorted(stops), oracle_ids)
        run.capture()
        tracker = RequestTracker(self.prompts, limit, stops, k)
        start_s = now()
        first_ids = run.first_tokens(self.first_logits_BV)
        tracker.enter_first(first_ids, now())
        run.clock.mark("host")
        run.to_end(tracker)
        if finite_only:
            run.check_finite()
        submit_s = start_s - self.prefill_s - draft_prefill_s
        phases = run.clock.seconds() if drafter is not None else {}
        return [row.generation(submit_s, phases) for row in tracker.rows]

    @torch.inference_mode()
    def draft_seconds(
        self, drafter: StaticDrafter, texts: Sequence[Sequence[int]], k: int, sampler: Sampler | None
    ) -> float:
        """What drafting K tokens behind these texts takes. Their caches are as the last run left them."""
        sampling = SamplingState(sampler, range(len(texts)))
        return Run(self.target, texts, drafter, k, k + 2, sampling).draft_seconds()

    @torch.inference_mode()
    def verify_seconds(self, texts: Sequence[Sequence[int]], k: int, sampler: Sampler | None) -> float:
        """What verifying K tokens behind these texts takes, until the ids are on the host."""
        sampling = SamplingState(sampler, range(len(texts)))
        drafter = RepeatDrafter() if k else None
        return Run(self.target, texts, drafter, k, k + 2, sampling).verify_seconds()
