"""Costs of one draft forward and of one target forward over 1 … K + 1 tokens, in seconds.

Timed on the run's own text in the middle of its output, draft and target in turn as in a real step,
so that each finds the processor's caches as the other leaves them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bitdraft.backends import Engine
from bitdraft.config import SpecDecodeConfig

DRAFTED = 4


def measure_costs(  # noqa: PLR0917
    engine: Engine,
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
    text += [prompt[index % len(prompt)] for index in range(middle - len(text))]
    context = text[:middle]
    target_s: dict[str, list[float]] = {str(size): [] for size in sizes}
    draft_s: dict[str, list[float]] = {label: [] for label in drafts}
    for turn in range(num_rounds):
        # every size and every draft at least once a round
        for index in range(max(len(sizes), len(drafts))):
            size = sizes[index % len(sizes)]
            if drafts:
                label = drafts[(index + turn) % len(drafts)]
                spent_s = engine.draft_seconds(label, [context], most_drafted)
                draft_s[label].append(spent_s / most_drafted)
            target_s[str(size)].append(engine.verify_seconds([context], size - 1))
    return {"target_s": target_s, "draft_s": draft_s}
