"""Is a greedy run that left K = 0's text a rounding tie or a bug? The same two runs at a wider precision
tell: a bug of the loop shows there too, a tie of two logits does not."""

from __future__ import annotations

from typing import Any

import torch

from bitdraft.backends import Speculation
from bitdraft.engine.runner import Runner
from bitdraft.schema.records import Divergence, Generation
from bitdraft.spec_decode.state import Cell

MOST_CONTROLS = 8


def first_difference(expected: Generation, found: Generation) -> int:
    pairs = zip(expected.token_ids, found.token_ids, strict=False)
    shorter = min(len(expected.token_ids), len(found.token_ids))
    return next((place for place, (one, other) in enumerate(pairs) if one != other), shorter)


@torch.inference_mode()
def logit_gap(target: Runner, text: list[int]) -> float:
    """The lead of the most probable next token over the second, in logits of the run's precision."""
    target.start(len(text))
    top_2 = target.forward(target.to_device(text))[0, -1].float().topk(2).values
    return float(top_2[0] - top_2[1])


def explain(
    cell: Cell, speculation: Speculation, found: list[tuple[int, str, int, Generation, Generation]]
) -> None:
    """Emit a `divergence` for each run in `found`: (prompt, draft, K, baseline, run).

    Runs that part at the same place of the same prompt share one control, of the first of them; at
    most eight places have one.
    """
    target = speculation.runner(None)
    gaps: dict[tuple[int, int], float] = {}
    controls: dict[tuple[int, int], bool] = {}
    wide = "fp64" if cell.config.precision == "fp32" else "fp32"
    control = None
    for done, (index, draft, k, baseline, run) in enumerate(found):
        cell.emit("progress", stage="lossless", done=done, total=len(found))
        place = first_difference(baseline, run)
        where = (index, place)
        if where not in gaps:
            gaps[where] = logit_gap(target, [*cell.prompts[index], *baseline.token_ids[:place]])
        if where not in controls and len(controls) < MOST_CONTROLS:
            control = control or cell.speculation(_wide_target(cell, target.device))
            controls[where] = _agree(cell, control, index, draft, k)
        divergence = Divergence(
            prompt=index,
            position=place,
            expected=_token_at(baseline, place),
            found=_token_at(run, place),
            logit_gap=gaps[where],
            control_precision=wide if where in controls else None,
            control_agrees=controls.get(where),
        )
        cell.emit("divergence", draft=draft, k=k, divergence=divergence.model_dump())


def _token_at(generation: Generation, place: int) -> int:
    return generation.token_ids[place] if place < len(generation.token_ids) else -1


def _wide_target(cell: Cell, device: torch.device) -> Any:
    """The target in fp32, or in fp64 where it was measured in fp32."""
    model = cell.load(cell.config.model, "fp32", device).model
    return model.double() if cell.config.precision == "fp32" else model


def _agree(cell: Cell, control: Speculation, index: int, draft: str, k: int) -> bool:
    control.prepare(cell.prompts[index], cell.config)
    plain = cell.decode(control, None, 0, index)
    return cell.decode(control, draft, k, index).token_ids == plain.token_ids
