"""Costs of one draft forward and of one target forward over 1 … K + 1 tokens, in seconds.

Timed on the run's own text in the middle of its output, draft and target in turn as in a real step,
so that each finds the processor's caches as the other leaves them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from bitdraft.backends.native import NativeSpeculation
from bitdraft.engine.drafters import NgramDrafter
from bitdraft.timing import now, synchronize

DRAFTED = 4


@torch.inference_mode()
def measure_costs(
    speculation: NativeSpeculation,
    prompt: Sequence[int],
    output: Sequence[int],
    *,
    ks: Sequence[int],
    drafts: Sequence[str],
    num_rounds: int,
) -> dict[str, Any]:
    """{"target_s": {tokens: [s]}, "draft_s": {draft: [s a forward]}}. The prompt is prefilled already,
    and its drafters have been used; the caches hold at least half of the output afterwards."""
    sizes = [1, *(k + 1 for k in ks)]
    room = max(*sizes, DRAFTED + 1)
    text = [*prompt, *output]
    middle = min(len(prompt) + len(output) // 2, len(text) - room)
    target_s: dict[str, list[float]] = {str(size): [] for size in sizes}
    draft_s: dict[str, list[float]] = {label: [] for label in drafts}
    for turn in range(num_rounds):
        for place, size in enumerate(sizes):
            if drafts:
                label = drafts[(place + turn) % len(drafts)]
                draft_s[label].append(_draft_seconds(speculation, label, text[:middle]))
            target_s[str(size)].append(_target_seconds(speculation, text, middle, size))
    return {"target_s": target_s, "draft_s": draft_s}


def _draft_seconds(speculation: NativeSpeculation, label: str, context: list[int]) -> float:
    drafter = speculation.drafters[label]
    drafter.rewind(len(context) - 1)
    if isinstance(drafter, NgramDrafter):
        drafter.propose(context, 1)  # indexes what is new to it; a model must not find its weights warm
    synchronize(speculation.target.device)
    start_s = now()
    drafter.draft(context, DRAFTED, None)
    synchronize(speculation.target.device)
    return (now() - start_s) / DRAFTED


def _target_seconds(speculation: NativeSpeculation, text: list[int], middle: int, size: int) -> float:
    """A verification as the engine does it: tokens to the device, forward, argmax, ids to the host."""
    target = speculation.target
    target.cache.keep(middle)
    synchronize(target.device)
    start_s = now()
    tokens_BT = target.to_device(text[middle : middle + size])
    target.forward(tokens_BT, size)[0].max(-1).indices.tolist()
    return now() - start_s
