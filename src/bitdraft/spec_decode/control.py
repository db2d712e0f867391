"""Is a greedy run that left K = 0's text a rounding tie or a bug? The same two runs at a wider precision
tell: a bug of the loop shows there too, a tie of two logits does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from bitdraft import formats
from bitdraft.backends import Engine
from bitdraft.engine.runner import Runner
from bitdraft.schema.records import Divergence, Generation
from bitdraft.spec_decode.worker import Worker

MOST_CONTROLS = 8


def first_difference(expected: Generation, found: Generation) -> int:
    pairs = zip(expected.token_ids, found.token_ids, strict=False)
    shorter = min(len(expected.token_ids), len(found.token_ids))
    return next((index for index, (one, other) in enumerate(pairs) if one != other), shorter)


@torch.inference_mode()
def logit_gap(target: Runner, text: list[int]) -> float:
    """The lead of the most probable next token over the second, in logits of the run's precision."""
    target.start(len(text))
    top_2 = target.forward(target.to_device(text))[0, -1].float().topk(2).values
    return float(top_2[0] - top_2[1])


class Diverged(NamedTuple):
    """A greedy run whose text is not the baseline's."""

    prompt: int
    draft: str
    k: int
    baseline: Generation
    run: Generation


def explain(worker: Worker, engine: Engine, found: Sequence[Diverged]) -> None:
    """Emit a `divergence` for each.

    Runs that part at the same place of the same prompt share one control, of the first of them; at
    most eight places have one.
    """
    target = engine.runner(None)
    gaps: dict[tuple[int, int], float] = {}
    controls: dict[tuple[int, int], bool] = {}
    wide = formats.find(worker.config.precision).wider_name
    control = None
    for done, one in enumerate(found):
        worker.emit("progress", stage="lossless", done=done, total=len(found))
        index = first_difference(one.baseline, one.run)
        where = (one.prompt, index)
        if where not in gaps:
            text = [*worker.prompts[one.prompt], *one.baseline.token_ids[:index]]
            gaps[where] = logit_gap(target, text)
        if where not in controls and len(controls) < MOST_CONTROLS:
            control = control or worker.engine(_wide_target(worker, target.device))
            controls[where] = _agree(worker, control, one.prompt, one.draft, one.k)
        divergence = Divergence(
            prompt=one.prompt,
            position=index,
            expected=_token_at(one.baseline, index),
            found=_token_at(one.run, index),
            logit_gap=gaps[where],
            control_precision=wide if where in controls else None,
            control_agrees=controls.get(where),
        )
        worker.emit("divergence", draft=one.draft, k=one.k, divergence=divergence.model_dump())


def _token_at(generation: Generation, index: int) -> int:
    return generation.token_ids[index] if index < len(generation.token_ids) else -1


def _wide_target(worker: Worker, device: torch.device) -> Any:
    """The target in the wider dtype of its format: fp32, or fp64 where it was measured in fp32."""
    own = formats.find(worker.config.precision)
    widest = formats.default_reference(formats.NAMES)
    model = worker.load(worker.config.model, widest, device).model
    return model.to(getattr(torch, own.wider))


def _agree(worker: Worker, control: Engine, index: int, draft: str, k: int) -> bool:
    control.prepare(worker.prompts[index], worker.config)
    plain = worker.decode(control, None, 0, index)
    return worker.decode(control, draft, k, index).token_ids == plain.token_ids
