"""What follows from the texts of engines that people deploy. Those that are not K = 0's are held against its
probabilities and against itself. And when no engine runs, our own models replay the drafts on K = 0's texts:
from these every K follows, and what the engine counted is held against it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import torch

from bitdraft import formats
from bitdraft.backends import Engine
from bitdraft.errors import UserError
from bitdraft.external import EngineProcess
from bitdraft.schema.records import Divergence, Generation
from bitdraft.spec_decode.agreements import agreements
from bitdraft.spec_decode.control import Diverged, first_difference, token_at
from bitdraft.spec_decode.failures import failure_of
from bitdraft.spec_decode.records import BASELINE, Key
from bitdraft.spec_decode.sizes import sizes_of
from bitdraft.spec_decode.worker import Worker

NUM_PROBABLE = 20
_SAMPLED = "it draws from the draft's distribution, and this engine's drafts are its own"

Runs = Mapping[tuple[Key, int], Generation]
"""By (draft, K) and a prompt's index"""


def explain(
    worker: Worker, runs: Runs, plain_engine: Callable[[], AbstractContextManager[EngineProcess]]
) -> None:
    """Emits a `divergence` for each greedy text that is not K = 0's and has none yet; `plain_engine`, of K =
    0, is opened where there is one."""
    known = {(e["draft"], e["k"], e["divergence"]["prompt"]) for e in worker.earlier("divergence")}
    found = [one for one in _diverged(runs) if (one.draft, one.k, one.prompt) not in known]
    if worker.config.temperature > 0 or not found:
        return
    with plain_engine() as engine, engine.awake():
        repeats: dict[int, bool] = {}
        for done, one in enumerate(found):
            worker.emit("progress", stage="lossless", done=done, total=len(found))
            if one.prompt not in repeats:
                again = engine.generate(worker.prompts[one.prompt], worker.config.max_new_tokens, 0)
                repeats[one.prompt] = again.token_ids == one.baseline.token_ids
            divergence = _judged(worker, engine, one, repeats[one.prompt])
            worker.tell("divergence", draft=one.draft, k=one.k, divergence=divergence.model_dump())


def _diverged(runs: Runs) -> list[Diverged]:
    found = []
    for (key, index), run in runs.items():
        baseline = runs.get((BASELINE, index))
        if key[0] is not None and baseline is not None and run.token_ids != baseline.token_ids:
            found.append(Diverged(index, key[0], key[1], baseline, run))
    return found


def _judged(worker: Worker, engine: EngineProcess, one: Diverged, repeats: bool) -> Divergence:
    position = first_difference(one.baseline, one.run)
    expected, found = token_at(one.baseline, position), token_at(one.run, position)
    text = [*worker.prompts[one.prompt], *one.baseline.token_ids[:position]]
    gap = None
    if min(expected, found) >= 0:
        told = engine.next_log_probs(text, NUM_PROBABLE)
        if expected in told and found in told:
            gap = max(told.values()) - min(told[expected], told[found])
    return Divergence(
        prompt=one.prompt,
        position=position,
        expected=expected,
        found=found,
        logit_gap=gap,
        tie_lead=formats.find(worker.config.precision).tie_lead,
        own_repeats=repeats,
    )


def replay(worker: Worker, device: torch.device, texts: Mapping[int, tuple[int, ...]], backend: str) -> None:
    """Emits an `agreement` for each of K = 0's texts, by a prompt's index, that has none yet: what our own
    models say of the drafts. What goes wrong costs the replay alone."""
    earlier = {event["index"] for event in worker.earlier("agreement")}
    missing = [index for index in texts if index not in earlier]
    if not missing:
        return
    if worker.config.temperature > 0:
        # engines draft their most probable token, and keep it where the target draws the same
        worker.note("spec.no_replay", ", ".join(worker.labels), why=_SAMPLED)
        return
    try:
        engine = _own_engine(worker, device, backend)
    except (RuntimeError, MemoryError, UserError) as error:
        worker.note("spec.no_replay", ", ".join(worker.labels), why=failure_of(error)[1])
        return
    for done, index in enumerate(missing):
        worker.emit("progress", stage="replay", done=done, total=len(missing))
        with torch.inference_mode():
            found = agreements(worker, engine, index, texts[index])
        worker.emit("agreement", index=index, agreement=found)


def _own_engine(worker: Worker, device: torch.device, backend: str) -> Engine:
    """Says also what the models are, as the deployed engine, `backend`, does not."""
    config = worker.config
    worker.emit("progress", stage="load", done=0, total=1)
    target = worker.load(config.model, config.precision, device)
    for label in worker.labels:
        worker.models[label] = worker.load_draft(label, device)
    drafts = {
        label: sizes_of(loaded) | {"backend": backend}
        for label, loaded in worker.models.items()
        if loaded is not None
    }
    worker.emit("models", target=sizes_of(target) | {"backend": backend}, drafts=drafts)
    return worker.engine(target.model, "eager", "native")
