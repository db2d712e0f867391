"""What the spec_decode module measures, in processes of its own: the sweep, and peak memory.

The sweep is one process, because what is compared must be interleaved: it loads all models, then runs the
baseline and every (draft, K) in turn on each prompt, so that a drift of the machine hits all alike. Given the
events of an interrupted attempt, it goes on at its next prompt.
"""

from __future__ import annotations

from typing import Any

import torch

from bitdraft.backends import Engine, token_model
from bitdraft.backends.base import UnexpectedK
from bitdraft.engine.check import check_model
from bitdraft.engine.cpu.layers import copied_bytes
from bitdraft.engine.loop import NonFiniteDecoding
from bitdraft.errors import UserError
from bitdraft.inputs.models import LoadedModel, resolve_device
from bitdraft.probes.ceilings import measure_ceilings
from bitdraft.probes.environment import describe
from bitdraft.probes.memory import begin_phase, peak_memory_bytes
from bitdraft.probes.reference_work import reference_work_s
from bitdraft.runs.executors.base import Emit
from bitdraft.schema.records import Generation
from bitdraft.spec_decode.agreements import agreements
from bitdraft.spec_decode.batches import check_batches, measure_batches
from bitdraft.spec_decode.control import Diverged, explain
from bitdraft.spec_decode.costs import measure_costs
from bitdraft.spec_decode.grid import measure_grid
from bitdraft.spec_decode.sizes import sizes_of
from bitdraft.spec_decode.worker import PLAN_K, PLAN_WRITER, Worker

COST_ROUNDS = 4
PLAN_COST_ROUNDS = 1


def measure(payload: dict[str, Any], emit: Emit) -> None:
    """The sweep, or with `plan` only what the prediction needs. Emits `progress`, `environment`, `models`,
    `decided`, `execution` and `reference_work`, then a `prompt` for each prompt, a `failed` for each (draft,
    K) that is lost, a `divergence` for each text that is not the baseline's, and what `measure_batches`
    does."""
    worker = Worker.of(payload, emit)
    config = worker.config
    device = resolve_device(config.device)
    _tell_environment(worker, device)
    target = _load_all(worker, device)
    engine = worker.engine(target.model)
    check_batches(worker, engine)
    _warm_up(worker, engine)
    if not worker.decided:
        emit("decided", **engine.decisions())
    _tell_execution(worker, engine)
    found = _earlier_divergences(worker)
    if not config.plan:
        reference_work_s(device)
        emit("reference_work", seconds=reference_work_s(device))
    for index in range(len(worker.earlier("prompt")), len(worker.prompts)):
        stage = "plan" if config.plan else "sweep"
        emit("progress", stage=stage, done=index, total=len(worker.prompts))
        if config.plan:
            _plan_prompt(worker, engine, index)
        else:
            found += _sweep_prompt(worker, engine, index)
    if found and engine.capabilities.token_models:
        explain(worker, engine, found)
    if config.schedule:
        measure_grid(worker, engine)
    elif engine.capabilities.batches:
        measure_batches(worker, engine)


def measure_memory(payload: dict[str, Any], emit: Emit) -> None:
    """Peak memory of the target alone (no `draft`) or with one draft at the largest K, on the longest
    prompt, in a process that loads nothing else. Emits one `memory`; weights that decoding keeps twice there
    (`weight_copies`) are told apart."""
    worker = Worker.of(payload, emit)
    draft: str | None = payload["draft"]
    device = resolve_device(worker.config.device)
    target = worker.load(worker.config.model, worker.config.precision, device)
    if draft is not None:
        worker.models[draft] = worker.load_draft(draft, device)
    engine = worker.engine(target.model)
    index = max(range(len(worker.prompts)), key=lambda place: len(worker.prompts[place]))
    begin_phase(device)
    engine.prepare(worker.prompts[index], worker.config)
    worker.decode(engine, draft, worker.config.k[-1] if draft else 0, index)
    models = [target, *(loaded for loaded in worker.models.values() if loaded is not None)]
    copies = sum(copied_bytes(one.model) for one in models if isinstance(one.model, torch.nn.Module))
    emit("memory", peak_bytes=peak_memory_bytes(device) | ({"weight_copies": copies} if copies else {}))


def _tell_environment(worker: Worker, device: torch.device) -> None:
    worker.emit("progress", stage="environment", done=0, total=1)
    found = describe(device)
    if not worker.config.plan:
        with worker.emit.slow():
            found = found.model_copy(
                update={"ceilings": measure_ceilings(device, (worker.config.precision,))}
            )
    worker.emit("environment", environment=found.model_dump(mode="json"))


def _load_all(worker: Worker, device: torch.device) -> LoadedModel:
    total = 1 + len(worker.folders)
    worker.emit("progress", stage="load", done=0, total=total)
    target = worker.load(worker.config.model, worker.config.precision, device)
    check_model(token_model(target.model), worker.prompts[0], target.variant.checkpoint.label)
    lost = {(event["draft"], event["k"]) for event in worker.earlier("failed")}
    for index, label in enumerate(worker.folders, 1):
        worker.emit("progress", stage="load", done=index, total=total)
        own = [one for one in worker.config.configurations([label]) if one not in lost]
        worker.active += own
        if not own:
            continue
        try:
            draft = worker.models[label] = worker.load_draft(label, device)
        except (RuntimeError, MemoryError) as error:
            worker.drop(label, None, error)
            continue
        if draft is not None:
            check_model(token_model(draft.model), worker.prompts[0], label, "drafts")
    drafts = {label: sizes_of(model) for label, model in worker.models.items() if model}
    worker.emit("models", target=sizes_of(target), drafts=drafts)
    return target


def _models(worker: Worker) -> list[str | None]:
    """The target as None, and the drafts in use that are models."""
    return [None, *(label for label in worker.labels if worker.models[label] is not None)]


def _tell_execution(worker: Worker, engine: Engine) -> None:
    by_model = {label or "": engine.execution(label) for label in _models(worker)}
    worker.emit("execution", by_model=by_model)
    if engine.fallback_reason is not None:
        worker.note("spec.fallback", why=engine.fallback_reason)


def _try(worker: Worker, engine: Engine, draft: str, k: int, index: int) -> Generation | None:
    """One run of a (draft, K); what goes wrong with it takes it out, and a draft that isn't finite all
    of its K."""
    try:
        return worker.decode(engine, draft, k, index)
    except NonFiniteDecoding as error:
        if error.who == "target":
            raise
        worker.drop(draft, None, error)
    except (UserError, UnexpectedK, RuntimeError, MemoryError) as error:
        worker.drop(draft, k, error)
    return None


def _warm_up(worker: Worker, engine: Engine) -> None:
    """Every (draft, K) once, briefly: the first forward of each shape is slow."""
    full, worker.config = worker.config, worker.brief()
    stage = "compile" if full.execution == "compiled" else "warm-up"
    wanted = [(label, full.k[-1]) for label in worker.labels] if full.plan else list(worker.active)
    worker.emit("progress", stage=stage, done=0, total=1 + len(wanted))
    with worker.emit.slow():
        engine.prepare(worker.prompts[0], worker.config)
        plain = worker.decode(engine, None, 0, 0)
        if full.synthetic_acceptance is not None:
            # what drafts are made to say goes a way of its own
            worker.texts[0] = plain.token_ids
        for index, (draft, k) in enumerate(wanted, 1):
            worker.emit("progress", stage=stage, done=index, total=1 + len(wanted))
            if (draft, k) in worker.active:
                _try(worker, engine, draft, k, 0)
    worker.config, worker.num_strayed = full, 0
    worker.texts.clear()
    if full.synthetic_acceptance is not None:
        for event in worker.earlier("prompt"):
            worker.texts[event["index"]] = tuple(event["baseline"]["token_ids"])


def _sweep_prompt(worker: Worker, engine: Engine, index: int) -> list[Diverged]:
    """The baseline and every (draft, K) on one prompt, the order reversed on every other one; what
    diverged."""
    prompt, config = worker.prompts[index], worker.config
    engine.prepare(prompt, config)
    if config.synthetic_acceptance is not None:
        worker.texts[index] = worker.decode(engine, None, 0, index).token_ids
    order: list[tuple[str | None, int]] = [(None, 0), *worker.active]
    runs: dict[tuple[str | None, int], Generation] = {}
    for draft, k in order if index % 2 == 0 else reversed(order):
        if draft is None:
            runs[None, 0] = worker.decode(engine, None, 0, index)
        elif (draft, k) in worker.active:
            run = _try(worker, engine, draft, k, index)
            if run is not None:
                runs[draft, k] = run
    baseline = runs.pop((None, 0))
    record: dict[str, Any] = {"index": index, "baseline": baseline.model_dump(mode="json")}
    record["runs"] = [
        {"draft": draft, "k": k, "generation": run.model_dump(mode="json")}
        for (draft, k), run in runs.items()
    ]
    if engine.capabilities.costs:
        record["prefill_s"] = engine.prefill_seconds(None)
        record["draft_prefill_s"] = {label: engine.prefill_seconds(label) for label in worker.labels}
        record["costs"] = measure_costs(
            engine, prompt, baseline.token_ids, config, worker.labels, COST_ROUNDS
        )
        record["kv_bytes"] = {label or "": engine.kv_bytes_per_token(label) for label in _models(worker)}
    record["agreement"] = agreements(worker, engine, index, baseline.token_ids)
    record["reference_work_s"] = reference_work_s(resolve_device(config.device))
    worker.emit("prompt", num_strayed=worker.take_strayed(), **record)
    return [] if config.temperature > 0 else _diverged(index, baseline, runs)


def _diverged(
    index: int, baseline: Generation, runs: dict[tuple[str | None, int], Generation]
) -> list[Diverged]:
    return [
        Diverged(index, str(draft), k, baseline, run)
        for (draft, k), run in runs.items()
        if run.token_ids != baseline.token_ids
    ]


def _earlier_divergences(worker: Worker) -> list[Diverged]:
    """Of an interrupted attempt's prompts, but for those that it has explained."""
    if worker.config.plan or worker.config.temperature > 0:
        return []
    explained = {(e["draft"], e["k"], e["divergence"]["prompt"]) for e in worker.earlier("divergence")}
    found = []
    for event in worker.earlier("prompt"):
        runs: dict[tuple[str | None, int], Generation] = {
            (run["draft"], run["k"]): Generation.model_validate(run["generation"]) for run in event["runs"]
        }
        found += _diverged(event["index"], Generation.model_validate(event["baseline"]), runs)
    return [one for one in found if (one.draft, one.k, one.prompt) not in explained]


def _plan_prompt(worker: Worker, engine: Engine, index: int) -> None:
    """The target's text, written with prompt lookup's help (it is the target's text all the same), then
    costs and agreement."""
    prompt, config = worker.prompts[index], worker.config
    engine.prepare(prompt, config)
    run = worker.decode(engine, PLAN_WRITER, PLAN_K, index)
    draft_prefill_s = {label: engine.prefill_seconds(label) for label in worker.labels}
    worker.emit(
        "prompt",
        index=index,
        token_ids=run.token_ids,
        prefill_s=engine.prefill_seconds(None),
        draft_prefill_s=draft_prefill_s,
        costs=measure_costs(engine, prompt, run.token_ids, config, worker.labels, PLAN_COST_ROUNDS),
        agreement=agreements(worker, engine, index, run.token_ids),
    )
