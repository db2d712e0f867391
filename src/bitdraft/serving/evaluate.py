"""Run the serving module: find out what the servers are, cut prompts, measure each load in a cell of its own,
fold what came back into a result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from bitdraft.config import make_config
from bitdraft.config.running import RunOptions
from bitdraft.config.serving import ServeBenchConfig
from bitdraft.errors import UserError
from bitdraft.runs.cell import Cell, Event, fingerprint
from bitdraft.runs.conduct import Conduct, open_run
from bitdraft.schema.environment import Environment, ModelRecord
from bitdraft.schema.findings import answer, warning
from bitdraft.schema.io import read_result
from bitdraft.schema.serving import ServerRecord, ServingResult
from bitdraft.servers.launch import Declaration, NotStarted, launched
from bitdraft.servers.turns import NUM_TURNS, halves, turns
from bitdraft.serving.analysis import Records, build_rows, with_noise_of_turns
from bitdraft.serving.declared import read_declarations
from bitdraft.serving.started import Group, log_folder, started
from bitdraft.serving.verdict import decide, warnings_of
from bitdraft.serving.workload import UNNAMED, Workload, ask, prepare, without_folders

Progress = Callable[[str, str, int, int], None]
"""(load, stage, done, total)"""
Publish = Callable[[ServingResult, Path | None], tuple[ServingResult, Sequence[str]]]

_CELLS = "bitdraft.serving.cells"
CLIENT = "client"
RESULT = "serving.json"
_NOT_MEASURED = {"data_root", "max_ttft_ms", "max_tpot_ms", "concurrency", "speculative_tokens"}


def cells_of(
    config: ServeBenchConfig,
    workload: Workload,
    commands: Mapping[str, Sequence[str]],
    half: tuple[str, range] | None = None,
) -> list[Cell]:
    """One a load, of all servers together, or of one of them and half of the prompts. `commands` are those
    that are started here, which are another server at another port. `in_cells` says where they are."""
    names = [name for name in config.urls if half is None or name == half[0]]
    shared = {
        "config": config.model_dump(mode="json", exclude=_NOT_MEASURED | {"servers", "launch"}),
        "servers": {name: list(commands.get(name, ())) or config.urls[name] for name in names},
    }
    cells = []
    for load in config.loads:
        name, indices = load_name(load, config), None
        if half is not None:
            name = f"{name}, {half[0]} from prompt {half[1].start}"
            indices = [half[1].start, half[1].stop]
        payload = {
            "load": load,
            "prompts": workload.sent[load],
            "clusters": workload.clusters[load],
            "indices": indices,
        }
        identity = {**shared, "load": load, "prompts": fingerprint(workload.sent[load], 32)}
        identity |= {} if half is None else {"indices": indices}
        cells.append(
            Cell(name, f"{_CELLS}:measure", payload, identity, stage="requests", retried=unless_lost)
        )
    return cells


def in_cells(
    cells: Sequence[Cell],
    config: ServeBenchConfig,
    servers: Sequence[ServerRecord],
    lost: Mapping[str, str] = MappingProxyType({}),
) -> list[Cell]:
    """With the servers that answer, at the URLs of this configuration, and why others don't."""
    found = {
        "config": config.model_dump(mode="json"),
        "servers": [one.model_dump(mode="json") for one in servers],
        "lost": dict(lost),
    }
    return [replace(cell, payload={**cell.payload, **found}) for cell in cells]


def unless_lost(events: Sequence[Event]) -> list[Event]:
    """What stays of a load where what failed is measured again: nothing where a server or a request was lost,
    since all take turns."""
    is_lost = any(
        event["event"] in ("lost", "failure") or (event["event"] == "request" and event["request"]["error"])
        for event in events
    )
    return [] if is_lost else list(events)


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
        if config.one_at_a_time and config.servers:
            problem = "runs already, and the others are started one at a time"
            raise UserError("servers", config.servers[0], problem, "Leave it out, or --one-at-a-time")
        plan = _Plan.of(config)
        cells = [cell for part in plan.cells.values() for cell in part]
        conduct.run.begin(cells)
        finished = _finished(conduct, cells, publish)
        if finished is not None:
            return finished
        fold: _Fold
        if config.one_at_a_time:
            fold = _InTurn(plan, report)
            found: ServingResult = conduct.measure(fold, publish)
            return found
        with started(
            list(plan.declared.values()),
            config.servers,
            conduct.folder,
            lambda name, _: report(f"starting {name}", "start", 0, 1),
        ) as group:
            fold = _SideBySide(plan, report, group)
            side_by_side: ServingResult = conduct.measure(fold, publish)
            return side_by_side


def _finished(
    conduct: Conduct[ServingResult], cells: Sequence[Cell], publish: Publish
) -> ServingResult | None:
    """What a finished run has measured, unless some of it is to be measured again: no server is asked or
    started to show it."""
    run, folder = conduct.run, conduct.folder
    if folder is None or not run.was_finished or not (folder / RESULT).exists():
        return None
    if run.options.retry_failed and not conduct.is_over(cells):
        return None
    found, files = publish(read_result(folder / RESULT, ServingResult), folder)
    run.finish(files)
    return found


@dataclass(frozen=True)
class _Plan:
    """All that is to be measured. `config` has all servers, those that are started here among them, and
    their K; `cells` are by server and half where they run one at a time, else under None."""

    config: ServeBenchConfig
    declared: Mapping[str, Declaration]
    workload: Workload
    cells: Mapping[tuple[str, range] | None, Sequence[Cell]]

    @classmethod
    def of(cls, config: ServeBenchConfig) -> _Plan:
        """Reads texts and declarations, and asks nobody; raises `UserError`."""
        declared = (
            {} if config.launch is None else {one.name: one for one in read_declarations(config.launch)}
        )
        workload = prepare(config, config.loads)
        # where they are is known when they run
        urls = [f"{name}=http://127.0.0.1:{one.port}" for name, one in declared.items()]
        ks = {name: one.k for name, one in declared.items() if one.k is not None}
        own = with_servers(config, (*urls, *config.servers), ks)
        commands = {
            name: [*(f"{key}={value}" for key, value in one.env.items()), *one.command]
            for name, one in declared.items()
        }
        parts: list[tuple[str, range] | None] = [None]
        if config.one_at_a_time:
            parts = [
                (name, half)
                for number, half in enumerate(halves(config.num_prompts))
                for name in turns(list(declared), number)
            ]
        return cls(own, declared, workload, {part: cells_of(own, workload, commands, part) for part in parts})


def with_servers(config: ServeBenchConfig, servers: Sequence[str], ks: Mapping[str, int]) -> ServeBenchConfig:
    """With the servers that were started among them, and their K, where none was told."""
    told = {entry.rpartition("=")[0] for entry in config.speculative_tokens}
    known = [f"{name}={k}" for name, k in ks.items() if name not in told]
    settings = {"servers": tuple(servers), "speculative_tokens": (*known, *config.speculative_tokens)}
    return make_config(ServeBenchConfig, dict(config) | settings)


class _Fold:
    """A result from events, whatever has arrived of them so far."""

    def __init__(self, plan: _Plan, report: Progress) -> None:
        self.plan, self.config, self.report = plan, plan.config, report
        self.environment = Environment()
        self.servers: dict[str, ServerRecord] = {}
        self.records = Records()
        self.failures: dict[tuple[str, int], str] = {}
        self.died: dict[str, str] = {}

    def measure_client(self, conduct: Conduct[ServingResult]) -> None:
        """What the requests are sent from."""
        machine = Cell(CLIENT, "bitdraft.serving.machine:measure", {}, {}, stage="environment")
        conduct.run_cells([machine], self.take)

    def run_cells(self, conduct: Conduct[ServingResult], cells: Sequence[Cell], names: Sequence[str]) -> None:
        """One a load, the smallest first, of these servers."""
        ended = conduct.run_cells(cells, self.take)
        for load, cell in zip(self.config.loads, cells, strict=True):
            failure = ended.get(cell.name)
            if failure is not None:
                self.failures |= {(name, load): failure.reason for name in names}

    def take(self, cell: Cell, event: Event) -> None:
        """One event of a cell."""
        if event["event"] == "progress":
            self.report(cell.name, event["stage"], event["done"], event["total"])
        elif event["event"] == "environment":
            self.environment = Environment.model_validate(event["environment"])
        elif event["event"] == "servers":
            self.servers |= {one["name"]: ServerRecord.model_validate(one) for one in event["servers"]}
        elif event["event"] == "lost":
            self.failures[event["server"], event["load"]] = event["reason"]
        else:
            self.records.take(event)

    def has_numbers(self) -> bool:
        """Whether any request is over."""
        return bool(self.records.requests)

    def result(self, *, is_complete: bool) -> ServingResult:
        """Of what has arrived."""
        config = self.config
        servers = tuple(map(without_folders, self.servers.values()))
        rows = build_rows(self.records, config, self.failures)
        if config.one_at_a_time:
            rows = with_noise_of_turns(rows, self.records, config)
        doubts = warnings_of(self.records, rows, config)
        verdict, findings = decide(rows, config, doubts)
        if not is_complete:
            findings = [answer("serving.so_far", n=len(self.records.in_order()))]
        notes = [warning("serving.died", name, why=why) for name, why in self.died.items()]
        notes += doubts
        if not self.plan.workload.has_own_prompts:
            notes.append(warning("serving.same_prompts"))
        if config.one_at_a_time:
            notes.append(warning("serving.in_turn", n=NUM_TURNS))
        return ServingResult(
            config=config,
            environment=self.environment,
            model=ModelRecord(name=(servers[0].served_model if servers else None) or UNNAMED),
            text=self.plan.workload.text,
            servers=servers,
            rows=tuple(rows),
            requests=tuple(self.records.in_order()),
            verdict=verdict,
            findings=(*findings, *notes),
        )


class _SideBySide(_Fold):
    """Servers that all run: their requests take turns prompt by prompt."""

    def __init__(self, plan: _Plan, report: Progress, group: Group) -> None:
        super().__init__(plan, report)
        self.group = group

    def run(self, conduct: Conduct[ServingResult]) -> None:
        """All loads."""
        self.measure_client(conduct)
        config = with_servers(self.config, self.group.servers, {})
        alive = {name: url for name, url in config.urls.items() if name not in self.group.lost}
        servers = [ask(name, url, config) for name, url in alive.items()]
        try:
            cells = in_cells(self.plan.cells[None], config, servers, self.group.lost)
            self.run_cells(conduct, cells, list(alive))
        finally:
            self.died = self.group.died


class _InTurn(_Fold):
    """Servers that are started here, of which there is room for one: each runs twice (A B B A), with half of
    the prompts each time."""

    def run(self, conduct: Conduct[ServingResult]) -> None:
        """All turns."""
        self.measure_client(conduct)
        with log_folder(conduct.folder) as logs:
            for part, cells in self.plan.cells.items():
                assert part is not None
                name = part[0]
                if any(own == name for own, _ in self.failures):
                    continue
                if conduct.is_over(cells):
                    self.run_cells(conduct, cells, [name])
                else:
                    self._run_one(conduct, name, cells, logs)

    def _run_one(self, conduct: Conduct[ServingResult], name: str, cells: Sequence[Cell], logs: Path) -> None:
        def on_wait(_: float) -> None:
            self.report(f"starting {name}", "start", 0, 1)

        on_wait(0.0)
        try:
            with launched(self.plan.declared[name], logs, on_wait) as server:
                config = with_servers(self.config, [f"{name}={server.url}"], {})
                self.run_cells(conduct, in_cells(cells, config, [ask(name, server.url, config)]), [name])
                if server.has_died:
                    self.died[name] = server.last_words
        except NotStarted as error:
            self.failures |= {(name, load): str(error) for load in self.config.loads}
