"""Run the serving module: find out what the servers are, cut prompts, measure each load in a cell of its own,
fold what came back into a result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitdraft.config import ModelConfig
from bitdraft.config.running import RunOptions
from bitdraft.config.serving import ServeBenchConfig
from bitdraft.errors import UserError
from bitdraft.inputs.datasets import load_dataset
from bitdraft.inputs.prompts import Encoder, Prompt, encoder_of, select_prompts, text_record
from bitdraft.inputs.tokenizers import named_tokenizer
from bitdraft.runs.cell import Cell, Event, Failure, fingerprint
from bitdraft.runs.conduct import Conduct, open_run
from bitdraft.schema.environment import Environment, ModelRecord, TextRecord
from bitdraft.schema.findings import answer, warning
from bitdraft.schema.serving import ServerRecord, ServingResult
from bitdraft.servers.adapters import adapter_of
from bitdraft.servers.identify import identify
from bitdraft.serving.analysis import Records, build_rows
from bitdraft.serving.verdict import decide, warnings_of

Progress = Callable[[str, str, int, int], None]
"""(load, stage, done, total)"""
Publish = Callable[[ServingResult, Path | None], tuple[ServingResult, Sequence[str]]]

_CELLS = "bitdraft.serving.cells"
CLIENT = "client"
CHARS_PER_TOKEN = 4
_NOT_MEASURED = {"data_root", "max_ttft_ms", "max_tpot_ms", "concurrency", "speculative_tokens"}


@dataclass(frozen=True)
class Workload:
    """What is sent, each load's own: the same prompt twice is in a server's cache of prefixes."""

    servers: tuple[ServerRecord, ...]
    text: TextRecord
    sent: dict[int, list[Any]]
    clusters: dict[int, list[str]]
    has_own_prompts: bool


def prepare(config: ServeBenchConfig) -> Workload:
    """Ask the servers what they are and cut prompts; every bad input is found here (`UserError`)."""
    if config.rate is not None and config.concurrency != (1,):
        raise UserError("rate", config.rate, "is a load of its own", "Give --rate or --concurrency")
    found = [identify(name, url, config.served_model) for name, url in config.urls.items()]
    adapters = [adapter_of(one.engine, one.version) for one in found]
    servers = tuple(
        one.model_copy(update={"adapter": adapter.name}) for one, adapter in zip(found, adapters, strict=True)
    )
    dataset = load_dataset(config)
    encoder = _encoder(config)
    if config.tokenizer is not None and config.api == "completions":
        refusing = next((one for one, own in zip(servers, adapters, strict=True) if not own.takes_ids), None)
        if refusing is not None:
            problem = f"{refusing.name} ({refusing.engine}) is not known to take token ids"
            raise UserError("tokenizer", config.tokenizer, problem, "Leave it out")
    by_load, has_own = _prompts_by_load(config, dataset, encoder)
    prompts = [prompt for own in by_load.values() for prompt in own]
    record = text_record(dataset, prompts, config, encoder)
    if config.tokenizer is None:
        record = record.model_copy(update={"prompt_tokens": ()})
    messages = dict(zip(dataset.row_ids, dataset.conversations, strict=False))
    return Workload(
        servers,
        record,
        {load: [_sent(prompt, config, messages) for prompt in own] for load, own in by_load.items()},
        {load: [prompt.cluster for prompt in own] for load, own in by_load.items()},
        has_own,
    )


def _encoder(config: ServeBenchConfig) -> Encoder:
    """By tokens where there is a tokenizer, else by characters."""
    if config.tokenizer is None:
        return Encoder(lambda text: list(map(ord, text)))
    tokenizer = named_tokenizer(ModelConfig(tokenizer=config.tokenizer))
    found = encoder_of(tokenizer, config.bos)
    return Encoder(found.text, None, found.front)


def _prompts_by_load(
    config: ServeBenchConfig, dataset: Any, encoder: Encoder
) -> tuple[dict[int, list[Prompt]], bool]:
    """Each load its own, where the text has so many; else all the same."""
    asked = config
    if config.tokenizer is None:
        asked = config.model_copy(update={"max_prompt_tokens": CHARS_PER_TOKEN * config.max_prompt_tokens})
    asked = asked.model_copy(update={"chat": "off"})
    loads, num = config.loads, config.num_prompts
    if len(loads) > 1:
        try:
            several = asked.model_copy(update={"num_prompts": num * len(loads)})
            found = select_prompts(dataset, several, encoder, config.seed)
            return {load: found[place :: len(loads)] for place, load in enumerate(loads)}, True
        except UserError:
            pass
    found = select_prompts(dataset, asked, encoder, config.seed)
    return dict.fromkeys(loads, found), len(loads) == 1


def _sent(prompt: Prompt, config: ServeBenchConfig, messages: dict[str, Any]) -> Any:
    """A text, ids, or messages."""
    if config.api == "completions":
        return list(prompt.token_ids) if config.tokenizer else "".join(map(chr, prompt.token_ids))
    if messages.get(prompt.prompt_id):
        return [dict(one) for one in messages[prompt.prompt_id]]
    if config.tokenizer is None:
        return [{"role": "user", "content": "".join(map(chr, prompt.token_ids))}]
    tokenizer = named_tokenizer(ModelConfig(tokenizer=config.tokenizer))
    return [{"role": "user", "content": tokenizer.decode(prompt.token_ids, skip_special_tokens=True)}]


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
        fold = _Fold(config, prepare(config), report)
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
        servers = tuple(map(_without_folders, self.workload.servers))
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


def _without_folders(server: ServerRecord) -> ServerRecord:
    """llama.cpp calls a model by its whole path."""
    name = server.served_model or ""
    shown = name.replace("\\", "/").rsplit("/", 1)[-1] if name.startswith(("/", "~", ".")) else name
    return server.model_copy(update={"served_model": shown})
