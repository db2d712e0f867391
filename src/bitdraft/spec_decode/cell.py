"""The sweep in one process: load all models, then baseline and every (draft, K) in turn on each
prompt, so that a drift of the machine hits all alike."""

from __future__ import annotations

from typing import Any

import torch

from bitdraft.backends import Speculation
from bitdraft.backends.native import NativeSpeculation
from bitdraft.backends.transformers import UnexpectedK
from bitdraft.engine.loop import NonFiniteDecoding
from bitdraft.errors import UserError
from bitdraft.inputs.models import LoadedModel, resolve_device
from bitdraft.probes.ceilings import measure_ceilings
from bitdraft.probes.environment import describe
from bitdraft.probes.memory import peak_memory_bytes
from bitdraft.schema.records import Generation
from bitdraft.spec_decode.agreements import agreements
from bitdraft.spec_decode.batches import check_batches, measure_batches
from bitdraft.spec_decode.control import explain
from bitdraft.spec_decode.costs import measure_costs
from bitdraft.spec_decode.failures import failure_of
from bitdraft.spec_decode.state import PLAN_K, PLAN_WRITER, Cell, Emit

COST_ROUNDS = 4
PLAN_COST_ROUNDS = 1


def measure(payload: dict[str, Any], emit: Emit) -> None:
    """The sweep, or with `plan` only what the prediction needs. Emits `progress`, `environment`,
    `models`, `execution`, then a `prompt` for each prompt, a `failed` for each lost arm, `divergence`s, and
    what `measure_batches` does."""
    cell = Cell.of(payload, emit)
    config = cell.config
    device = resolve_device(config.device)
    emit("progress", stage="environment", done=0, total=1)
    environment = describe(device)
    if not config.plan:
        environment["ceilings"] = measure_ceilings(device, (config.precision,))
    emit("environment", environment=environment)
    target = _load_all(cell, device)
    decoder = cell.speculation(target.model)
    check_batches(cell, decoder)
    _warm_up(cell, decoder)
    _tell_execution(cell, decoder)
    found: list[tuple[int, str, int, Generation, Generation]] = []
    for index, prompt in enumerate(cell.prompts):
        emit("progress", stage="plan" if config.plan else "sweep", done=index, total=len(cell.prompts))
        if config.plan:
            assert isinstance(decoder, NativeSpeculation)
            _plan_prompt(cell, decoder, index, prompt)
        else:
            found += _sweep_prompt(cell, decoder, index, prompt)
    if found:
        try:
            explain(cell, decoder, found)
        except (RuntimeError, MemoryError) as error:
            emit("note", text=f"Differences to K = 0 have no control: {failure_of(error)[1]}.")
    if isinstance(decoder, NativeSpeculation):
        measure_batches(cell, decoder)
    if cell.num_strayed:
        emit(
            "note",
            text=f"{cell.num_strayed} runs left the text that their draft follows at every try, "
            "so that less is accepted than stated.",
        )


def measure_memory(payload: dict[str, Any], emit: Emit) -> None:
    """Peak memory of the target alone (no `draft`) or with one draft at the largest K, on the longest
    prompt, in a process that loads nothing else."""
    cell = Cell.of(payload, emit)
    draft: str | None = payload["draft"]
    device = resolve_device(cell.config.device)
    target = cell.load(cell.config.model, cell.config.precision, device)
    if draft is not None:
        cell.models[draft] = cell.load_draft(draft, device)
    decoder = cell.speculation(target.model)
    index = max(range(len(cell.prompts)), key=lambda place: len(cell.prompts[place]))
    decoder.prepare(cell.prompts[index], cell.config)
    cell.decode(decoder, draft, cell.config.k[-1] if draft else 0, index)
    emit("memory", peak_bytes=peak_memory_bytes(device))


def _load_all(cell: Cell, device: torch.device) -> LoadedModel:
    cell.emit("progress", stage="load", done=0, total=1 + len(cell.folders))
    target = cell.load(cell.config.model, cell.config.precision, device)
    for place, label in enumerate(cell.folders):
        cell.emit("progress", stage="load", done=1 + place, total=1 + len(cell.folders))
        cell.arms += cell.config.arms([label])
        try:
            cell.models[label] = cell.load_draft(label, device)
        except (RuntimeError, MemoryError) as error:
            cell.drop(label, None, error)
    drafts = {label: _sizes(model) for label, model in cell.models.items() if model}
    cell.emit("models", target=_sizes(target), drafts=drafts)
    return target


def _models(cell: Cell) -> list[str | None]:
    """The target as None, and the drafts in use that are models."""
    return [None, *(label for label in cell.labels if cell.models[label] is not None)]


def _sizes(loaded: LoadedModel) -> dict[str, Any]:
    sizes = {name: getattr(loaded, name) for name in ("num_parameters", "weight_bytes", "streamed_bytes")}
    return sizes | {"precision": loaded.precision}


def _tell_execution(cell: Cell, decoder: Speculation) -> None:
    by_model: dict[str, dict[str, Any]] = {}
    for label in _models(cell):
        by_model[label or ""] = {"execution": decoder.execution(label)}
        if isinstance(decoder, NativeSpeculation):
            by_model[label or ""]["preparation_s"] = decoder.preparation_seconds(label)
    cell.emit("execution", by_model=by_model)
    if isinstance(decoder, NativeSpeculation) and decoder.fallback_reason is not None:
        reason = decoder.fallback_reason
        cell.emit("note", text=f"{reason[0].upper()}{reason[1:]}.")


def _try(cell: Cell, decoder: Speculation, draft: str, k: int, index: int) -> Generation | None:
    """One run of an arm; what goes wrong with it takes the arm out, and a draft that isn't finite all
    of its arms."""
    try:
        return cell.decode(decoder, draft, k, index)
    except NonFiniteDecoding as error:
        if error.who == "target":
            raise
        cell.drop(draft, None, error)
    except (UserError, UnexpectedK, RuntimeError, MemoryError) as error:
        cell.drop(draft, k, error)
    return None


def _warm_up(cell: Cell, decoder: Speculation) -> None:
    """Every arm once, briefly: the first forward of each shape is slow."""
    full, cell.config = cell.config, cell.brief()
    stage = "compile" if full.execution == "compiled" else "warm-up"
    arms = [(label, full.k[-1]) for label in cell.labels] if full.plan else list(cell.arms)
    cell.emit("progress", stage=stage, done=0, total=1 + len(arms))
    decoder.prepare(cell.prompts[0], cell.config)
    plain = cell.decode(decoder, None, 0, 0)
    if full.synthetic_acceptance is not None:
        # what drafts are made to say goes a way of its own
        cell.texts[0] = plain.token_ids
    for place, (draft, k) in enumerate(arms, 1):
        cell.emit("progress", stage=stage, done=place, total=1 + len(arms))
        if (draft, k) in cell.arms:
            _try(cell, decoder, draft, k, 0)
    cell.config, cell.num_strayed = full, 0
    cell.texts.clear()


def _sweep_prompt(
    cell: Cell, decoder: Speculation, index: int, prompt: list[int]
) -> list[tuple[int, str, int, Generation, Generation]]:
    """Baseline and every arm on one prompt, the order reversed on every other one; what diverged."""
    decoder.prepare(prompt, cell.config)
    if cell.config.synthetic_acceptance is not None:
        cell.texts[index] = cell.decode(decoder, None, 0, index).token_ids
    arms: list[tuple[str | None, int]] = [(None, 0), *cell.arms]
    runs: dict[tuple[str | None, int], Generation] = {}
    for draft, k in arms if index % 2 == 0 else reversed(arms):
        if draft is None:
            runs[None, 0] = cell.decode(decoder, None, 0, index)
        elif (draft, k) in cell.arms:
            run = _try(cell, decoder, draft, k, index)
            if run is not None:
                runs[draft, k] = run
    baseline = runs.pop((None, 0))
    record: dict[str, Any] = {"index": index, "baseline": baseline.model_dump(mode="json")}
    record["runs"] = [
        {"draft": draft, "k": k, "generation": run.model_dump(mode="json")}
        for (draft, k), run in runs.items()
    ]
    if isinstance(decoder, NativeSpeculation):
        record["costs"] = measure_costs(
            decoder, prompt, baseline.token_ids, cell.config, cell.labels, COST_ROUNDS
        )
    record["agreement"] = agreements(cell, decoder, index, baseline.token_ids)
    if isinstance(decoder, NativeSpeculation):
        record["kv_bytes"] = {label or "": decoder.kv_bytes_per_token(label) for label in _models(cell)}
    cell.emit("prompt", **record)
    if cell.config.temperature > 0:
        return []
    return [
        (index, str(draft), k, baseline, run)
        for (draft, k), run in runs.items()
        if run.token_ids != baseline.token_ids
    ]


def _plan_prompt(cell: Cell, decoder: NativeSpeculation, index: int, prompt: list[int]) -> None:
    """The target's text, written with prompt lookup's help (it is the target's text all the same), then
    costs and agreement."""
    decoder.prepare(prompt, cell.config)
    run = cell.decode(decoder, PLAN_WRITER, PLAN_K, index)
    draft_prefill_s = {label: decoder.prefill_seconds(label) for label in cell.labels}
    cell.emit(
        "prompt",
        index=index,
        token_ids=run.token_ids,
        prefill_s=decoder.prefill_seconds(None),
        draft_prefill_s=draft_prefill_s,
        costs=measure_costs(decoder, prompt, run.token_ids, cell.config, cell.labels, PLAN_COST_ROUNDS),
        agreement=agreements(cell, decoder, index, run.token_ids),
    )
