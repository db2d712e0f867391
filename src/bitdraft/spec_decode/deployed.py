"""The sweep over engines that people deploy: each (draft, K), and K = 0, a process of its own.

Where memory has room for all of them, they run side by side and take turns prompt by prompt, as our own
engine's configurations do. Else each is started twice, A B B A, with half of the prompts each time. What
follows from their texts is in `deployed_texts`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from bitdraft.config import SpecDecodeConfig
from bitdraft.errors import UserError
from bitdraft.external import START, EngineDied, EngineProcess, EngineSetup
from bitdraft.formats.gguf import LLAMA_CPP
from bitdraft.inputs.checkpoints import find_checkpoint
from bitdraft.inputs.gguf.files import gguf_of
from bitdraft.inputs.models import resolve_device
from bitdraft.inputs.variants import Variant, draft_format
from bitdraft.probes.container import available_bytes
from bitdraft.probes.environment import describe
from bitdraft.probes.reference_work import reference_work_s
from bitdraft.runs.executors.base import Emit
from bitdraft.schema.records import Generation
from bitdraft.servers.turns import NUM_TURNS, halves, turns
from bitdraft.spec_decode.deployed_texts import explain, replay
from bitdraft.spec_decode.records import BASELINE, Key
from bitdraft.spec_decode.worker import Worker
from bitdraft.spec_decode.workload import SLACK_TOKENS

ROOM = 0.8
"""Share of the memory that is free which engines side by side may take"""


def measure(payload: dict[str, Any], emit: Emit) -> None:
    """The sweep. Emits `progress`, `environment`, `models`, a `run` for each prompt and configuration, a
    `prompt_over` where all are there, `memory` of engines, a `failed` for each (draft, K) that is lost, a
    `divergence` for each text that is not the baseline's, and an `agreement` for each prompt."""
    with ExitStack() as stack:
        logs = payload["logs"]
        if logs is None:
            logs = stack.enter_context(tempfile.TemporaryDirectory(prefix="bitdraft-engines-"))
        _Sweep(Worker.of(payload, emit), Path(payload["program"]), Path(logs)).measure()


class _Sweep:
    def __init__(self, worker: Worker, program: Path, logs: Path) -> None:
        self.worker, self.program, self.logs = worker, program, logs
        self.device = resolve_device(worker.config.device)
        lost = {(event["draft"], event["k"]) for event in worker.earlier("failed")}
        worker.active = [own for own in worker.config.configurations(list(worker.folders)) if own not in lost]
        self.runs: dict[tuple[Key, int], Generation] = {
            ((event["draft"], event["k"]), event["index"]): Generation.model_validate(event["generation"])
            for event in worker.earlier("run")
        }
        self.is_over = {event["index"] for event in worker.earlier("prompt_over")}
        self.done = len(self.runs)
        self._version: str | None = None
        self.has_peak: set[str | None] = {event["draft"] for event in worker.earlier("memory")}

    @property
    def _backend(self) -> str:
        return f"{self.worker.config.backend} {self._version or ''}".strip()

    @property
    def keys(self) -> list[Key]:
        """What still runs."""
        return [BASELINE, *self.worker.active]

    def measure(self) -> None:
        """All of it."""
        worker, emit = self.worker, self.worker.emit
        emit("progress", stage="environment", done=0, total=1)
        emit("environment", environment=describe(self.device).model_dump(mode="json"))
        with emit.slow():
            self._find_files()
            reference_work_s(self.device)
        self._time_the_machine()
        with ExitStack() as stack:
            engines = {} if self._is_measured else self._together(stack)
            if engines:
                self._by_prompts(engines)
                explain(worker, self.runs, lambda: nullcontext(engines[BASELINE]))
        if not self._is_measured:
            self._by_halves()
        for index in range(len(worker.prompts)):
            self._end_prompt(index)
        explain(worker, self.runs, lambda: self._engine(BASELINE))
        if worker.active:
            texts = {index: self.runs[BASELINE, index].token_ids for index in sorted(self.is_over)}
            replay(worker, self.device, texts, self._backend)

    @property
    def _is_measured(self) -> bool:
        return all(
            (key, index) in self.runs for key in self.keys for index in range(len(self.worker.prompts))
        )

    def _find_files(self) -> None:
        """As the engine takes them: folders, or GGUF files, which are made where there are none."""
        config = self.worker.config
        target = find_checkpoint(config)
        names: dict[str | None, tuple[Variant, SpecDecodeConfig]] = {
            None: (Variant(target, config.precision), config)
        }
        for draft, folder in self.worker.folders.items():
            own = config.model_copy(update={"model": folder, "gguf": ()})
            found = find_checkpoint(own)
            wanted = draft_format(Variant(target, config.precision), found, config.draft_precision)
            names[draft] = Variant(found, wanted), own
        self.files: dict[str | None, Path] = {}
        for label, (variant, own) in names.items():
            checkpoint = variant.checkpoint
            is_file = variant.format.backend == LLAMA_CPP
            self.files[label] = gguf_of(checkpoint, variant.name, own) if is_file else checkpoint.folder

    def _engine(self, key: Key) -> AbstractContextManager[EngineProcess]:
        draft, k = key
        config = self.worker.config.model_copy(update={"device": str(self.device)})
        setup = EngineSetup(
            "K-0" if draft is None else f"{draft}-K-{k}",
            self.program,
            self.files[None],
            None if draft is None else self.files[draft],
            k,
            max(map(len, self.worker.prompts)) + config.max_new_tokens + k + SLACK_TOKENS,
            config,
            self.logs,
        )
        return self._started(key, START[config.backend](setup))

    @contextmanager
    def _started(self, key: Key, engine: AbstractContextManager[EngineProcess]) -> Iterator[EngineProcess]:
        """Warm, and told apart from another version's."""
        worker = self.worker
        worker.emit("progress", stage="load", done=self.keys.index(key), total=len(self.keys))
        with ExitStack() as stack:
            with worker.emit.slow():
                found = stack.enter_context(engine)
                brief = worker.brief().max_new_tokens
                with found.awake():
                    found.generate(worker.prompts[0], brief, 0)
            if self._version != found.version:
                self._version = found.version
                models = {"precision": worker.config.precision, "backend": self._backend}
                own = {label: dict(models) for label in worker.folders}
                worker.emit("models", target=models, drafts=own)
            yield found
            if key[0] not in self.has_peak and key[1] in (0, worker.config.k[-1]):
                peak = found.peak_bytes()
                self.has_peak.add(key[0])
                if peak is not None:
                    worker.emit("memory", draft=key[0], peak_bytes={"peak_ram": peak})

    # side by side

    def _together(self, stack: ExitStack) -> dict[Key, EngineProcess]:
        """All engines; none where they are to run one at a time, or there is no room for all."""
        worker = self.worker
        if worker.config.one_at_a_time or self.device.type == "cuda":
            return {}
        free = available_bytes()
        own = ExitStack()
        engines = {BASELINE: own.enter_context(self._engine(BASELINE))}
        taken = max(0, free - available_bytes())
        # a draft's engine takes more than one without
        drafts = max((_size(self.files[label]) for label in worker.folders), default=0)
        if taken + (taken + drafts) * len(worker.active) > ROOM * free:
            own.close()
            return {}
        stack.enter_context(own)
        for key in list(worker.active):
            try:
                engines[key] = own.enter_context(self._engine(key))
            except (EngineDied, UserError) as error:
                worker.drop(key[0], key[1], error)
        return engines

    def _by_prompts(self, engines: dict[Key, EngineProcess]) -> None:
        for index in range(len(self.worker.prompts)):
            for key in turns(list(engines), index):
                if key in self.keys:
                    self._run(engines[key], key, index)
            self._end_prompt(index)
            self._time_the_machine()

    # one at a time

    def _by_halves(self) -> None:
        worker = self.worker
        worker.note("deployed.in_turn", n=NUM_TURNS)
        for number, half in enumerate(halves(len(worker.prompts))):
            for key in turns(self.keys, number):
                missing = [index for index in half if (key, index) not in self.runs]
                if not missing or key not in self.keys:
                    continue
                try:
                    with self._engine(key) as engine:
                        for index in missing:
                            self._run(engine, key, index)
                            if key not in self.keys:
                                break
                except (EngineDied, UserError) as error:
                    self._lose(key, error)
                self._time_the_machine()
            for index in half:
                self._end_prompt(index)

    def _run(self, engine: EngineProcess, key: Key, index: int) -> None:
        """One request, unless an earlier attempt has made it."""
        worker, (draft, k) = self.worker, key
        if (key, index) in self.runs:
            return
        total = len(self.keys) * len(worker.prompts)
        worker.emit("progress", stage="runs", done=self.done, total=total)
        try:
            with worker.emit.slow(), engine.awake():
                seed = worker.seed(draft, k, index)
                found = engine.generate(worker.prompts[index], worker.config.max_new_tokens, seed)
        except (EngineDied, ValueError) as error:
            self._lose(key, error)
            return
        found = found.model_copy(update={"cluster": worker.clusters[index]})
        self.runs[key, index] = found
        self.done += 1
        worker.emit("run", draft=draft, k=k, index=index, generation=found.model_dump(mode="json"))

    def _lose(self, key: Key, error: Exception) -> None:
        """A configuration; without K = 0 there is nothing to compare with."""
        draft, k = key
        if draft is None:
            raise error
        self.worker.drop(draft, k, error)

    def _end_prompt(self, index: int) -> None:
        if index not in self.is_over and all((key, index) in self.runs for key in self.keys):
            self.is_over.add(index)
            self.worker.emit("prompt_over", index=index)

    def _time_the_machine(self) -> None:
        self.worker.emit("reference_work", seconds=reference_work_s(self.device))


def _size(path: Path) -> int:
    """Of a file, or of a folder's weights."""
    files: Sequence[Path] = [path] if path.is_file() else list(path.glob("*.safetensors"))
    return sum(file.stat().st_size for file in files)
