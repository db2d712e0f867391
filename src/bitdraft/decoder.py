"""The native engine for one's own prompts: a model, perhaps with a draft, that writes text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bitdraft.backends import load_model, token_model
from bitdraft.backends.base import EngineSetup
from bitdraft.backends.native import NativeEngine
from bitdraft.config import (
    MOST_K,
    NGRAM,
    PRECISIONS,
    DecodingConfig,
    Execution,
    ModelConfig,
    Precision,
    SamplingConfig,
    make_config,
)
from bitdraft.engine.check import check_model
from bitdraft.errors import Unsupported, UserError
from bitdraft.inputs.checkpoints import find_checkpoint
from bitdraft.inputs.models import resolve_device
from bitdraft.inputs.tokenizers import (
    check_token_ids,
    draft_tokenizer_problem,
    foreign_ids,
    load_tokenizer,
    text_encoder,
)
from bitdraft.inputs.variants import Variant, check_variant, draft_format
from bitdraft.schema.records import Generation

_SAMPLE = (
    "Two tokenizers may know the same tokens (12,345 of them) and still split  text in other places:\nçà, 词."
)


class DecoderConfig(ModelConfig, SamplingConfig):
    """`draft` is a checkpoint, `ngram` (prompt lookup) or None for plain decoding; K = `k` then."""

    precision: Precision = PRECISIONS[0]
    draft: str | None = None
    k: int = 0
    draft_precision: Precision | None = None
    execution: Execution = "auto"


@dataclass(frozen=True)
class Completion:
    """New text and its token ids, without the prompt; `generation` has the times and the steps."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: Literal["length", "eos"]
    generation: Generation


def _loaded(variant: Variant, device: Any, config: ModelConfig, field: str) -> Any:
    try:
        return load_model(variant, device, config).model
    except Unsupported as error:
        raise UserError(field, variant.name, str(error), "Choose another format") from error


class Decoder:
    """`Decoder("path/or/hub-id", draft="ngram", k=8).generate("Once upon")`.

    Keywords are the fields of `DecoderConfig`; greedy unless `temperature` is above 0. Raises `UserError`.
    """

    def __init__(self, model: str, **settings: Any) -> None:
        self.config = config = make_config(DecoderConfig, {"model": model, **settings})
        if config.draft is not None and not 1 <= config.k <= MOST_K:
            raise UserError("k", config.k, "a draft needs a number of tokens", f"Give k from 1 to {MOST_K}")
        checkpoint = find_checkpoint(config)
        device = resolve_device(config.device)
        self._tokenizer = load_tokenizer(checkpoint, config)
        self._checkpoint, self._context = checkpoint, checkpoint.context
        foreign: dict[str, tuple[int, ...]] = {}
        drafts: dict[str, Any] = {}
        if config.draft == NGRAM:
            drafts[NGRAM] = None
        elif config.draft is not None:
            own = config.model_copy(update={"model": config.draft, "revision": None, "gguf": ()})
            found = find_checkpoint(own, "draft")
            own_tokenizer = load_tokenizer(found, own, "draft")
            problem = draft_tokenizer_problem(own_tokenizer, self._tokenizer, _SAMPLE)
            if problem is not None:
                raise UserError("draft", config.draft, problem, f"Choose one with the tokenizer of {model}")
            foreign[config.draft] = foreign_ids(own_tokenizer, self._tokenizer)
            self._context = min(self._context, found.context)
            precision = draft_format(Variant(checkpoint, config.precision), found, config.draft_precision)
            check_variant(Variant(found, precision), "draft_precision")
            drafts[config.draft] = _loaded(Variant(found, precision), device, own, "draft_precision")
        check_variant(Variant(checkpoint, config.precision), "precision")
        target = _loaded(Variant(checkpoint, config.precision), device, config, "precision")
        sample = text_encoder(self._tokenizer)(_SAMPLE)
        check_model(token_model(target), sample, model)
        for name, draft in drafts.items():
            if draft is not None:
                check_model(token_model(draft), sample, name, "draft")
        setup = EngineSetup(target, drafts, config, config.execution, foreign=foreign)
        self._decoder = NativeEngine(setup)

    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        max_new_tokens: int = 200,
        ignore_eos: bool = False,
        seed: int | None = None,
    ) -> Completion:
        """Continue a text, or token ids. `seed` is for sampling; the decoder's own by default."""
        values = {"max_new_tokens": max_new_tokens, "ignore_eos": ignore_eos}
        decoding = make_config(DecodingConfig, values)
        ids = text_encoder(self._tokenizer)(prompt) if isinstance(prompt, str) else list(prompt)
        if not ids:
            raise UserError("prompt", repr(prompt), "it has no token", "Give some text to continue")
        check_token_ids(max(ids), self._checkpoint, "prompt")
        if len(ids) + max_new_tokens > self._context:
            words = f"{len(ids)} prompt tokens and {max_new_tokens} new ones"
            problem = f"{words} exceed the context of {self._context}"
            raise UserError("max_new_tokens", max_new_tokens, problem, "Shorten the prompt, or ask for fewer")
        self._decoder.prepare(ids, decoding)
        draft, k = self.config.draft, self.config.k if self.config.draft else 0
        own_seed = self.config.seed if seed is None else seed
        found = self._decoder.decode(decoding, draft, k, own_seed)
        text: str = self._tokenizer.decode(list(found.token_ids), skip_special_tokens=True)
        return Completion(text, found.token_ids, found.finish_reason, found)
