"""K = 0: prefill, then one token at a time, greedy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from bitdraft.config import DecodingConfig
from bitdraft.engine.runner import Runner
from bitdraft.results import Generation
from bitdraft.timing import now


@torch.inference_mode()
def decode(
    runner: Runner, prompt: Sequence[int], config: DecodingConfig, eos_ids: frozenset[int] = frozenset()
) -> Generation:
    """Decode one prompt. `eos_ids` end the run unless the config ignores them; the ending token is kept."""
    stops = frozenset[int]() if config.ignore_eos else eos_ids
    submit_s = now()
    runner.start(len(prompt) + config.max_new_tokens)
    token = runner.forward(runner.to_device(prompt))[:, -1].argmax(-1, keepdim=True)
    token_ids, emissions = [int(token)], [(now(), 1)]
    reason: Literal["length", "eos"] = "eos" if token_ids[-1] in stops else "length"
    while len(token_ids) < config.max_new_tokens and reason != "eos":
        token = runner.forward(token)[:, -1].argmax(-1, keepdim=True)
        token_ids.append(int(token))
        emissions.append((now(), 1))
        if token_ids[-1] in stops:
            reason = "eos"
    return Generation(
        prompt_tokens=len(prompt),
        submit_s=submit_s,
        emissions=tuple(emissions),
        token_ids=tuple(token_ids),
        finish_reason=reason,
    )
