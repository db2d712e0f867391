"""The native backend: bitdraft's own engine, by the static path where all models allow it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bitdraft.backends.base import Engine, EngineSetup
from bitdraft.backends.llama_cpp import LlamaModel, LlamaRows
from bitdraft.backends.loading import token_model
from bitdraft.config import CAPABILITIES, DecodingConfig, Execution
from bitdraft.engine.acceptance import Sampler
from bitdraft.engine.cpu.layers import prepare_linears
from bitdraft.engine.drafters.base import EagerDrafter, StaticDrafter
from bitdraft.engine.drafters.lookup import NgramDrafter, StaticNgramDrafter
from bitdraft.engine.drafters.model import ModelDrafter, StaticModelDrafter
from bitdraft.engine.loop import PrefilledPrompt
from bitdraft.engine.static.decoding import StaticPrompts
from bitdraft.engine.static.forward import StaticForward, unsupported_reason
from bitdraft.engine.static.run import SamplingState
from bitdraft.engine.token_model import TokenModel
from bitdraft.engine.vocabulary import num_ids
from bitdraft.errors import UserError
from bitdraft.probes.clock import now
from bitdraft.schema.records import Generation

_AUTO_PROMPT, _AUTO_TOKENS, _AUTO_ROUNDS = 16, 8, 3
_CLEARLY = 0.95
_LLAMA_CPPS = "llama.cpp runs it in its own way"


def end_of_sequence_ids(model: Any) -> frozenset[int]:
    """The token ids that end a text, from the model's generation config, or from a GGUF file."""
    if isinstance(model, LlamaModel):
        return model.eos_ids
    ids = model.generation_config.eos_token_id
    return frozenset([ids] if isinstance(ids, int) else ids or ())


class NativeEngine(Engine):
    """bitdraft's own engine: one prompt, or one batch, after another with any draft and K.

    `mode` is how models are run, and `fallback_reason` says why that is not the static path, where it
    was asked for. Raises `UserError` for a model without a key-value cache.
    """

    capabilities = CAPABILITIES["native"]

    def __init__(self, setup: EngineSetup) -> None:
        self._setup, target, drafts = setup, setup.target, setup.drafts
        self._capacity, self._choices = setup.capacity, setup.choices
        self._models = {None: target} | {label: model for label, model in drafts.items() if model is not None}
        for model in self._models.values():
            if not isinstance(model, LlamaModel):
                prepare_linears(model, setup.choices)
        self.device = target.device
        self._runners = {
            label: token_model(model, setup.vocabulary(label)) for label, model in self._models.items()
        }
        self.drafters: dict[str, EagerDrafter] = {
            label: NgramDrafter(self.device, num_ids(target))
            if model is None
            else ModelDrafter(self._runners[label], self.device)
            for label, model in drafts.items()
        }
        self.sampler = None if setup.sampling.temperature == 0 else Sampler(setup.sampling)
        self._eos_ids = end_of_sequence_ids(target)
        self._prefilled: PrefilledPrompt | StaticPrompts | None = None
        self.fallback_reason: str | None = None
        self.mode = "eager" if setup.execution == "eager" else self._possible(setup.execution)
        are_of_llama_cpp = [isinstance(model, LlamaModel) for model in self._models.values()]
        if any(are_of_llama_cpp) and not all(are_of_llama_cpp):
            self.no_batches_reason = "models of several backends decode one prompt at a time"
        self._forwards: dict[str | None, Any] = {}
        self._static_drafters: dict[str, StaticDrafter] = {}
        if self.mode != "eager" or all(are_of_llama_cpp):
            self._go_static(drafts)
        if setup.execution == "auto" and self.mode != "eager":
            self._choose()

    def _possible(self, execution: Execution) -> str:
        if execution == "auto" and any(isinstance(model, LlamaModel) for model in self._models.values()):
            return "eager"
        for label, model in self._models.items():
            reason = _LLAMA_CPPS if isinstance(model, LlamaModel) else unsupported_reason(model)
            if reason is not None:
                who = "the target" if label is None else f"draft {label}"
                why = f"because {who} can't be otherwise: {reason}"
                self.fallback_reason = f"all models are run eagerly, {why}"
                return "eager"
        return "compiled" if execution == "compiled" else "static"

    def _go_static(self, drafts: Mapping[str, Any | None]) -> None:
        """What decodes batches, and where it is faster single prompts, too."""
        self._forwards = {label: self._rows_of(label, model) for label, model in self._models.items()}
        self._static_drafters = {
            label: StaticNgramDrafter() if model is None else StaticModelDrafter(self._forwards[label])
            for label, model in drafts.items()
        }

    def _rows_of(self, label: str | None, model: Any) -> StaticForward | LlamaRows:
        vocabulary = None if label is None else self._setup.vocabulary(label)
        if isinstance(model, LlamaModel):
            return LlamaRows(model, vocabulary, self._capacity)
        return StaticForward(model, vocabulary, self.mode, self._capacity)

    def _choose(self) -> None:
        """The static path, unless a short measurement of the target's decode steps says clearly otherwise."""
        config = DecodingConfig(max_new_tokens=_AUTO_TOKENS)
        prompt = [1] * _AUTO_PROMPT
        seconds: dict[str, list[float]] = {"static": [], "eager": []}
        for _ in range(1 + _AUTO_ROUNDS):
            for mode, found in seconds.items():
                self.mode = mode
                self.prepare(prompt, config)
                start_s = now()
                self.decode(config, None, 0, 0, finite_only=False)
                found.append(now() - start_s)
        best = {mode: min(found[1:]) for mode, found in seconds.items()}
        self.mode = "eager" if best["eager"] < _CLEARLY * best["static"] else "static"
        self._prefilled = None

    def prepare(self, prompt: Sequence[int], config: DecodingConfig) -> None:
        """Prefill a prompt once for all the runs that follow."""
        self.prepare_batch([prompt], config)

    def generate(self, prompt: Sequence[int], config: DecodingConfig) -> Generation:
        """See `Engine`."""
        self.prepare(prompt, config)
        return self.decode(config, None, 0, 0, finite_only=False)

    def prepare_batch(self, prompts: Sequence[Sequence[int]], config: DecodingConfig) -> None:
        """The same for prompts that are decoded at once. Raises `UserError` where models allow one alone."""
        if len(prompts) > 1 and not self._forwards:
            reason = self.fallback_reason or self.no_batches_reason
            reason = reason or "eager execution decodes one prompt at a time"
            raise UserError("batch_size", len(prompts), reason, "Use --batch-size 1")
        if self.mode == "eager" and len(prompts) == 1:
            self._prefilled = PrefilledPrompt(self._runners[None], prompts[0], config.max_new_tokens)
        else:
            self._prefilled = StaticPrompts(self._forwards[None], prompts, config.max_new_tokens)

    def runner(self, draft: str | None) -> TokenModel:
        """For scoring: the target's, or that of a draft that is a model."""
        return self._runners[draft]

    def execution(self, draft: str | None) -> dict[str, Any]:
        """See `Engine`. None of the preparation is part of a run's time."""
        return {"execution": self._how(draft), "preparation_s": self._preparation_s(draft)}

    def _how(self, draft: str | None) -> str:
        if isinstance(self._models[draft], LlamaModel):
            return LlamaRows.execution
        if self.mode == "eager" or draft not in self._forwards:
            return self.mode
        execution = self._forwards[draft].execution
        return f"{execution}, graphs" if self._forwards[None].graphs else execution

    def _preparation_s(self, draft: str | None) -> float:
        forward = self._forwards.get(draft)
        if forward is None:
            return 0.0
        return float(forward.preparation_s + (forward.graphs.capture_s if forward.graphs else 0.0))

    def decisions(self) -> dict[str, Any]:
        """See `Engine`."""
        return {"mode": self.mode, "products": self._choices.record()}

    def kv_bytes_per_token(self, draft: str | None) -> int:
        return self._runners[draft].kv_bytes_per_token

    def prefill_seconds(self, draft: str | None) -> float:
        """What the prepared prompt's prefill takes, in the target or in a draft."""
        assert self._prefilled is not None
        if draft is None:
            return self._prefilled.prefill_s
        if isinstance(self._prefilled, StaticPrompts):
            return self._prefilled.ready(self._static_drafters[draft])
        return self._prefilled.ready(self.drafters[draft])

    def decode(
        self,
        config: DecodingConfig,
        draft: str | None,
        k: int,
        seed: int,
        oracle_ids: Sequence[int] = (),
        *,
        finite_only: bool = True,
    ) -> Generation:
        """One run of the prepared prompt; K = 0 where no draft is named. `oracle_ids` are output tokens that
        a draft model is made to say."""
        return self.decode_batch(config, draft, k, [seed], [oracle_ids], finite_only=finite_only)[0]

    def decode_batch(
        self,
        config: DecodingConfig,
        draft: str | None,
        k: int,
        seeds: Sequence[int],
        oracle_ids: Sequence[Sequence[int]] = (),
        *,
        finite_only: bool = True,
    ) -> list[Generation]:
        """One run of the prepared prompts, a record and a seed for each."""
        if isinstance(self._prefilled, StaticPrompts):
            drafter = None if draft is None else self._static_drafters[draft]
            sampling = SamplingState(self.sampler, seeds)
            return self._prefilled.decode(
                config, drafter, k, sampling, self._eos_ids, oracle_ids, finite_only=finite_only
            )
        assert self._prefilled is not None
        run = self._prefilled.decode(
            config,
            None if draft is None else self.drafters[draft],
            k,
            self.sampler,
            self._eos_ids,
            oracle_ids[0] if oracle_ids else (),
            seed=seeds[0],
            finite_only=finite_only,
        )
        return [run]

    def draft_seconds(self, draft: str, texts: Sequence[list[int]], num_tokens: int) -> float:
        """What drafting `num_tokens` behind each text takes, which begin with the prepared prompts; its
        drafters have been used."""
        if isinstance(self._prefilled, StaticPrompts):
            drafter = self._static_drafters[draft]
            return self._prefilled.draft_seconds(drafter, texts, num_tokens, self.sampler)
        assert self._prefilled is not None
        (text,) = texts
        return self._prefilled.draft_seconds(self.drafters[draft], text, num_tokens, self.sampler)

    def verify_seconds(self, texts: Sequence[list[int]], num_drafted: int) -> float:
        """What the target's forward over each text's last token and `num_drafted` behind it takes, until the
        ids are on the host."""
        assert self._prefilled is not None
        if isinstance(self._prefilled, StaticPrompts):
            return self._prefilled.verify_seconds(texts, num_drafted, self.sampler)
        (text,) = texts
        return self._prefilled.verify_seconds(text, num_drafted, self.sampler)
