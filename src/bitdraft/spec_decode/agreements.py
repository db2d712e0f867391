"""What the replay is made of: for each prompt and draft, where the draft agrees with the target's text."""

from __future__ import annotations

from typing import Any

import torch

from bitdraft.backends import Engine
from bitdraft.config import MOST_K
from bitdraft.engine.agreement import greedy_agreement, sampled_agreement
from bitdraft.engine.drafters.lookup import NgramDrafter
from bitdraft.engine.scoring import NonFiniteLogits
from bitdraft.spec_decode.failures import failure_of
from bitdraft.spec_decode.worker import Worker


def agreements(worker: Worker, engine: Engine, index: int, output: tuple[int, ...]) -> dict[str, Any]:
    """For the replay, by draft: `keeps`, and what explains them."""
    found: dict[str, Any] = {}
    for label in worker.labels:
        try:
            found[label] = _agreement(worker, engine, label, index, output)
        except NonFiniteLogits as error:
            worker.drop(label, None, error)
        except (RuntimeError, MemoryError) as error:
            # what was measured stands without its check
            worker.note("spec.no_replay", label, why=failure_of(error)[1])
    return found


def _agreement(
    worker: Worker, engine: Engine, label: str, index: int, output: tuple[int, ...]
) -> dict[str, Any]:
    if worker.config.synthetic_acceptance is not None:
        return {"keeps": [int(agrees) for agrees in worker.bits(index)[: len(output)]]}
    prompt = worker.prompts[index]
    text = [*prompt, *output]
    if worker.models[label] is None:
        lookup = NgramDrafter(torch.device("cpu"), worker.vocab_size)
        lookup.start([prompt], len(text))
        # proposals before the first token are needed by no backend that has prompt lookup
        return {"proposals": [[], *lookup.proposals(text, len(prompt) + 1, MOST_K)]}
    drafter = engine.runner(label)
    if worker.config.temperature > 0:
        target = engine.runner(None)
        keeps, overlaps = sampled_agreement(target, drafter, prompt, output, worker.config)
        return {"keeps": keeps, "overlaps": overlaps}
    agrees, leads = greedy_agreement(drafter, prompt, output)
    return {"keeps": [int(agree) for agree in agrees], "leads": leads}
