"""One run from its opening to its files: what all modules do alike.

A module brings a *fold*: it runs its cells, takes their events, and gives a result of whatever has arrived.
Whatever happens on the way, what was measured is folded, shown and saved: an interrupt, an error after the
measuring, a disk that is full.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from bitdraft.config.base import Config
from bitdraft.config.running import RunOptions
from bitdraft.errors import Interrupted, UserError, signal_of
from bitdraft.runs.cell import Cell, Failure
from bitdraft.runs.deadline import undisturbed
from bitdraft.runs.executors import make_executor
from bitdraft.runs.executors.base import Executor
from bitdraft.runs.schedule import OnEvent, run_cells
from bitdraft.runs.store import Run, default_folder
from bitdraft.schema.findings import answer, warning
from bitdraft.schema.places import places_of, without_places
from bitdraft.schema.results import UNRECORDED, Result

_R = TypeVar("_R", bound=Result)


class Fold(Protocol[_R]):
    """A module's side of a run."""

    def run(self, conduct: Conduct[_R]) -> None:
        """Run all cells, and take their events."""

    def has_numbers(self) -> bool:
        """Whether anything was finished that a result could show."""
        ...

    def result(self, *, is_complete: bool) -> _R:
        """Of what has arrived so far; not complete where the run was ended before its end."""
        ...


class Conduct(Generic[_R]):
    """An open run and the executor of its cells."""

    def __init__(self, run: Run, executor: Executor, places: Mapping[str, str]) -> None:
        self.run, self.executor, self.places = run, executor, places

    @property
    def folder(self) -> Path | None:
        """The run's; None where nothing is kept."""
        return self.run.folder

    def run_cells(self, cells: Sequence[Cell], on_event: OnEvent) -> dict[str, Failure | None]:
        """What is missing of these cells; how each ended, by name."""
        return run_cells(self.run, cells, self.executor, on_event)

    def is_over(self, cells: Sequence[Cell]) -> bool:
        """Whether nothing of them is missing."""
        return all(self.run.journal(cell).has_ended for cell in cells)

    def measure(self, fold: Fold[_R], publish: Callable[[_R, Path | None], tuple[_R, Sequence[str]]]) -> _R:
        """Run the fold, and publish its result. Raises `UserError` and `Interrupted` with `result` where
        something was finished before."""
        try:
            fold.run(self)
        except KeyboardInterrupt as error:
            raise self._interrupted(error, fold, publish) from error
        except UserError as error:
            if fold.has_numbers():
                error.result = self._publish(fold, publish, is_complete=False)[0]
            else:
                self.run.note_refused()
            raise
        with undisturbed():
            result, files = self._publish(fold, publish, is_complete=True)
            self.run.finish(files)
        if self.run.unsaved is not None:
            remedy = "Free space there, and give the command again"
            problem = UserError("output", self.folder, self.run.unsaved, remedy)
            problem.result = result
            raise problem
        return result

    def _publish(
        self,
        fold: Fold[_R],
        publish: Callable[[_R, Path | None], tuple[_R, Sequence[str]]],
        *,
        is_complete: bool,
    ) -> tuple[_R, Sequence[str]]:
        found = self._completed(fold.result(is_complete=is_complete), is_complete)
        try:
            shared = found if self.folder is None else without_places(found, self.places)
            published, files = publish(shared, self.folder)
            result = published.model_copy(update={"config": found.config})  # type: ignore[attr-defined]
        except UserError as error:
            error.result = publish(found, None)[0]
            raise
        if not is_complete:
            self.run.update(state="interrupted", files=tuple(files))
        return result, files

    def _completed(self, result: _R, is_complete: bool) -> _R:
        """With what only the run knows: whether all was measured, and where."""
        manifest = self.run.manifest
        machines = tuple(dict.fromkeys(name for entry in manifest.cells for name in entry.machines))
        findings = list(result.findings)
        if not is_complete and all(found.code != "run.incomplete" for found in findings):
            findings.insert(0, answer("run.incomplete"))
        if len(machines) > 1:
            findings.append(warning("run.machines", machines=machines))
        if manifest.mixed:
            findings.append(warning("run.mixed", n=1 + len(manifest.mixed)))
        update: dict[str, Any] = {"is_complete": is_complete, "findings": tuple(findings)}
        return result.model_copy(update=update | {"machines": machines if len(machines) > 1 else ()})

    def _interrupted(
        self,
        error: KeyboardInterrupt,
        fold: Fold[_R],
        publish: Callable[[_R, Path | None], tuple[_R, Sequence[str]]],
    ) -> Interrupted:
        result: object = None
        if fold.has_numbers():
            try:
                result = self._publish(fold, publish, is_complete=False)[0]
            except UserError as problem:
                result = problem.result
        return Interrupted(signal_of(error), result, self.folder)


def folder_of(kind: str, config: Config, options: RunOptions) -> Path | None:
    """The options' folder, or the configuration's own below the options' root; None where nothing is kept."""
    if options.output is not None or options.root is None:
        return options.output
    asked = _asked(config)
    return default_folder(options.root, str(asked.get("model", "")), kind, asked)


def _asked(config: Config) -> dict[str, Any]:
    return config.model_dump(mode="json", exclude=set(UNRECORDED))


@contextlib.contextmanager
def open_run(kind: str, config: Config, options: RunOptions) -> Iterator[Conduct[Any]]:
    """The run of this configuration, in its folder."""
    with Run(kind, _asked(config), folder_of(kind, config, options), options) as run:
        places = {} if options.include_paths else places_of(config, run.folder)
        yield Conduct(run, make_executor(options), places)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Within, SIGTERM and SIGHUP do what Ctrl-C does: they raise `Interrupted` on the main thread."""

    def interrupt(number: int, _frame: object) -> None:
        raise Interrupted(number)

    names = [n for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]
    before = {}
    try:
        for name in names:
            number = getattr(signal, name)
            before[number] = signal.signal(number, interrupt)
    except ValueError:
        pass  # not the main thread: the caller's handlers stay
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
