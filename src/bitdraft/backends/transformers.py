"""The `transformers` backend: its own `generate`, timed on token ids.

Times come from a streamer that receives ids, not text: a text streamer holds words back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from transformers import GenerationConfig
from transformers.generation.streamers import BaseStreamer

from bitdraft.backends.native import end_of_sequence_ids
from bitdraft.config import DecodingConfig
from bitdraft.results import Generation
from bitdraft.timing import now


class _IdClock(BaseStreamer):  # type: ignore[misc]
    """Notes the time of every hand-over of ids; the first is the prompt and is dropped."""

    def __init__(self) -> None:
        self.emissions: list[tuple[float, int]] = []
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        if self._prompt_seen:
            self.emissions.append((now(), value.numel()))
        self._prompt_seen = True

    def end(self) -> None:
        pass


@contextlib.contextmanager
def _generation_defaults(model: Any, config: GenerationConfig) -> Iterator[None]:
    """`generate` fills unset values from the model's own config, so that one is replaced meanwhile."""
    saved = model.generation_config
    model.generation_config = config
    try:
        yield
    finally:
        model.generation_config = saved


def transformers(model: Any) -> Callable[[Sequence[int], DecodingConfig], Generation]:
    eos_ids = end_of_sequence_ids(model)

    def generate(prompt: Sequence[int], config: DecodingConfig) -> Generation:
        stops = None if config.ignore_eos else sorted(eos_ids) or None
        settings = GenerationConfig(
            do_sample=False,
            max_new_tokens=config.max_new_tokens,
            eos_token_id=stops,
            pad_token_id=min(eos_ids, default=0),
        )
        clock = _IdClock()
        with torch.inference_mode(), _generation_defaults(model, settings):
            submit_s = now()
            tokens = torch.tensor([prompt], dtype=torch.long, device=model.device)
            output = model.generate(tokens, attention_mask=torch.ones_like(tokens), streamer=clock)
        token_ids = tuple(output[0, len(prompt) :].tolist())
        assert sum(count for _, count in clock.emissions) == len(token_ids)
        reason: Literal["length", "eos"] = "eos" if stops and token_ids[-1] in stops else "length"
        return Generation(
            prompt_tokens=len(prompt),
            submit_s=submit_s,
            emissions=tuple(clock.emissions),
            token_ids=token_ids,
            finish_reason=reason,
        )

    return generate
