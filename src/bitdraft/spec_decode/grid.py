"""Costs on a grid of batch sizes and contexts: what a K schedule is made of, beside the replay.

At each point the target's forward over 1, 2 … K + 1 tokens of every row, and a forward of each draft, in
turn, several rounds. Which tokens a context holds makes no difference to the time of a dense model; they are
the prompts', one behind the other, each row from another place on.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from bitdraft.backends import Engine
from bitdraft.config import DecodingConfig
from bitdraft.errors import UserError
from bitdraft.spec_decode.failures import failure_of
from bitdraft.spec_decode.worker import Worker

NUM_ROUNDS = 9
_MOST_DRAFTED = 4


def measure_grid(worker: Worker, engine: Engine) -> None:
    """Emits a `grid` for each batch size and context, and a `grid_failed` where there is no room, behind
    which larger ones are not tried."""
    config = worker.config
    points = [(size, context) for size in config.batch_sizes for context in config.contexts]
    earlier = (*worker.earlier("grid"), *worker.earlier("grid_failed"))
    known = {(event["batch_size"], event["context"]) for event in earlier}
    lost: list[tuple[int, int]] = []
    for done, (size, context) in enumerate(points):
        worker.emit("progress", stage="grid", done=done, total=len(points))
        if (size, context) in known:
            continue
        if any(size >= own and context >= other for own, other in lost):
            continue
        start_s = time.perf_counter()
        try:
            with worker.emit.slow():
                found = _point(worker, engine, size, context)
        except (UserError, RuntimeError, MemoryError) as error:
            lost.append((size, context))
            status, why = failure_of(error)
            worker.emit("grid_failed", batch_size=size, context=context, status=status, reason=why)
            continue
        spent_s = time.perf_counter() - start_s
        worker.emit("grid", batch_size=size, context=context, seconds=spent_s, **found)


def _point(worker: Worker, engine: Engine, size: int, context: int) -> dict[str, object]:
    """{"target_s": {tokens: [s]}, "draft_s": {draft: [s a forward]}}, each round's in its place."""
    config, labels = worker.config, worker.labels
    tokens = [1, *(k + 1 for k in config.k)]
    drafted = min(_MOST_DRAFTED, config.k[-1])
    room = DecodingConfig(max_new_tokens=max(tokens) + drafted + 2)
    texts = _texts(worker.prompts, size, context + 1)
    engine.prepare_batch([text[:-1] for text in texts], room)
    for label in labels:
        engine.prefill_seconds(label)
    target_s: dict[str, list[float]] = {str(num): [] for num in tokens}
    draft_s: dict[str, list[float]] = {label: [] for label in labels}
    for turn in range(NUM_ROUNDS + 1):
        for label in labels:
            spent_s = engine.draft_seconds(label, texts, drafted)
            draft_s[label].append(spent_s / drafted)
        for num in tokens if turn % 2 == 0 else reversed(tokens):
            target_s[str(num)].append(engine.verify_seconds(texts, num - 1))
    # the first round is slow: shapes and caches are new
    return {
        "target_s": {num: found[1:] for num, found in target_s.items()},
        "draft_s": {label: found[1:] for label, found in draft_s.items()},
    }


def _texts(prompts: Sequence[Sequence[int]], size: int, length: int) -> list[list[int]]:
    """A text of this length for each row."""
    tokens = [token for prompt in prompts for token in prompt]
    starts = [row * len(tokens) // size for row in range(size)]
    return [[tokens[(start + place) % len(tokens)] for place in range(length)] for start in starts]
