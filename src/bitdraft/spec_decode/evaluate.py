"""Run the spec_decode module: prepare, sweep (or plan) in one process, take memory in others, save."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bitdraft.config import SpecDecodeConfig, make_config
from bitdraft.errors import UserError
from bitdraft.inputs.prompts import text_record
from bitdraft.runs.executors.local import Event, Failure, run_job
from bitdraft.schema.io import prepare_output
from bitdraft.schema.records import Status
from bitdraft.schema.results import SpecDecodeResult
from bitdraft.spec_decode.batch_rows import build_batch_rows, early_ends
from bitdraft.spec_decode.batch_verdict import with_batches
from bitdraft.spec_decode.output import save
from bitdraft.spec_decode.records import Records
from bitdraft.spec_decode.rows import (
    baseline_record,
    build_rows,
    costs_record,
    plan_record,
    replay_record,
    smaller_k_hints,
)
from bitdraft.spec_decode.verdict import decide, decide_plan, mark_random_weights, mark_synthetic, warnings_of
from bitdraft.spec_decode.workload import Workload, prepare

Progress = Callable[[str, int, int], None]
"""(stage, done, total): stage is prepare, environment, load, warm-up, sweep or plan, lossless,
batches, memory."""

_CELL = "bitdraft.spec_decode.cell"


def evaluate_spec_decode(
    config: SpecDecodeConfig | None = None, *, on_progress: Progress | None = None, **settings: Any
) -> SpecDecodeResult:
    """Measure a target with draft models (or its prompt's own n-grams) at several K.

    Give a `SpecDecodeConfig`, or its fields as keywords (`model`, `drafts`, `k`, `dataset`, …; `k` and
    `batch_sizes` may be text such as `"3-10"`). With `output` set, spec_decode_<dataset>.json, .csv, .md and
    the charts are written there; with `plan`, spec_decode_plan_<dataset> and its chart. Raises `UserError`
    for a request that cannot be carried out; what goes wrong with one draft becomes its rows' status. An
    interrupt keeps the prompts that were finished by all rows.
    """
    if config is None:
        config = make_config(SpecDecodeConfig, settings)
    elif settings:
        raise TypeError("give either a config or settings, not both")
    report = on_progress or (lambda *_: None)
    report("prepare", 0, 1)
    if config.output is not None:
        prepare_output(config.output)
    workload = prepare(config)
    records = Records(config, [draft.label for draft in workload.drafts])
    try:
        _measure(config, workload, records, report)
    except KeyboardInterrupt:
        if records.prompts and config.output is not None:
            _note_end(records, workload, "failed", "interrupted")
            save(build_result(config, workload, records), config.output)
        raise
    result = build_result(config, workload, records)
    if config.output is not None:
        try:
            save(result, config.output)
        except UserError as error:
            error.result = result
            raise
    return result


def _measure(config: SpecDecodeConfig, workload: Workload, records: Records, report: Progress) -> None:
    def on_event(event: Event) -> None:
        if event["event"] == "progress":
            report(event["stage"], event["done"], event["total"])
        else:
            records.take(event)

    payload = workload.payload(config)
    failure = run_job(f"{_CELL}:measure", payload, on_event)
    if failure is not None:
        _note_failure(records, workload, failure)
    if config.plan or not records.prompts:
        return
    # labels that still have a row, and the target alone
    alive = [d for d in records.labels if any(arm not in records.failures for arm in config.arms([d]))]
    labels: list[str | None] = [None, *alive]
    for place, label in enumerate(labels):
        report("memory", place, len(labels))

        def keep(event: Event, label: str | None = label) -> None:
            records.memory[label] = event["peak_bytes"]

        failure = run_job(f"{_CELL}:measure_memory", payload | {"draft": label}, keep)
        if failure is not None:
            records.notes.append(f"No peak memory for {label or 'the target alone'}: {failure.reason}.")


def _note_end(records: Records, workload: Workload, status: Status, why: str) -> None:
    if not records.end_batches(len(workload.prompts), status, why):
        done = f"{len(records.prompts)} of {len(workload.prompts)} prompts"
        records.notes.append(f"Ended after {done}: {why}.")


def _note_failure(records: Records, workload: Workload, failure: Failure) -> None:
    """The sweep's process ended early: finished prompts stand, without any every row has failed."""
    _note_end(records, workload, failure.status, failure.reason)
    records.traceback = failure.detail
    if not records.prompts:
        for arm in records.config.arms(records.labels):
            records.failures.setdefault(arm, (failure.status, failure.reason))


def build_result(config: SpecDecodeConfig, workload: Workload, records: Records) -> SpecDecodeResult:
    """All numbers, from what was recorded so far."""
    rows = () if config.plan else build_rows(records)
    batches = build_batch_rows(records)
    measured = bool(records.prompts)
    plan = plan_record(records) if config.plan and measured else {}
    costs = costs_record(records)
    if config.plan:
        verdict = decide_plan(plan, len(records.prompts))
        verdict["reasons"] += _lost_drafts(records)
    else:
        finished = [row for row in rows if row.status == "ok"]
        generations = {(row.draft, row.k): records.generations(row.draft, row.k) for row in finished}
        verdict = decide(rows, generations, costs, config.seed)
    verdict["reasons"] += smaller_k_hints(records)
    if batches:
        verdict = with_batches(verdict, rows, batches)
    if config.synthetic_acceptance is not None:
        verdict = mark_synthetic(verdict, config.synthetic_acceptance)
    elif config.random_weights:
        verdict = mark_random_weights(verdict)
    return SpecDecodeResult(
        config=config.model_dump(mode="json", exclude={"output", "data_root"}),
        environment=records.environment,
        model=workload.target.record() | records.models.get("target", {}),
        drafts={
            draft.label: (draft.checkpoint.record() if draft.checkpoint else {"name": "prompt lookup"})
            | records.models.get("drafts", {}).get(draft.label, {})
            for draft in workload.drafts
        },
        text=text_record(workload.dataset, workload.prompts[: len(records.prompts)]),
        baseline=baseline_record(records) if measured and not config.plan else {},
        rows=rows,
        batches=batches,
        replay=replay_record(records) if measured else {},
        costs=costs,
        plan=plan,
        verdict=verdict,
        warnings=(*workload.warnings, *records.notes, *early_ends(records), *warnings_of(rows)),
    )


def _lost_drafts(records: Records) -> list[str]:
    lost = {draft: failure for (draft, _), failure in records.failures.items()}
    return [f"{draft} is out: {status} ({reason})." for draft, (status, reason) in lost.items()]
