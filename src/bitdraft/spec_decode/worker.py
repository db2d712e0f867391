"""What the measurements of a sweep's process share: configuration, prompts, models, what still runs, and what
an interrupted attempt has measured already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from bitdraft.backends import Engine, EngineSetup, load_model, make_engine
from bitdraft.backends.base import check_k
from bitdraft.config import Execution, SpecDecodeConfig
from bitdraft.engine.cpu.products import ProductChoices
from bitdraft.errors import UserError
from bitdraft.inputs.checkpoints import find_checkpoint
from bitdraft.inputs.models import LoadedModel
from bitdraft.inputs.variants import Variant, draft_format
from bitdraft.runs.cell import Event
from bitdraft.runs.executors.base import Emit
from bitdraft.schema.records import Generation
from bitdraft.spec_decode.failures import failure_of
from bitdraft.spec_decode.synthetic import Text, agreement_bits, run_with_oracle, stays
from bitdraft.spec_decode.workload import SLACK_TOKENS

WARM_UP_TOKENS = 16
PLAN_WRITER, PLAN_K = "(writer)", 8
_PRIME = 1_000_003


@dataclass
class Worker:
    """What all stages share. `active` are the (draft, K) that still run; a failure takes one out. `texts` are
    the baseline's by a prompt's index, which oracle tokens follow (synthetic acceptance), and `num_strayed`
    the runs that left theirs at every try. `done` are an earlier attempt's events."""

    config: SpecDecodeConfig
    prompts: list[list[int]]
    folders: dict[str, str | None]
    vocab_size: int
    foreign: dict[str, list[int]]
    emit: Emit
    done: list[Event] = field(default_factory=list)
    clusters: list[str] = field(default_factory=list)
    models: dict[str, LoadedModel | None] = field(default_factory=dict)
    active: list[tuple[str, int]] = field(default_factory=list)
    texts: dict[int, Text] = field(default_factory=dict)
    num_strayed: int = 0
    choices: ProductChoices = field(default_factory=ProductChoices)

    @classmethod
    def of(cls, payload: dict[str, Any], emit: Emit) -> Worker:
        """From a cell's payload; decides as an earlier attempt has decided."""
        transformers_logging.set_verbosity_error()
        config = SpecDecodeConfig(**payload["config"])
        worker = cls(
            config,
            payload["prompts"],
            payload["drafts"],
            payload["vocab_size"],
            payload["foreign"],
            emit,
            payload["done"],
        )
        worker.clusters = payload["clusters"]
        worker.choices = ProductChoices(worker.decided.get("products") or {})
        return worker

    @property
    def decided(self) -> Event:
        """What the first attempt has decided by timing."""
        return next((event for event in self.done if event["event"] == "decided"), {})

    def earlier(self, kind: str) -> list[Event]:
        """An earlier attempt's events of one kind."""
        return [event for event in self.done if event["event"] == kind]

    def tell(self, kind: str, **fields: Any) -> None:
        """Emit an event that `earlier` has from now on."""
        self.emit(kind, **fields)
        self.done.append({"event": kind, **fields})

    @property
    def labels(self) -> list[str]:
        """The drafts that still run."""
        return list(dict.fromkeys(label for label, _ in self.active))

    def load(self, name: str, precision: str, device: torch.device) -> LoadedModel:
        """A checkpoint by its folder."""
        own = self.config.model_copy(update={"model": name})
        with self.emit.slow():
            return load_model(Variant(find_checkpoint(own), precision), device, own)

    def load_draft(self, label: str, device: torch.device) -> LoadedModel | None:
        """None for prompt lookup."""
        folder, config = self.folders[label], self.config
        if folder is None:
            return None
        own = config.model_copy(update={"model": folder, "gguf": ()})
        try:
            with self.emit.slow():
                checkpoint = find_checkpoint(own)
                target = Variant(find_checkpoint(config), config.precision)
                precision = draft_format(target, checkpoint, config.draft_precision)
                return load_model(Variant(checkpoint, precision), device, own)
        except UserError as error:
            raise UserError("drafts", label, error.problem, error.remedy) from error

    def engine(self, target: Any, mode: Execution | None = None, backend: str | None = None) -> Engine:
        """Of the target and all drafts that are loaded; in this mode, or as was decided or asked for, and by
        this backend, or the run's own."""
        drafts = {label: loaded.model if loaded else None for label, loaded in self.models.items()}
        if self.config.plan:
            drafts[PLAN_WRITER] = None
        config = self.config
        capacity = max(map(len, self.prompts)) + config.max_new_tokens
        capacity = max(capacity, *(length + config.k[-1] + SLACK_TOKENS for length in (0, *config.contexts)))
        execution: Execution = mode or self.decided.get("mode") or config.execution
        setup = EngineSetup(target, drafts, config, execution, capacity, self.choices, self.foreign)
        with self.emit.slow():
            return make_engine(backend or config.backend, setup)

    def bits(self, index: int) -> list[bool]:
        """Where draft models agree on a prompt (synthetic acceptance)."""
        config = self.config
        assert config.synthetic_acceptance is not None
        return agreement_bits(config.synthetic_acceptance, config.max_new_tokens, config.seed, index)

    def seed(self, draft: str | None, k: int, index: int) -> int:
        """That of a prompt's run at a (draft, K), whatever runs beside it."""
        place = 0 if draft is None else 1 + 64 * [*self.folders, PLAN_WRITER].index(draft) + k
        return self.config.seed * _PRIME + 4099 * index + place

    def decode(self, engine: Engine, draft: str | None, k: int, index: int) -> Generation:
        """One run of the prompt at this index, which the engine has prepared."""
        seed = self.seed(draft, k, index)

        def run(oracle: Sequence[Sequence[int]]) -> list[Generation]:
            return [engine.decode(self.config, draft, k, seed, oracle[0])]

        if draft is None or index not in self.texts:
            found = engine.decode(self.config, draft, k, seed)
        else:
            found = self.with_oracle(run, [index])[0]
        if draft is not None and self.models.get(draft) is not None:
            check_k(found, k)  # prompt lookup finds fewer tokens now and then
        return found.model_copy(update={"cluster": self.clusters[index]}) if self.clusters else found

    def with_oracle(
        self, decode: Callable[[list[list[int]]], list[Generation]], indices: Sequence[int]
    ) -> list[Generation]:
        """Runs of drafts that agree as stated on these prompts, whose baseline is known."""
        texts, bits = [self.texts[index] for index in indices], [self.bits(index) for index in indices]
        runs, followed = run_with_oracle(decode, texts, bits, self.vocab_size)
        self.num_strayed += sum(not stays(run, text) for run, text in zip(runs, followed, strict=True))
        return runs

    def brief(self) -> SpecDecodeConfig:
        """For a warm-up: room for two steps of the largest K."""
        room = max(WARM_UP_TOKENS, 2 * self.config.k[-1] + 2)
        return self.config.model_copy(update={"max_new_tokens": min(room, self.config.max_new_tokens)})

    def drop(self, draft: str, k: int | None, error: Exception) -> None:
        """Take a draft (or its one K) out of the run and say why."""
        status, reason = failure_of(error)
        for own in [own for own in self.active if own[0] == draft and k in (None, own[1])]:
            self.active.remove(own)
            self.emit("failed", draft=draft, k=own[1], status=status, reason=reason)

    def note(self, code: str, subject: str = "", **figures: Any) -> None:
        """A warning of the result."""
        self.emit("note", code=code, subject=subject, figures=figures)

    def take_strayed(self) -> int:
        """How many runs have strayed since this was asked last."""
        found, self.num_strayed = self.num_strayed, 0
        return found
