"""Run the spec_decode module: prepare, sweep (or plan) in one cell, take memory in others, fold the events
into a result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bitdraft.config import CAPABILITIES, SpecDecodeConfig
from bitdraft.config.running import RunOptions
from bitdraft.errors import UserError
from bitdraft.inputs.prompts import first_prompts
from bitdraft.probes.container import crowding_of
from bitdraft.runs.cell import Cell, Event, Failure
from bitdraft.runs.conduct import Conduct, open_run
from bitdraft.schema.environment import ModelRecord
from bitdraft.schema.findings import Finding, of_code, reason, warning
from bitdraft.schema.results import UNRECORDED
from bitdraft.schema.spec_decode import (
    CostRecord,
    DraftPlan,
    Schedule,
    SpecDecodeResult,
    SpecDecodeRow,
    SpecDecodeVerdict,
)
from bitdraft.spec_decode.analysis import (
    build_rows,
    costs_record,
    plan_record,
    replay_record,
    smaller_k_hints,
    with_noise_of_turns,
)
from bitdraft.spec_decode.pair_analysis import dead_drafts, pair_findings, pair_records
from bitdraft.spec_decode.plan_verdict import decide_plan
from bitdraft.spec_decode.records import RETRIED, Records, of_engines_retried
from bitdraft.spec_decode.schedule import findings_of, schedule_of
from bitdraft.spec_decode.verdict import caveats, decide, repetition_of, warnings_of, withheld
from bitdraft.spec_decode.workload import Workload, prepare
from bitdraft.stats.drift import DRIFT_LIMIT, DRIFT_WARNING, drift_over_time

Progress = Callable[[str, int, int], None]
"""(stage, done, total): stage is prepare, environment, load, warm-up, sweep or plan, lossless,
batches, memory."""
Publish = Callable[[SpecDecodeResult, Path | None], tuple[SpecDecodeResult, Sequence[str]]]
"""Gives a result its sentences and, where there is a folder, writes its files there; their names."""

_CELLS, _DEPLOYED = "bitdraft.spec_decode.cells", "bitdraft.spec_decode.deployed"
ENGINES, IN_TURN = "engines", "deployed.in_turn"
SWEEP, PLAN, MEMORY, PAIRS = "sweep", "plan", "memory", "pairs"


def measure_spec_decode(
    config: SpecDecodeConfig, options: RunOptions, publish: Publish, on_progress: Progress | None = None
) -> SpecDecodeResult:
    """Measure what a configuration asks for, or what is missing of it. See
    `bitdraft.evaluate_spec_decode`."""
    report = on_progress or (lambda *_: None)
    report("prepare", 0, 1)
    with open_run("spec_decode", config, options) as conduct:
        fold = _Fold(config, prepare(config), report)
        found: SpecDecodeResult = conduct.measure(fold, publish)
        return found


def identity_of(config: SpecDecodeConfig, workload: Workload) -> dict[str, object]:
    """All that decides the sweep's numbers."""
    return {"config": config.model_dump(mode="json", exclude=set(UNRECORDED)), **workload.contents}


def sweep_cell(config: SpecDecodeConfig, workload: Workload, logs: Path | None = None) -> Cell:
    """All of the sweep, or of the plan; the logs of engines with processes of their own are below `logs`."""
    name = PLAN if config.plan else SWEEP
    payload, identity = workload.payload(config), identity_of(config, workload)
    if not CAPABILITIES[config.backend].processes:
        return Cell(name, f"{_CELLS}:measure", payload, identity, _num_gpus(config), stage="environment")
    payload |= {"program": str(workload.program), "logs": None if logs is None else str(logs / ENGINES)}
    target, num_gpus = f"{_DEPLOYED}:measure", _num_gpus(config)
    return Cell(name, target, payload, identity, num_gpus, "environment", of_engines_retried)


def pairs_cell(config: SpecDecodeConfig, workload: Workload) -> Cell:
    """Of all pairs of formats."""
    payload, identity = workload.payload(config), identity_of(config, workload)
    function = "bitdraft.spec_decode.pairs:measure_pairs"
    return Cell(PAIRS, function, payload, identity | {"part": PAIRS}, _num_gpus(config))


def memory_cells(
    config: SpecDecodeConfig, workload: Workload, labels: Sequence[str]
) -> dict[str | None, Cell]:
    """Of the target alone (None) and with each of these drafts."""
    payload, identity = workload.payload(config), identity_of(config, workload)
    return {
        label: Cell(
            MEMORY if label is None else f"{MEMORY} {label}",
            f"{_CELLS}:measure_memory",
            payload | {"draft": label},
            identity | {"draft": label},
            _num_gpus(config),
        )
        for label in (None, *labels)
    }


def _num_gpus(config: SpecDecodeConfig) -> float:
    return 1.0 if config.device.startswith("cuda") else 0.0


class _Fold:
    """A result from events, whatever has arrived of them so far."""

    def __init__(self, config: SpecDecodeConfig, workload: Workload, report: Progress) -> None:
        self.config, self.workload, self.report = config, workload, report
        self.records = Records(config, [draft.label for draft in workload.drafts])
        self.of_pairs: list[Event] = []

    def run(self, conduct: Conduct[SpecDecodeResult]) -> None:
        """The sweep; then peak memory, which costs no measurement whatever goes wrong with it."""
        cell, records = sweep_cell(self.config, self.workload, conduct.folder), self.records
        failure = conduct.run_cells([cell], self.take)[cell.name]
        if failure is not None:
            records.detail = failure.detail
            records.end_early(len(self.workload.prompts), failure.status, failure.reason)
        if self.config.pairs and records.prompts:
            self._run_pairs(conduct)
        if self.config.plan or not records.prompts or CAPABILITIES[self.config.backend].processes:
            return  # what an engine of its own took is told with the sweep
        alive = [
            label
            for label in records.labels
            if any((own, k, 1) not in records.failures for own, k in self.config.configurations([label]))
        ]
        cells = memory_cells(self.config, self.workload, alive)
        for index, (label, own) in enumerate(cells.items()):
            self._take_memory(conduct, label, own, (index, len(cells)))

    def _run_pairs(self, conduct: Conduct[SpecDecodeResult]) -> None:
        """What goes wrong with them costs no other measurement."""

        def keep(_: Cell, event: Event) -> None:
            if event["event"] == "progress":
                self.report(event["stage"], event["done"], event["total"])
            else:
                self.of_pairs.append(event)

        cell = pairs_cell(self.config, self.workload)
        failure = conduct.run_cells([cell], keep)[cell.name]
        if failure is not None:
            self.records.notes.append(
                warning("pairs.lost", ", ".join(self.config.pairs), status=failure.status, why=failure.reason)
            )

    def _take_memory(
        self, conduct: Conduct[SpecDecodeResult], label: str | None, cell: Cell, done: tuple[int, int]
    ) -> None:
        def keep(_: Cell, event: Event) -> None:
            if event["event"] == "progress":
                self.report("memory", *done)
            elif event["event"] == "memory":
                self.records.memory[label] = event["peak_bytes"]

        try:
            failure = conduct.run_cells([cell], keep)[cell.name]
        except UserError as error:
            failure = Failure("unsupported", error.problem)
        if failure is not None:
            self.records.notes.append(warning("spec.no_memory", label or "", why=failure.reason))

    def take(self, _: Cell, event: Event) -> None:
        """One event of the sweep."""
        if event["event"] == "progress":
            self.report(event["stage"], event["done"], event["total"])
        else:
            self.records.take(event)

    def has_numbers(self) -> bool:
        """Whether a prompt was finished by all rows."""
        return bool(self.records.prompts)

    def result(self, *, is_complete: bool) -> SpecDecodeResult:
        """All numbers, from what was recorded so far."""
        config, workload, records = self.config, self.workload, self.records
        done = len(records.prompts)
        if not is_complete:
            records.end_early(len(workload.prompts), "failed", "interrupted")
        rows = build_rows(records)
        if of_code(records.notes, IN_TURN):
            rows = with_noise_of_turns(rows, records)
        plan = plan_record(records) if done else {}
        costs = costs_record(records)
        verdict, findings = self._verdict(rows, plan, costs)
        schedule = schedule_of(records) if config.schedule and done else Schedule()
        if config.schedule:
            # what a plan says of one prompt is a reason beside it
            plan_says = (one.model_copy(update={"severity": "reason"}) for one in findings)
            findings = (*findings_of(schedule), *plan_says)
        pairs = pair_records(self.of_pairs, config)
        return SpecDecodeResult(
            config=config,
            environment=records.environment,
            model=_merged(workload.target.record(), records.target),
            drafts={
                draft.label: _merged(
                    draft.checkpoint.record() if draft.checkpoint else ModelRecord(name="prompt lookup"),
                    records.drafts.get(draft.label, ModelRecord()),
                )
                for draft in workload.drafts
            },
            text=first_prompts(workload.text, done),
            rows=rows,
            replay=replay_record(records) if done else {},
            costs=costs,
            plan=plan,
            pairs=pairs,
            schedule=schedule,
            verdict=verdict,
            reference_work_s=tuple(records.reference_work_s),
            findings=(
                *findings,
                *pair_findings(pairs, self.of_pairs),
                *dead_drafts(records),
                *workload.warnings,
                *_notes(records, config),
                *warnings_of(rows),
                *(() if config.random_weights else repetition_of(rows)),
            ),
        )

    def _verdict(
        self, rows: Sequence[SpecDecodeRow], plan: Mapping[str, DraftPlan], costs: CostRecord
    ) -> tuple[SpecDecodeVerdict, tuple[Finding, ...]]:
        config, records = self.config, self.records
        if config.plan:
            verdict, findings = decide_plan(plan, len(records.prompts), costs)
            lost = records.lost_drafts().items()
            findings += tuple(reason("plan.out", draft, status=s, why=why) for draft, (s, why) in lost)
            left = [label for label in records.labels if label not in {*plan, *records.lost_drafts()}]
            findings += tuple(reason("plan.not_predicted", label) for label in left if records.prompts)
        else:
            decided = decide(rows, costs, max(config.k) if config.only is None else None)
            drift = _drift(records)
            is_lost = drift > DRIFT_LIMIT and _ran_apart(records) and any(row.k and row.runs for row in rows)
            verdict, findings = withheld(decided, drift) if is_lost else decided
        return verdict, (*caveats(config), *findings, *smaller_k_hints(records))


def _merged(stored: ModelRecord, loaded: ModelRecord) -> ModelRecord:
    """What the files say and what loading them showed."""
    return stored.model_copy(update=loaded.model_dump())


def _notes(records: Records, config: SpecDecodeConfig) -> list[Finding]:
    """Of the run, as warnings."""
    notes = [*records.notes, *crowding_of(records.environment, config.threads)]
    drift = _drift(records)
    if drift > DRIFT_WARNING:
        notes.append(warning("deployed.drift" if _ran_apart(records) else "spec.drift", drift=drift))
    if records.num_strayed:
        notes.append(warning("spec.strayed", n=records.num_strayed))
    notes += [
        warning("batch.ended_early", batch_size=size, done=done, of=total, why=why)
        for size, done, total, why in records.unfinished()
    ]
    return notes


def _drift(records: Records) -> float:
    return drift_over_time(records.reference_work_s) or 1.0


def _ran_apart(records: Records) -> bool:
    """Engines that did not all take turns on each prompt."""
    return any(note.code in (IN_TURN, RETRIED) for note in records.notes)
