"""The `transformers` backend: its own `generate`, timed on token ids, with a K that is K.

Times come from a streamer that receives ids, not text: a text streamer holds words back.

`generate` reads the number of assistant tokens from the assistant's own generation config, lets it
grow and shrink, and stops a draft early where the assistant is unsure or, even where the target ignores
it, at the assistant's EOS. All four are fixed in a config that stands in for the assistant's own
meanwhile, and the draft's forwards are counted, so that a K that isn't K is an error.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from transformers import GenerationConfig
from transformers.generation.streamers import BaseStreamer

from bitdraft.backends.base import GREEDY, Engine, EngineSetup, UnexpectedK
from bitdraft.backends.native import end_of_sequence_ids
from bitdraft.config import CAPABILITIES, DecodingConfig, SamplingConfig
from bitdraft.engine.runner import Runner
from bitdraft.errors import UserError
from bitdraft.probes.clock import now
from bitdraft.schema.records import Generation, Step


class _IdClock(BaseStreamer):  # type: ignore[misc]
    """Notes the time of every hand-over of ids, the prompt's excepted, and the draft forwards before it."""

    def __init__(self) -> None:
        self.emissions: list[tuple[float, int]] = []
        self.drafted: list[int] = []
        self.num_draft_calls = 0
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        if self._prompt_seen:
            self.emissions.append((now(), value.numel()))
            self.drafted.append(self.num_draft_calls - sum(self.drafted))
        self._prompt_seen = True

    def end(self) -> None:
        pass

    def count_draft_call(self, *_: Any) -> None:
        self.num_draft_calls += 1


@contextlib.contextmanager
def _generation_defaults(model: Any, config: GenerationConfig) -> Iterator[None]:
    """`generate` fills unset values from the model's own config, so that one is replaced meanwhile."""
    saved = model.generation_config
    model.generation_config = config
    try:
        yield
    finally:
        model.generation_config = saved


@contextlib.contextmanager
def _true_k(assistant: Any, k: int, settings: GenerationConfig, clock: _IdClock) -> Iterator[dict[str, Any]]:
    """Within, the assistant drafts exactly K tokens and its forwards are counted."""
    fixed = copy.deepcopy(settings)
    fixed.num_assistant_tokens = k
    fixed.num_assistant_tokens_schedule = "constant"
    fixed.assistant_confidence_threshold = 0.0
    hook = assistant.register_forward_pre_hook(clock.count_draft_call)
    try:
        with _generation_defaults(assistant, fixed):
            yield {"assistant_model": assistant}
    finally:
        hook.remove()


def _steps(clock: _IdClock, k: int, config: DecodingConfig, ended: bool) -> tuple[Step, ...]:
    """Each hand-over of ids is a verification. Raises `UnexpectedK`.

    A draft ends at EOS where EOS ends a text, because `generate` looks for it only in last place.
    """
    steps: list[Step] = []
    done = 0
    for index, ((_, count), drafted) in enumerate(zip(clock.emissions, clock.drafted, strict=True)):
        expected = min(k, config.max_new_tokens - done - 1)
        if drafted > expected or (drafted < expected and config.ignore_eos):
            raise UnexpectedK(f"step {index} drafted {drafted} tokens where K = {k} makes {expected}")
        cut = drafted < k or (ended and index == len(clock.emissions) - 1)
        steps.append(Step(drafted, min(count - 1, drafted), cut))
        done += count
    return tuple(steps)


def _settings(sampling: SamplingConfig, config: DecodingConfig, eos_ids: frozenset[int]) -> GenerationConfig:
    cut: dict[str, Any] = {"do_sample": False}
    if sampling.temperature > 0:
        # top_k is 50 where it is left out
        top_k, top_p = sampling.top_k or 0, sampling.top_p or 1.0
        cut = {"do_sample": True, "temperature": sampling.temperature, "top_k": top_k, "top_p": top_p}
    return GenerationConfig(
        **cut,
        max_new_tokens=config.max_new_tokens,
        eos_token_id=None if config.ignore_eos else sorted(eos_ids) or None,
        pad_token_id=min(eos_ids, default=0),
    )


def transformers(
    model: Any, sampling: SamplingConfig = GREEDY, assistant: Any = None, k: int = 0
) -> Callable[[Sequence[int], DecodingConfig], Generation]:
    """`generate`, with an assistant where one is given. Its first verification includes the prefill,
    so a run has as many steps as emissions."""
    eos_ids = end_of_sequence_ids(model)

    def generate(prompt: Sequence[int], config: DecodingConfig) -> Generation:
        clock = _IdClock()
        settings = _settings(sampling, config, eos_ids)
        speculation: Any = contextlib.nullcontext({})
        if assistant is not None:
            speculation = _true_k(assistant, k, settings, clock)
        with (
            torch.inference_mode(),
            _generation_defaults(model, settings),
            speculation as extra,
        ):
            submit_s = now()
            tokens = torch.tensor([prompt], dtype=torch.long, device=model.device)
            mask = torch.ones_like(tokens)
            output = model.generate(tokens, attention_mask=mask, streamer=clock, **extra)
        token_ids = tuple(output[0, len(prompt) :].tolist())
        assert sum(count for _, count in clock.emissions) == len(token_ids)
        ended = not config.ignore_eos and token_ids[-1] in eos_ids
        reason: Literal["length", "eos"] = "eos" if ended else "length"
        return Generation(
            prompt_tokens=len(prompt),
            submit_s=submit_s,
            emissions=tuple(clock.emissions),
            steps=_steps(clock, k, config, ended) if assistant is not None else (),
            token_ids=token_ids,
            finish_reason=reason,
        )

    return generate


class TransformersEngine(Engine):
    """Decode one prompt after another with any draft and K, each run with a prefill of its own."""

    capabilities = CAPABILITIES["transformers"]

    def __init__(self, setup: EngineSetup) -> None:
        self._setup = setup
        self._prompt: Sequence[int] = ()

    def prepare(self, prompt: Sequence[int], config: DecodingConfig) -> None:
        """See `Engine`."""
        self._prompt = prompt

    def decode(
        self, config: DecodingConfig, draft: str | None, k: int, seed: int, oracle_ids: Sequence[int] = ()
    ) -> Generation:
        """See `Engine`. Raises `UnexpectedK` where a step did not draft K tokens."""
        setup = self._setup
        assistant = None if draft is None else setup.drafts[draft]
        if assistant is not None:
            _refuse_other_padding(setup.target, assistant)
        torch.manual_seed(seed)
        return transformers(setup.target, setup.sampling, assistant, k)(self._prompt, config)

    def runner(self, draft: str | None) -> Runner:
        """See `Engine`."""
        setup = self._setup
        return Runner(setup.target if draft is None else setup.drafts[draft], setup.vocabulary(draft))


def _refuse_other_padding(target: Any, assistant: Any) -> None:
    sizes = [model.config.get_text_config().vocab_size for model in (target, assistant)]
    if sizes[0] != sizes[1]:
        problem = f"embeddings of {sizes[1]} and {sizes[0]} rows are two vocabularies to transformers"
        raise UserError("backend", "transformers", problem, "Use --backend native")
