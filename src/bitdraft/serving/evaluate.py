"""Run the serving module: find out what the servers are, cut prompts, measure each load in a cell of its own,
fold what came back into a result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bitdraft.config.running import RunOptions
from bitdraft.config.serving import ServeBenchConfig
from bitdraft.errors import UserError
from bitdraft.runs.cell import Cell, Event, Failure, fingerprint
from bitdraft.runs.conduct import Conduct, open_run
from bitdraft.schema.environment import Environment, ModelRecord
from bitdraft.schema.findings import answer, warning
from bitdraft.schema.serving import ServingResult
from bitdraft.serving.analysis import Records, build_rows
from bitdraft.serving.verdict import decide, warnings_of
from bitdraft.serving.workload import Workload, prepare, without_folders

Progress = Callable[[str, str, int, int], None]
"""(load, stage, done, total)"""
Publish = Callable[[ServingResult, Path | None], tuple[ServingResult, Sequence[str]]]

_CELLS = "bitdraft.serving.cells"
CLIENT = "client"
_NOT_MEASURED = {"data_root", "max_ttft_ms", "max_tpot_ms", "concurrency", "speculative_tokens"}


def cells_of(config: ServeBenchConfig, workload: Workload) -> list[Cell]:
    """One a load."""
    settings = config.model_dump(mode="json")
    shared = {
        "config": config.model_dump(mode="json", exclude=_NOT_MEASURED),
        "servers": [one.model_dump(mode="json") for one in workload.servers],
    }
    cells = []
    for load in config.loads:
        payload = {
            "config": settings,
            "load": load,
            "prompts": workload.sent[load],
            "clusters": workload.clusters[load],
            "servers": [one.model_dump(mode="json") for one in workload.servers],
        }
        identity = {**shared, "load": load, "prompts": fingerprint(workload.sent[load], 32)}
        cells.append(Cell(load_name(load, config), f"{_CELLS}:measure", payload, identity, stage="requests"))
    return cells


def load_name(load: int, config: ServeBenchConfig) -> str:
    """`concurrency 4`, or `2 requests a second`"""
    return f"concurrency {load}" if load else f"{config.rate:g} requests a second"


def measure_servers(
    config: ServeBenchConfig,
    options: RunOptions,
    publish: Publish,
    on_progress: Progress | None = None,
) -> ServingResult:
    """Measure what a configuration asks for, or what is missing of it. See `bitdraft.bench_servers`."""
    report = on_progress or (lambda *_: None)
    report("", "prepare", 0, 1)
    with open_run("serving", config, options) as conduct:
        if config.rate is not None and config.concurrency != (1,):
            raise UserError("rate", config.rate, "is a load of its own", "Give --rate or --concurrency")
        fold = _Fold(config, prepare(config, config.loads), report)
        found: ServingResult = conduct.measure(fold, publish)
        return found


class _Fold:
    """A result from events, whatever has arrived of them so far."""

    def __init__(self, config: ServeBenchConfig, workload: Workload, report: Progress) -> None:
        self.config, self.workload, self.report = config, workload, report
        self.environment = Environment()
        self.records = Records()
        self.failures: dict[int, Failure] = {}

    def run(self, conduct: Conduct[ServingResult]) -> None:
        """All loads, the smallest first."""
        machine = Cell(CLIENT, f"{_CELLS}:measure_client", {}, {}, stage="environment")
        conduct.run_cells([machine], self.take)
        cells = cells_of(self.config, self.workload)
        ended = conduct.run_cells(cells, self.take)
        for load, cell in zip(self.config.loads, cells, strict=True):
            failure = ended.get(cell.name)
            if failure is not None:
                self.failures[load] = failure

    def take(self, cell: Cell, event: Event) -> None:
        """One event of a cell."""
        if event["event"] == "progress":
            self.report(cell.name, event["stage"], event["done"], event["total"])
        elif event["event"] == "environment":
            self.environment = Environment.model_validate(event["environment"])
        else:
            self.records.take(event)

    def has_numbers(self) -> bool:
        """Whether any request is over."""
        return bool(self.records.requests)

    def result(self, *, is_complete: bool) -> ServingResult:
        """Of what has arrived."""
        config = self.config
        servers = tuple(map(without_folders, self.workload.servers))
        rows = build_rows(self.records, config, {n: failure.reason for n, failure in self.failures.items()})
        verdict, findings = decide(rows, config)
        if not is_complete:
            findings = [answer("serving.so_far", n=len(self.records.in_order()))]
        notes = warnings_of(self.records, rows, config)
        if not self.workload.has_own_prompts:
            notes.append(warning("serving.same_prompts"))
        return ServingResult(
            config=config,
            environment=self.environment,
            model=ModelRecord(name=servers[0].served_model),
            text=self.workload.text,
            servers=servers,
            rows=tuple(rows),
            requests=tuple(self.records.in_order()),
            verdict=verdict,
            findings=(*findings, *notes),
        )
