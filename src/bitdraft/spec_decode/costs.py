"""Costs of one draft forward and of one target forward over 1 … K + 1 tokens, in seconds.

Timed on the run's own text in the middle of its output, draft and target in turn as in a real step,
so that each finds the processor's caches as the other leaves them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from bitdraft.backends.native import NativeSpeculation
from bitdraft.config import SpecDecodeConfig
from bitdraft.engine.drafters import NgramDrafter
from bitdraft.engine.runner import Runner
from bitdraft.engine.verify import Sampler
from bitdraft.timing import now, synchronize

DRAFTED = 4


@torch.inference_mode()
def measure_costs(  # noqa: PLR0917
    speculation: NativeSpeculation,
    prompt: Sequence[int],
    output: Sequence[int],
    config: SpecDecodeConfig,
    drafts: Sequence[str],
    num_rounds: int,
) -> dict[str, Any]:
    """{"target_s": {tokens: [s]}, "draft_s": {draft: [s a forward]}}. The prompt is prefilled already,
    and its drafters have been used. Where the output is too short, the prompt's tokens follow it:
    which tokens they are makes no difference to the time."""
    sizes = [1, *(k + 1 for k in config.k)]
    most_drafted = min(DRAFTED, config.max_new_tokens - 2)
    room = max(*sizes, most_drafted + 1)
    middle = len(prompt) + min(len(output) // 2, config.max_new_tokens - room)
    text = [*prompt, *output]
    text += [prompt[place % len(prompt)] for place in range(middle + room - len(text))]
    sampler = speculation.sampler(0)
    target_s: dict[str, list[float]] = {str(size): [] for size in sizes}
    draft_s: dict[str, list[float]] = {label: [] for label in drafts}
    for turn in range(num_rounds):
        for place, size in enumerate(sizes):
            if drafts:
                label = drafts[(place + turn) % len(drafts)]
                draft_s[label].append(
                    _draft_seconds(speculation, label, text[:middle], most_drafted, sampler)
                )
            target_s[str(size)].append(
                _target_seconds(speculation.target, text[: middle + size], size, sampler)
            )
    return {"target_s": target_s, "draft_s": draft_s}


def _draft_seconds(
    speculation: NativeSpeculation, label: str, context: list[int], num_tokens: int, sampler: Sampler | None
) -> float:
    drafter, device = speculation.drafters[label], speculation.target.device
    drafter.rewind(len(context) - 1)
    if isinstance(drafter, NgramDrafter):
        drafter.propose(context, 1)  # indexes what is new to it; a model must not find its weights warm
    synchronize(device)
    start_s = now()
    drafter.draft(context, num_tokens, sampler)
    synchronize(device)
    return (now() - start_s) / num_tokens


def _target_seconds(target: Runner, text: list[int], size: int, sampler: Sampler | None) -> float:
    """A verification as the engine does it: tokens to the device, forward, choice, ids to the host."""
    target.cache.keep(len(text) - size)
    synchronize(target.device)
    start_s = now()
    logits_TV = target.forward(target.to_device(text[-size:]), size)[0]
    chosen_T = logits_TV.max(-1).indices
    if sampler is not None:
        chosen_T = sampler.draw(sampler.probabilities(logits_TV))
    chosen_T.tolist()
    return now() - start_s
