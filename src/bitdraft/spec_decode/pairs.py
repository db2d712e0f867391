"""Acceptance of every pair of formats of target and draft from one pass each: no pair is decoded.

A target in a format (and its cache in another, where its backend has that) writes the prompts' texts; a draft
in a format reads each of them once, and its agreement gives the steps of every K exactly (`replay`). One
model is in memory at a time. The cell emits a `text` for each target and prompt, and an `agreement` for each
pair and prompt; what fails is `lost`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bitdraft.backends import EngineSetup, load_model, make_engine, token_model
from bitdraft.config import SpecDecodeConfig
from bitdraft.engine.agreement import greedy_agreement
from bitdraft.engine.vocabulary import DraftVocabulary
from bitdraft.errors import UserError
from bitdraft.inputs.checkpoints import find_checkpoint
from bitdraft.inputs.models import LoadedModel, resolve_device
from bitdraft.inputs.variants import Variant
from bitdraft.runs.cell import Event
from bitdraft.runs.executors.base import Emit
from bitdraft.spec_decode.failures import failure_of


def measure_pairs(payload: dict[str, Any], emit: Emit) -> None:
    """See the module."""
    pairs = _Pairs(payload, emit)
    pairs.write_texts()
    pairs.read_texts()


class _Pairs:
    def __init__(self, payload: dict[str, Any], emit: Emit) -> None:
        self.emit, self.config = emit, SpecDecodeConfig(**payload["config"])
        self.prompts: list[list[int]] = payload["prompts"]
        self.folders: dict[str, str | None] = payload["drafts"]
        self.foreign: dict[str, list[int]] = payload["foreign"]
        self.vocab_size: int = payload["vocab_size"]
        self.done: list[Event] = payload["done"]
        self.device = resolve_device(self.config.device)
        self.texts: dict[tuple[str, str], dict[int, list[int]]] = {}
        for event in self.done:
            if event["event"] == "text":
                self._keep(event)

    def _keep(self, event: Event) -> None:
        self.texts.setdefault((event["target"], event["kv_cache"]), {})[event["prompt"]] = event["ids"]

    def _load(self, model: str, precision: str, kv_cache: str = "auto") -> LoadedModel:
        files = self.config.gguf if model == self.config.model else ()
        own = self.config.model_copy(update={"model": model, "kv_cache": kv_cache, "gguf": files})
        with self.emit.slow():
            return load_model(Variant(find_checkpoint(own), precision), self.device, own)

    def write_texts(self) -> None:
        """Of every target, greedily."""
        config = self.config
        targets = config.targets_of_pairs
        for place, (precision, kv_cache) in enumerate(targets):
            self.emit("progress", stage="pairs", done=place, total=2 * len(targets))
            known = self.texts.get((precision, kv_cache), {})
            if len(known) == len(self.prompts):
                continue
            try:
                target = self._load(config.model, precision, kv_cache)
                engine = make_engine("native", EngineSetup(target.model, capacity=self._capacity()))
                for index, prompt in enumerate(self.prompts):
                    if index not in known:
                        ids = list(engine.generate(prompt, config).token_ids)
                        event = {"target": precision, "kv_cache": kv_cache, "prompt": index, "ids": ids}
                        self.emit("text", **event)
                        self._keep(event)
            except (UserError, RuntimeError, MemoryError) as error:
                self._lose(error, target=precision, kv_cache=kv_cache)

    def read_texts(self) -> None:
        """By every draft, in every format."""
        known = {self._key(event) for event in self.done if event["event"] == "agreement"}
        drafts = [(label, folder) for label, folder in self.folders.items() if folder is not None]
        jobs = [(label, folder, precision) for label, folder in drafts for precision in self.config.pairs]
        for place, (label, folder, precision) in enumerate(jobs):
            self.emit("progress", stage="pairs", done=len(jobs) + place, total=2 * len(jobs))
            left = [one for one in self._all_texts() if (label, precision, *one[:3]) not in known]
            if not left:
                continue
            try:
                draft = self._load(str(folder), precision)
                vocabulary = DraftVocabulary(draft.model, self.vocab_size, self.foreign.get(label, ()))
                runner = token_model(draft.model, vocabulary)
                for target, kv_cache, index, ids in left:
                    keeps, _ = greedy_agreement(runner, self.prompts[index], ids)
                    self.emit(
                        "agreement",
                        draft=label,
                        draft_precision=precision,
                        target=target,
                        kv_cache=kv_cache,
                        prompt=index,
                        keeps=[int(keep) for keep in keeps],
                    )
            except (UserError, RuntimeError, MemoryError) as error:
                self._lose(error, draft=label, draft_precision=precision)

    def _all_texts(self) -> Iterator[tuple[str, str, int, list[int]]]:
        for (target, kv_cache), texts in self.texts.items():
            for index, ids in sorted(texts.items()):
                yield target, kv_cache, index, ids

    @staticmethod
    def _key(event: Event) -> tuple[Any, ...]:
        return tuple(event[name] for name in ("draft", "draft_precision", "target", "kv_cache", "prompt"))

    def _capacity(self) -> int:
        return max(map(len, self.prompts)) + self.config.max_new_tokens

    def _lose(self, error: Exception, **which: str) -> None:
        status, reason = failure_of(error)
        self.emit("lost", status=status, reason=reason, **which)
