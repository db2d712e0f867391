"""What the measurements of a sweep's process share: configuration, prompts, models, running arms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from bitdraft.backends import Speculation, speculation
from bitdraft.backends.native import NativeSpeculation
from bitdraft.config import Precision, SpecDecodeConfig
from bitdraft.inputs.checkpoints import find_checkpoint
from bitdraft.inputs.models import LoadedModel, load_model
from bitdraft.schema.records import Generation
from bitdraft.spec_decode.failures import failure_of
from bitdraft.spec_decode.synthetic import Text, agreement_bits, run_forced, stays

Emit = Callable[..., None]
WARM_UP_TOKENS = 16
PLAN_WRITER, PLAN_K = "(writer)", 8
_PRIME = 1_000_003


@dataclass
class Cell:
    """What all stages share. `arms` are the (draft, K) still running; a failure takes one out. `texts` are
    K = 0's by a prompt's index, which forced drafts follow (synthetic acceptance), and `num_strayed` the runs
    that left theirs at every try."""

    config: SpecDecodeConfig
    prompts: list[list[int]]
    folders: dict[str, str | None]
    vocab_size: int
    emit: Emit
    models: dict[str, LoadedModel | None] = field(default_factory=dict)
    arms: list[tuple[str, int]] = field(default_factory=list)
    texts: dict[int, Text] = field(default_factory=dict)
    num_strayed: int = 0

    @classmethod
    def of(cls, payload: dict[str, Any], emit: Emit) -> Cell:
        transformers_logging.set_verbosity_error()
        config = SpecDecodeConfig(**payload["config"])
        return cls(config, payload["prompts"], payload["drafts"], payload["vocab_size"], emit)

    @property
    def labels(self) -> list[str]:
        return list(dict.fromkeys(label for label, _ in self.arms))

    def load(self, name: str, precision: Precision, device: torch.device) -> LoadedModel:
        own = self.config.model_copy(update={"model": name})
        return load_model(find_checkpoint(own), precision, device, own)

    def load_draft(self, label: str, device: torch.device) -> LoadedModel | None:
        folder = self.folders[label]
        precision = self.config.draft_precision or self.config.precision
        return None if folder is None else self.load(folder, precision, device)

    def speculation(self, target: Any) -> Speculation:
        drafts = {label: loaded.model if loaded else None for label, loaded in self.models.items()}
        if self.config.plan:
            drafts[PLAN_WRITER] = None
        config = self.config
        capacity = max(map(len, self.prompts)) + config.max_new_tokens
        execution = config.execution
        return speculation(config.backend, target, drafts, self.vocab_size, config, execution, capacity)

    def bits(self, index: int) -> list[bool]:
        """Where draft models agree on a prompt (synthetic acceptance)."""
        config = self.config
        assert config.synthetic_acceptance is not None
        return agreement_bits(config.synthetic_acceptance, config.max_new_tokens, config.seed, index)

    def seed(self, draft: str | None, k: int, index: int) -> int:
        """That of a prompt's run by an arm, whatever runs beside it."""
        arm = 0 if draft is None else 1 + 64 * [*self.folders, PLAN_WRITER].index(draft) + k
        return self.config.seed * _PRIME + 4099 * index + arm

    def decode(self, decoder: Speculation, draft: str | None, k: int, index: int) -> Generation:
        """One run of the prompt at this index, which the decoder has prepared."""
        seed = self.seed(draft, k, index)

        def run(forced: Sequence[Sequence[int]]) -> list[Generation]:
            assert isinstance(decoder, NativeSpeculation)
            return [decoder.decode(self.config, draft, k, seed, forced[0])]

        if draft is None or index not in self.texts:
            return decoder.decode(self.config, draft, k, seed)
        return self.forced(run, [index])[0]

    def forced(
        self, decode: Callable[[list[list[int]]], list[Generation]], indices: Sequence[int]
    ) -> list[Generation]:
        """Runs of drafts that agree as stated on these prompts, whose K = 0 is known."""
        texts, bits = [self.texts[index] for index in indices], [self.bits(index) for index in indices]
        runs, followed = run_forced(decode, texts, bits, self.vocab_size)
        self.num_strayed += sum(not stays(run, text) for run, text in zip(runs, followed, strict=True))
        return runs

    def brief(self) -> SpecDecodeConfig:
        """For a warm-up: room for two steps of the largest K."""
        room = max(WARM_UP_TOKENS, 2 * self.config.k[-1] + 2)
        return self.config.model_copy(update={"max_new_tokens": min(room, self.config.max_new_tokens)})

    def drop(self, draft: str, k: int | None, error: Exception) -> None:
        """Take a draft (or its one K) out of the run and say why."""
        status, reason = failure_of(error)
        for arm in [arm for arm in self.arms if arm[0] == draft and k in (None, arm[1])]:
            self.arms.remove(arm)
            self.emit("failed", draft=draft, k=arm[1], status=status, reason=reason)
