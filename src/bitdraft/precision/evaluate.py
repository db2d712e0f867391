"""Run the precision module: prepare once, measure the machine and each precision in cells of their own, fold
what they emit into a result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitdraft.config import PrecisionConfig
from bitdraft.config.running import RunOptions
from bitdraft.errors import UserError
from bitdraft.formats.stored import ORIGINAL
from bitdraft.inputs.checkpoints import Checkpoint, content_id, find_checkpoint
from bitdraft.inputs.datasets import load_dataset
from bitdraft.inputs.prompts import (
    Prompt,
    check_context,
    encoder_of,
    sample_of,
    select_prompts,
    text_record,
)
from bitdraft.inputs.tokenizers import check_token_ids, load_tokenizer, refuse_other_ids
from bitdraft.inputs.variants import (
    Variant,
    check_ids,
    check_llama_cpps_settings,
    check_variant,
    original_variant,
    refuse_other_engines,
)
from bitdraft.inputs.windows import ScoringPlan, plan_scoring
from bitdraft.precision.analysis import Records, RowContext, Scores, build_row
from bitdraft.precision.verdict import decide, machine_drift, stand_in, warnings_of, with_process_noise
from bitdraft.probes.container import crowding_of
from bitdraft.runs.cell import Cell, Event, Failure, fingerprint
from bitdraft.runs.conduct import Conduct, open_run
from bitdraft.schema.environment import Environment, TextRecord
from bitdraft.schema.findings import Finding, answer, reason, warning
from bitdraft.schema.precision import PrecisionResult, PrecisionRow, PrecisionVerdict, Quality
from bitdraft.schema.results import UNRECORDED
from bitdraft.stats.drift import DRIFT_LIMIT

Progress = Callable[[str, str, int, int], None]
"""(precision, stage, done, total): stage is prepare, environment, load, quality, speed or divergence."""
Publish = Callable[[PrecisionResult, Path | None], tuple[PrecisionResult, Sequence[str]]]
"""Gives a result its sentences and, where there is a folder, writes its files there; their names."""

_CELLS = "bitdraft.precision.cells"
MACHINE = "environment"
MORE_ROUNDS = 2
# settings that no cell's numbers depend on
_NOT_MEASURED = UNRECORDED | {"gguf", "original", "max_ppl_increase", "precisions", "reference", "rounds"}


@dataclass(frozen=True)
class Workload:
    """What every precision is given alike. Random weights have no plan: nothing is scored."""

    checkpoint: Checkpoint
    text: TextRecord
    prompts: list[Prompt]
    plan: ScoringPlan | None
    original: Checkpoint | None = None


def prepare(config: PrecisionConfig) -> Workload:
    """Resolve model and text, cut prompts and windows; every bad input is found here (`UserError`)."""
    checkpoint = find_checkpoint(config)
    dataset = load_dataset(config)
    tokenizer = load_tokenizer(checkpoint, config)
    check_llama_cpps_settings(config, config.precisions)
    refuse_other_engines(config.backend, config.precisions)
    sample = sample_of(dataset)
    for name in config.precisions:
        check_variant(Variant(checkpoint, name), "precisions")
        check_ids(Variant(checkpoint, name), tokenizer, sample)
    original = _find_original(config, tokenizer, sample)
    encoder = encoder_of(tokenizer, config.bos)
    prompts = select_prompts(dataset, config, encoder, config.seed)
    context = checkpoint.context
    check_context(prompts, config, config.max_new_tokens, checkpoint, "the model's")
    plan = None
    if not config.random_weights:
        prefix = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        plan = plan_scoring(
            dataset,
            encoder.text,
            config.ppl_protocol,
            context=context,
            prefix=prefix,
            front=encoder.front,
            max_scored=config.ppl_max_tokens,
            window=config.ppl_window,
        )
    rows = [prompt.token_ids for prompt in prompts]
    rows += [window.token_ids for window in plan.windows] if plan else []
    check_token_ids(max(map(max, rows)), checkpoint)
    record = text_record(dataset, prompts, config, encoder)
    return Workload(checkpoint, record, prompts, plan, original)


def _find_original(config: PrecisionConfig, tokenizer: Any, sample: str) -> Checkpoint | None:
    """The checkpoint that quality is compared with, where one is named. It must have the model's ids."""
    if config.original is None:
        return None
    own = config.model_copy(update={"model": config.original, "revision": None, "gguf": ()})
    found = original_variant(own).checkpoint
    other = load_tokenizer(found, own, "reference")
    refuse_other_ids(
        other, tokenizer, sample, ("reference", config.original), "Name the model's own original"
    )
    return found


def order(config: PrecisionConfig) -> list[str]:
    """The reference first, so that the others can be paired with it; then as asked."""
    reference = config.reference_precision
    return [reference, *(name for name in config.precisions if name != reference)]


def cells_of(config: PrecisionConfig, workload: Workload, num_more: int = 0) -> list[Cell]:
    """The machine's, then one a precision, in the order in which they are measured; then, for each further
    round, one a precision that is only timed, the order turned around every time (A B C, C B A, …).
    `num_more` rounds behind those that are asked for are of a machine that changed its pace."""
    settings = config.model_dump(mode="json") | workload.checkpoint.settings_here()
    if workload.original is not None:
        settings["original"] = str(workload.original.folder)
    plan = workload.plan.windows if workload.plan else ()
    prompts = [list(prompt.token_ids) for prompt in workload.prompts]
    clusters = [prompt.cluster for prompt in workload.prompts]
    windows = [[list(w.token_ids), w.first_scored, w.document] for w in plan]
    shared = {
        "config": config.model_dump(mode="json", exclude=set(_NOT_MEASURED)),
        "checkpoint": content_id(workload.checkpoint),
        "text": fingerprint([prompts, windows], 32),
    }
    num_gpus = 1.0 if config.device.startswith("cuda") else 0.0
    probed = {"device": config.device, "precisions": sorted(config.precisions)}
    machine = f"{_CELLS}:measure_machine"
    cells = [Cell(MACHINE, machine, {"config": settings}, probed, num_gpus, stage="environment")]
    for number in range(1, config.num_rounds + num_more + 1):
        for precision in order(config)[:: 1 if number % 2 else -1]:
            paired = number == 1 and precision != config.reference_precision
            payload = {
                "config": settings,
                "precision": precision,
                "prompts": prompts,
                "clusters": clusters,
                "windows": windows if number == 1 else [],
                "paired": paired,
                "first": number == 1,
                "floor": number == 1 and not paired and len(config.precisions) > 1,
            }
            reference = config.reference_precision if paired else None
            own: dict[str, Any] = {"paired_with": reference} if number == 1 else {"round": number}
            files = dict(workload.checkpoint.files_content)
            if workload.original is not None:
                files[ORIGINAL.name] = content_id(workload.original)
            named = {name: files[name] for name in (precision, reference) if name in files}
            identity = {**shared, "precision": precision, **own, **({"files": named} if named else {})}
            name = round_name(precision, number)
            cells.append(Cell(name, f"{_CELLS}:measure", payload, identity, num_gpus))
    return cells


def round_name(precision: str, number: int) -> str:
    """`bf16`, and `bf16, round 2`: a cell's."""
    return precision if number == 1 else f"{precision}, round {number}"


def measure_precision(
    config: PrecisionConfig,
    options: RunOptions,
    publish: Publish,
    on_progress: Progress | None = None,
) -> PrecisionResult:
    """Measure what a configuration asks for, or what is missing of it. See `bitdraft.evaluate_precision`."""
    report = on_progress or (lambda *_: None)
    report("", "prepare", 0, 1)
    with open_run("precision", config, options) as conduct:
        fold = _Fold(config, prepare(config), report)
        found: PrecisionResult = conduct.measure(fold, publish)
        return found


def _not_yet(
    verdict: PrecisionVerdict, findings: Sequence[Finding], rows: Sequence[PrecisionRow]
) -> tuple[PrecisionVerdict, tuple[Finding, ...]]:
    """Before the end nothing is recommended."""
    names = tuple(row.precision for row in rows if row.status == "ok")
    said = answer("precision.so_far", names=names)
    kept = [one for one in findings if one.code == "row.failed"]
    return verdict.model_copy(update={"precision": None}), (said, *kept)


class _Fold:
    """A result from events, whatever has arrived of them so far."""

    def __init__(self, config: PrecisionConfig, workload: Workload, report: Progress) -> None:
        self.config, self.workload, self.report = config, workload, report
        self.environment = Environment()
        self.records: dict[str, Records] = {}
        self.failures: dict[str, Failure | None] = {}
        self.num_more = 0

    def run(self, conduct: Conduct[PrecisionResult]) -> None:
        """All cells; the machine first, and a device that cannot be measured is a `UserError`."""
        machine, *cells = cells_of(self.config, self.workload)
        failure = conduct.run_cells([machine], self.take)[MACHINE]
        if failure is not None:
            remedy = "Try --device cpu, or free memory on the device"
            problem = f"cannot be measured ({failure.reason})"
            raise UserError("device", self.config.device, problem, remedy)
        self._run_rounds(conduct, cells)
        if len(self.config.precisions) > 1 and machine_drift(self._rows()) > DRIFT_LIMIT:
            self.num_more = MORE_ROUNDS
            self._run_rounds(conduct, cells_of(self.config, self.workload, MORE_ROUNDS)[len(cells) + 1 :])

    def _run_rounds(self, conduct: Conduct[PrecisionResult], cells: Sequence[Cell]) -> None:
        """One after another: what failed in the first is not tried again in a later one."""
        size = len(self.config.precisions)
        for start in range(0, len(cells), size):
            left = [
                cell
                for cell in cells[start : start + size]
                if cell.payload["precision"] == cell.name or self._is_alive(cell.payload["precision"])
            ]
            self.failures |= conduct.run_cells(left, self.take)

    def _is_alive(self, precision: str) -> bool:
        """Its first round was timed to the end."""
        records = self.records.get(precision)
        return records is not None and len(records.generations) == len(self.workload.prompts)

    def take(self, cell: Cell, event: Event) -> None:
        """One event of a cell."""
        if event["event"] == "progress":
            name = "" if cell.name == MACHINE else cell.name
            self.report(name, event["stage"], event["done"], event["total"])
        elif cell.name == MACHINE:
            if event["event"] == "environment":
                self.environment = Environment.model_validate(event["environment"])
        else:
            self.records.setdefault(cell.name, Records()).take(event)
            if event["event"] == "failure":
                self.failures[cell.name] = Failure.of(event)

    def has_numbers(self) -> bool:
        """Whether any precision has finished its prompts."""
        wanted = len(self.workload.prompts)
        return any(len(records.generations) == wanted for records in self.records.values())

    def result(self, *, is_complete: bool) -> PrecisionResult:
        """Rows for the precisions that have begun, in the order in which they were asked for."""
        config = self.config
        rows = self._rows()
        stored = self.workload.checkpoint.stored_dtype
        verdict, findings = decide(rows, config.reference_precision, config.max_ppl_increase, stored)
        if not is_complete:
            verdict, findings = _not_yet(verdict, findings, rows)
        return PrecisionResult(
            config=config,
            environment=self.environment,
            model=self.workload.checkpoint.record(),
            text=self.workload.text,
            rows=tuple(rows),
            floor=self._floor(),
            verdict=verdict,
            findings=(
                *findings,
                *self._more_rounds(),
                *warnings_of(rows),
                *crowding_of(self.environment, config.threads),
                *self._lost_rounds(),
            ),
        )

    def _floor(self) -> Quality | None:
        records = self.records.get(self.config.reference_precision)
        return None if records is None else records.floor_quality(on_answers=self.config.kld_on == "prompts")

    def _rows(self) -> list[PrecisionRow]:
        wanted = len(self.workload.prompts)
        scored = [
            name
            for name in self.config.precisions
            if self._scores(name) is not None and len(self.records[name].generations) == wanted
        ]
        base = stand_in(scored, self.config.reference_precision)
        reference = self._scores(base)
        rows: Mapping[str, PrecisionRow] = {
            name: build_row(
                name,
                self.records.get(name, Records()),
                RowContext(
                    self.workload.plan,
                    self.environment.copy_bytes_s,
                    None if name == base else reference,
                    wanted,
                    self.config.kld_on == "prompts",
                ),
                self.failures.get(name),
                self._later(name),
            )
            for name in order(self.config)
            if name in self.failures or name in self.records
        }
        # of an interrupted run, those that were not finished have no row
        kept = {n: r for n, r in rows.items() if n in self.failures or r.status == "ok"}
        return with_process_noise([kept[name] for name in self.config.precisions if name in kept])

    def _later(self, precision: str) -> list[Records]:
        """Further rounds that were finished."""
        numbers = range(2, self.config.num_rounds + self.num_more + 1)
        found = [self.records.get(round_name(precision, number)) for number in numbers]
        wanted = len(self.workload.prompts)
        return [one for one in found if one is not None and len(one.generations) == wanted]

    def _more_rounds(self) -> list[Finding]:
        return [reason("precision.more_rounds", n=self.num_more)] if self.num_more else []

    def _lost_rounds(self) -> list[Finding]:
        return [
            warning("precision.round_lost", name, status=failure.status, why=failure.reason)
            for name, failure in self.failures.items()
            if failure is not None and name not in self.config.precisions
        ]

    def _scores(self, name: str) -> Scores | None:
        records = self.records.get(name)
        return None if records is None else records.scores(self.workload.plan)
