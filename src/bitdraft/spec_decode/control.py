"""Is a greedy run that left K = 0's text a rounding tie or a bug? The same two runs at a wider precision, in
the same execution, tell: a bug of the loop shows there too, a tie of two logits does not. And a tie is near:
a token that is further behind than rounding can make it is unexplained, whatever the control says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from bitdraft import formats
from bitdraft.backends import Engine, wider_model
from bitdraft.config import Execution
from bitdraft.engine.token_model import TokenModel
from bitdraft.errors import UserError
from bitdraft.inputs.checkpoints import find_checkpoint
from bitdraft.inputs.variants import Variant
from bitdraft.schema.records import Divergence, Generation
from bitdraft.spec_decode.failures import failure_of
from bitdraft.spec_decode.worker import Worker

MOST_CONTROLS = 64


def first_difference(expected: Generation, found: Generation) -> int:
    """The place of the first token that is another, or where the shorter one ends."""
    pairs = zip(expected.token_ids, found.token_ids, strict=False)
    shorter = min(len(expected.token_ids), len(found.token_ids))
    return next((index for index, (one, other) in enumerate(pairs) if one != other), shorter)


@torch.inference_mode()
def logit_gap(target: TokenModel, text: list[int], token_ids: Sequence[int]) -> float:
    """How far the least probable of these next tokens is behind the most probable one of all, in logits of
    the run's precision."""
    target.start(len(text))
    logits_V = target.forward(target.to_device(text))[0, -1].float()
    return float(logits_V.max() - logits_V[list(token_ids)].min())


class Diverged(NamedTuple):
    """A greedy run whose text is not the baseline's."""

    prompt: int
    draft: str
    k: int
    baseline: Generation
    run: Generation


def explain(worker: Worker, engine: Engine, found: Sequence[Diverged]) -> None:
    """Emit a `divergence` for each.

    Each has a control of its own, 64 at most.
    """
    target = engine.runner(None)
    gaps: dict[tuple[int, int, int], float] = {}
    controls: dict[int, bool] = {}
    wide = formats.find(worker.config.precision).wider_name
    mode = engine.decisions().get("mode")
    control, is_lost = None, False
    for done, one in enumerate(found):
        worker.emit("progress", stage="lossless", done=done, total=len(found))
        index = first_difference(one.baseline, one.run)
        tokens = token_at(one.baseline, index), token_at(one.run, index)
        gap = (one.prompt, index, tokens[1])
        if gap not in gaps and min(tokens) >= 0:
            text = [*worker.prompts[one.prompt], *one.baseline.token_ids[:index]]
            gaps[gap] = logit_gap(target, text, tokens)
        if len(controls) < MOST_CONTROLS and not is_lost:
            try:
                control = control or _control(worker, target, mode)
                controls[done] = _agree(worker, control, one.prompt, one.draft, one.k)
            except (RuntimeError, MemoryError, UserError) as error:
                is_lost = True
                worker.note("spec.no_control", why=failure_of(error)[1])
        divergence = Divergence(
            prompt=one.prompt,
            position=index,
            expected=tokens[0],
            found=tokens[1],
            logit_gap=gaps.get(gap),
            tie_lead=formats.find(worker.config.precision).tie_lead,
            control_precision=wide if done in controls else None,
            control_agrees=controls.get(done),
        )
        worker.emit("divergence", draft=one.draft, k=one.k, divergence=divergence.model_dump())


def token_at(generation: Generation, index: int) -> int:
    """-1 behind its end."""
    return generation.token_ids[index] if index < len(generation.token_ids) else -1


def _control(worker: Worker, target: TokenModel, mode: Execution | None) -> Engine:
    """The wider target with the same drafts, run in the same way."""
    variant = Variant(find_checkpoint(worker.config), worker.config.precision)
    with worker.emit.slow():
        wide = wider_model(target.model, variant, target.device, worker.config)
    engine = worker.engine(wide, mode)
    found = engine.decisions().get("mode")
    if found != mode:
        why = f"the wider precision is run in another way ({found} in place of {mode})"
        raise UserError("execution", mode, why, "Use --execution eager")
    return engine


def _agree(worker: Worker, control: Engine, index: int, draft: str, k: int) -> bool:
    control.prepare(worker.prompts[index], worker.config)
    plain = worker.decode(control, None, 0, index)
    return worker.decode(control, draft, k, index).token_ids == plain.token_ids
