"""The native backend: bitdraft's own engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from bitdraft.config import DecodingConfig, SamplingConfig
from bitdraft.engine.cpu_kernels import lay_input_major
from bitdraft.engine.drafters import Drafter, ModelDrafter, NgramDrafter
from bitdraft.engine.runner import Runner
from bitdraft.engine.speculative import PrefilledPrompt
from bitdraft.engine.verify import Sampler
from bitdraft.results import Generation


def end_of_sequence_ids(model: Any) -> frozenset[int]:
    """The token ids that end a text, from the model's generation config."""
    ids = model.generation_config.eos_token_id
    return frozenset([ids] if isinstance(ids, int) else ids or ())


def native(model: Any) -> Callable[[Sequence[int], DecodingConfig], Generation]:
    lay_input_major(model)
    runner, eos_ids = Runner(model), end_of_sequence_ids(model)

    def generate(prompt: Sequence[int], config: DecodingConfig) -> Generation:
        prefilled = PrefilledPrompt(runner, prompt, config.max_new_tokens)
        # the speed of a precision that overflows is still its speed
        return prefilled.decode(config, eos_ids=eos_ids, finite_only=False)

    return generate


class NativeSpeculation:
    """Decode one prompt after another with any draft and K. A draft that is None is prompt lookup.
    Without `replay` no forward is recorded.

    `runners` holds the target under None and the draft models under their labels.
    """

    def __init__(
        self,
        target: Any,
        drafts: Mapping[str, Any | None],
        vocab_size: int,
        sampling: SamplingConfig,
        *,
        replay: bool = True,
    ) -> None:
        models = {label: model for label, model in drafts.items() if model is not None}
        for model in (target, *models.values()):
            lay_input_major(model)
        self.target = Runner(target, vocab_size, replay=replay)
        self._runners = {label: Runner(model, vocab_size, replay=replay) for label, model in models.items()}
        device = self.target.device
        self.drafters: dict[str, Drafter] = {
            label: NgramDrafter(device, vocab_size)
            if model is None
            else ModelDrafter(self._runners[label], device)
            for label, model in drafts.items()
        }
        self._sampling = sampling
        self._eos_ids = end_of_sequence_ids(target)
        self._prefilled: PrefilledPrompt | None = None

    def prepare(self, prompt: Sequence[int], config: DecodingConfig) -> None:
        """Prefill a prompt once for all the runs that follow."""
        self._prefilled = PrefilledPrompt(self.target, prompt, config.max_new_tokens)

    def runner(self, draft: str | None) -> Runner:
        """The target's, or that of a draft that is a model."""
        return self.target if draft is None else self._runners[draft]

    def execution(self, draft: str | None) -> str:
        """How the forwards of the target, or of a draft that is a model, are run: `traced` or `eager`."""
        return self.runner(draft).execution

    def prefill_seconds(self, draft: str | None) -> float:
        """What the prepared prompt's prefill takes, in the target or in a draft."""
        assert self._prefilled is not None
        if draft is None:
            return self._prefilled.prefill_s
        return self._prefilled.ready(self.drafters[draft])

    def decode(self, config: DecodingConfig, draft: str | None, k: int, seed: int) -> Generation:
        """One run of the prepared prompt; K = 0 where no draft is named."""
        assert self._prefilled is not None
        drafter = None if draft is None else self.drafters[draft]
        return self._prefilled.decode(config, drafter, k, self.sampler(seed), self._eos_ids)

    def sampler(self, seed: int) -> Sampler | None:
        """None for greedy decoding."""
        if self._sampling.temperature == 0:
            return None
        return Sampler(self._sampling, torch.Generator(self.target.device).manual_seed(seed))
