"""Run the serving module: find out what the servers are, cut prompts, measure each load in a cell of its own,
fold what came back into a result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from bitdraft.schema.serving import ServerRecord, ServingResult
from bitdraft.servers.launch import NotStarted, launched
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
NOTHING: Mapping[str, Sequence[str]] = MappingProxyType({})
_NOT_MEASURED = {"data_root", "max_ttft_ms", "max_tpot_ms", "concurrency", "speculative_tokens", "launch"}


def cells_of(
    config: ServeBenchConfig,
    workload: Workload,
    servers: Sequence[ServerRecord],
    half: range | None = None,
    starts: Mapping[str, Sequence[str]] = NOTHING,
) -> list[Cell]:
    """One a load, of these servers together, and of all prompts or of those of one half. `starts` are the
    commands of those that were started here, which are another server at another port."""
    records = [one.model_dump(mode="json") for one in servers]
    ours = {one.name: list(starts[one.name]) for one in servers if one.name in starts}
    shared = {
        "config": config.model_dump(mode="json", exclude=_NOT_MEASURED | ({"servers"} if ours else set())),
        "servers": records,
    }
    if ours:
        given = [entry for entry in config.servers if entry.partition("=")[0] not in starts]
        shared |= {"starts": ours, "given": given}
    cells = []
    for load in config.loads:
        name = load_name(load, config)
        if half is not None:
            name = f"{name}, {servers[0].name} from prompt {half.start}"
        payload = {
            "config": config.model_dump(mode="json"),
            "load": load,
            "prompts": workload.sent[load],
            "clusters": workload.clusters[load],
            "servers": records,
            "indices": [half.start, half.stop] if half is not None else None,
        }
        identity = {**shared, "load": load, "prompts": fingerprint(workload.sent[load], 32)}
        identity |= {} if half is None else {"indices": payload["indices"]}
        cells.append(Cell(name, f"{_CELLS}:measure", payload, identity, stage="requests"))
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
        workload = prepare(config, config.loads)
        fold: _Fold
        if config.one_at_a_time:
            fold = _InTurn(config, workload, report)
            found: ServingResult = conduct.measure(fold, publish)
            return found
        with started(
            config, conduct.folder, lambda name, _: report(f"starting {name}", "start", 0, 1)
        ) as group:
            fold = _SideBySide(with_servers(config, group.servers, group.ks), workload, report, group)
            side_by_side: ServingResult = conduct.measure(fold, publish)
            return side_by_side


def with_servers(config: ServeBenchConfig, servers: Sequence[str], ks: Mapping[str, int]) -> ServeBenchConfig:
    """With the servers that were started among them, and their K, where none was told."""
    told = {entry.rpartition("=")[0] for entry in config.speculative_tokens}
    known = [f"{name}={k}" for name, k in ks.items() if name not in told]
    settings = {"servers": tuple(servers), "speculative_tokens": (*known, *config.speculative_tokens)}
    return make_config(ServeBenchConfig, dict(config) | settings)


class _Fold:
    """A result from events, whatever has arrived of them so far."""

    def __init__(self, config: ServeBenchConfig, workload: Workload, report: Progress) -> None:
        self.config, self.workload, self.report = config, workload, report
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

    def lose(self, name: str, why: str) -> None:
        """A server that never answered."""
        for load in self.config.loads:
            self.failures.setdefault((name, load), why)

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
        if not self.workload.has_own_prompts:
            notes.append(warning("serving.same_prompts"))
        if config.one_at_a_time:
            notes.append(warning("serving.in_turn", n=NUM_TURNS))
        return ServingResult(
            config=config,
            environment=self.environment,
            model=ModelRecord(name=(servers[0].served_model if servers else None) or UNNAMED),
            text=self.workload.text,
            servers=servers,
            rows=tuple(rows),
            requests=tuple(self.records.in_order()),
            verdict=verdict,
            findings=(*findings, *notes),
        )


class _SideBySide(_Fold):
    """Servers that all run: their requests take turns prompt by prompt."""

    def __init__(self, config: ServeBenchConfig, workload: Workload, report: Progress, group: Group) -> None:
        super().__init__(config, workload, report)
        self.group = group
        for name, why in group.lost.items():
            self.lose(name, why)
        alive = {name: url for name, url in config.urls.items() if name not in group.lost}
        self.servers = {name: ask(name, url, config) for name, url in alive.items()}

    def run(self, conduct: Conduct[ServingResult]) -> None:
        """All loads."""
        self.measure_client(conduct)
        cells = cells_of(self.config, self.workload, list(self.servers.values()), None, self.group.commands)
        try:
            self.run_cells(conduct, cells, list(self.servers))
        finally:
            self.died = self.group.died


class _InTurn(_Fold):
    """Servers that are started here, of which there is room for one: each runs twice, with half of the
    prompts each time."""

    def __init__(self, config: ServeBenchConfig, workload: Workload, report: Progress) -> None:
        assert config.launch is not None
        self.declared = {one.name: one for one in read_declarations(config.launch)}
        if config.servers:
            problem = "runs already, and the others are started one at a time"
            raise UserError("servers", config.servers[0], problem, "Leave it out, or --one-at-a-time")
        # where they are is known when they run
        urls = [f"{name}=http://127.0.0.1:{one.port}" for name, one in self.declared.items()]
        ks = {name: one.k for name, one in self.declared.items() if one.k is not None}
        super().__init__(with_servers(config, urls, ks), workload, report)

    def run(self, conduct: Conduct[ServingResult]) -> None:
        """A B B A."""
        self.measure_client(conduct)
        with log_folder(conduct.folder) as logs:
            for number, half in enumerate(halves(self.config.num_prompts)):
                for name in turns(list(self.declared), number):
                    if not any(own == name for own, _ in self.failures):
                        self._run_one(conduct, name, half, logs)

    def _run_one(self, conduct: Conduct[ServingResult], name: str, half: range, logs: Path) -> None:
        declaration = self.declared[name]

        def on_wait(_: float) -> None:
            self.report(f"starting {name}", "start", 0, 1)

        on_wait(0.0)
        try:
            with launched(declaration, logs, on_wait) as server:
                config = with_servers(self.config, [f"{name}={server.url}"], {})
                self.servers[name] = ask(name, server.url, config)
                starts = {name: declaration.command}
                cells = cells_of(config, self.workload, [self.servers[name]], half, starts)
                self.run_cells(conduct, cells, [name])
                if server.has_died:
                    self.died[name] = server.last_words
        except NotStarted as error:
            self.lose(name, str(error))
