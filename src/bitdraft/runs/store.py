"""A run on disk: a folder with a manifest, a lock, and a journal for each cell.

    DIR/run.json            what was asked, with which versions, on which machine, its state, its files
    DIR/cells/ID.jsonl      the events of a cell as they arrived; what a result is folded from
    DIR/…                   results, tables and charts; the manifest says which files are the run's

The same configuration in the same folder continues. Another one, another machine or other versions are
refused with what differs.
"""

from __future__ import annotations

import contextlib
import json
import platform
import shutil
import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

import bitdraft
from bitdraft.config.running import RunOptions
from bitdraft.errors import UserError, one_line
from bitdraft.probes.machine import describe_machine
from bitdraft.runs.cell import Cell, fingerprint, slug
from bitdraft.runs.journal import Journal, read_events
from bitdraft.schema.io import prepare_output, write_atomically
from bitdraft.schema.manifest import COMMANDS, MANIFEST, CellEntry, Manifest, read_manifest

CELLS, LOCK = "cells", ".lock"
_FRESH = "Name another folder with --output, or replace it with --fresh"
_RESULTS = ("precision.json", "spec_decode_*.json", "recommendation.json")


def default_folder(root: Path, model: str, kind: str, config: Mapping[str, Any]) -> Path:
    """`results/<model>-<command>-<short hash of the configuration>`: the same command finds its own run."""
    name = slug(Path(model).name or model, 32)
    return root / f"{name}-{COMMANDS.get(kind, kind)}-{fingerprint(config, 8)}"


def versions() -> dict[str, str | None]:
    """Of what decides numbers, without importing any of it."""
    found: dict[str, str | None] = {"bitdraft": bitdraft.__version__, "python": platform.python_version()}
    for name in ("torch", "transformers"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def now_utc() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class Run:
    """An open run. Without a folder nothing is kept, and all else is the same.

    Used as a context: it holds the folder's lock, and leaves the state `interrupted` behind unless `finish`
    was called. Raises `UserError` where the folder holds another run, or is in use.
    """

    def __init__(
        self, kind: str, config: Mapping[str, Any], folder: Path | None, options: RunOptions
    ) -> None:
        self.folder, self.options = folder, options
        stamp = now_utc()
        self.manifest = Manifest(
            kind=kind,
            config=dict(config),
            versions=versions(),
            machine=describe_machine(),
            created_utc=stamp,
            updated_utc=stamp,
        )
        self.was_finished = False
        self._problem: str | None = None
        self._differing: list[str] = []
        self._computed = False
        # several cells at once tell of themselves from threads of their own
        self._changing = threading.RLock()
        self._is_to_clear = False
        self._is_new = self._is_refused = False
        self._here: dict[str, Any] = {}
        self._lock: FileLock | None = None
        self._journals: dict[str, Journal] = {}

    def __enter__(self) -> Self:
        if self.folder is not None:
            prepare_output(self.folder)
            self._lock = _locked(self.folder)
            try:
                self._continue()
            except BaseException:
                self._lock.release()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for journal in self._journals.values():
            journal.close()
        if self.folder is None:
            return
        was_only_read = self.was_finished and not self._computed
        if self.manifest.state == "running" and self.manifest.cells and not was_only_read:
            self.update(state="interrupted")
        if self._lock is not None:
            self._leave(self.folder, self._lock)

    def _leave(self, folder: Path, lock: FileLock) -> None:
        """Release the folder. Where nothing was measured, as for a bad request, nothing of the run stays."""
        with contextlib.suppress(OSError):
            if self._is_refused and self._is_new:
                _clear(folder)
            is_empty = not any((folder / CELLS).glob("*.jsonl")) and not self.manifest.replaced
            if self.manifest.state == "interrupted" and is_empty:
                (folder / MANIFEST).unlink(missing_ok=True)
            if not (folder / MANIFEST).exists():
                (folder / LOCK).unlink()
                folder.rmdir()  # if it is empty
        lock.release()

    def _continue(self) -> None:
        """Take over what the folder holds, if it is this run's."""
        assert self.folder is not None
        before = read_manifest(self.folder)
        self._is_new = before is None
        if before is None:
            if not self.options.fresh:
                _refuse_results(self.folder)
            return
        if self.options.fresh:
            replaced = tuple(dict.fromkeys((*before.files, *before.replaced)))
            self.manifest = self.manifest.model_copy(update={"replaced": replaced})
            self._is_to_clear = True
            return
        _refuse_other(self.folder, before, self.manifest)
        self.was_finished = before.state == "finished"
        self._differing = _differences(before, self.manifest)
        if not self.was_finished or self.options.retry_failed:
            self._refuse_mixing()
        self._here = {"machine": self.manifest.machine, "versions": self.manifest.versions}
        self.manifest = before.model_copy(update={"state": "running"})

    def _refuse_mixing(self) -> None:
        if self._differing and not self.options.mix_machines:
            assert self.folder is not None
            raise _another_machine(self.folder, self._differing)

    def begin(self, cells: Sequence[Cell]) -> None:
        """Say which cells the run has. Refuses those that are other ones than the folder's (a checkpoint or a
        text has changed since)."""
        if self._is_to_clear and self.folder is not None:
            _clear(self.folder)
            self._is_to_clear = False
        known = {entry.name: entry for entry in self.manifest.cells}
        for cell in cells:
            entry = known.get(cell.name)
            if entry is not None and entry.id != cell.id:
                self._replace(entry, cell)
                entry = None
            known[cell.name] = entry or CellEntry(id=cell.id, name=cell.name)
        if tuple(known.values()) != self.manifest.cells or not self.was_finished:
            self.update(cells=tuple(known.values()))

    def _replace(self, entry: CellEntry, cell: Cell) -> None:
        """A cell that is another one now. Raises `UserError` unless nothing of it was measured, or all of it
        is to be measured again."""
        assert self.folder is not None
        path = self.folder / CELLS / f"{entry.id}.jsonl"
        if not path.exists():
            return
        is_lost = not cell.retried(read_events(path)[0][1:])
        if not is_lost or not self.options.retry_failed:
            problem = f"{cell.name} was measured with another checkpoint, text, command or version"
            remedy = "Measure what had failed again with --retry-failed" if is_lost else _FRESH
            raise UserError("output", self.folder, problem, remedy)
        path.unlink()

    def journal(self, cell: Cell) -> Journal:
        """A cell's, with the events that it has."""
        if cell.id not in self._journals:
            path = None if self.folder is None else self.folder / CELLS / f"{cell.id}.jsonl"
            header = {"id": cell.id, "name": cell.name, "identity": dict(cell.identity)}
            retried = cell.retried if self.options.retry_failed else None
            self._journals[cell.id] = Journal(path, header, retried)
        return self._journals[cell.id]

    @property
    def unsaved(self) -> str | None:
        """Why something of the run is on no disk; None where all is."""
        return self._problem or next((j.problem for j in self._journals.values() if j.problem), None)

    def note_refused(self) -> None:
        """What was asked for cannot be measured, and nothing of it was: a run that is new leaves nothing."""
        self._is_refused = True

    def note_computed(self) -> None:
        """Something is measured now, and not only read. Raises `UserError` where that would mix machines."""
        with self._changing:
            if self._computed:
                return
            self._refuse_mixing()
            self._computed = True
            mixed = self.manifest.mixed
            if self._differing and self._here not in mixed:
                mixed = (*mixed, self._here)
            self.update(state="running", mixed=mixed)

    def note_machine(self, cell: Cell, name: str) -> None:
        """Where a cell is computed, where that is not here."""
        with self._changing:
            entries = [
                e.model_copy(update={"machines": (*e.machines, name)})
                if e.id == cell.id and name not in e.machines
                else e
                for e in self.manifest.cells
            ]
            self.update(cells=tuple(entries))

    def finish(self, files: Sequence[str]) -> None:
        """All cells have ended, and these are the run's files."""
        shown_again = self.was_finished and not self._computed
        finished = self.manifest.finished_utc if shown_again else now_utc()
        if self.folder is not None:
            _remove(self.folder, set(self.manifest.replaced) - set(files))
        ended = {"state": "finished", "finished_utc": finished, "shown_again": shown_again}
        self.update(files=tuple(files), replaced=(), **ended)

    def update(self, **changes: Any) -> None:
        """Change the manifest, on disk as well. That the disk is full ends no measuring: it is `unsaved`."""
        with self._changing:
            self.manifest = self.manifest.model_copy(update=changes | {"updated_utc": now_utc()})
            if self.folder is not None:
                self._write(self.folder / MANIFEST)

    def _write(self, path: Path) -> None:
        text = json.dumps(self.manifest.model_dump(mode="json"), indent=1, ensure_ascii=False)
        try:
            write_atomically(path, text + "\n")
        except UserError as error:
            if not path.exists():
                raise  # nothing has begun
            self._problem = f"{MANIFEST} {error.problem}"


def finished_cells(folder: Path) -> frozenset[str]:
    """The ids of all cells at any depth whose journals say that they are done."""
    paths = folder.rglob(f"{CELLS}/*.jsonl")
    return frozenset(path.stem for path in paths if _is_done(path))


def _is_done(path: Path) -> bool:
    events, _ = read_events(path)
    return bool(events) and events[-1]["event"] == "done"


def _locked(folder: Path) -> FileLock:
    """A dead owner does not keep it."""
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        problem = "another run is writing there"
        raise UserError("output", folder, problem, "Wait for it, or name another --output folder") from error
    except OSError as error:
        problem = f"cannot be locked ({one_line(error)})"
        raise UserError("output", folder, problem, "Choose another --output folder") from error
    return lock


def _clear(folder: Path) -> None:
    """Begin anew. The files of the results stay until there are new ones, but no manifest counts them."""
    shutil.rmtree(folder / CELLS, ignore_errors=True)
    (folder / MANIFEST).unlink(missing_ok=True)


def _remove(folder: Path, names: Iterable[str]) -> None:
    """Files that an earlier run has left."""
    for name in names:
        path = folder / name
        if path.parent == folder and path.is_file():
            path.unlink(missing_ok=True)


def _refuse_results(folder: Path) -> None:
    """Results without a manifest are an earlier version's, or were put there."""
    found = next((path for pattern in _RESULTS for path in sorted(folder.glob(pattern))), None)
    if found is not None:
        problem = f"holds {found.name}, which no run's manifest names"
        raise UserError("output", folder, problem, _FRESH)


def _resolved(value: Any) -> Any:
    """Two ways of writing one folder are the same setting."""
    if isinstance(value, str) and Path(value).expanduser().is_dir():
        return str(Path(value).expanduser().resolve())
    return [_resolved(one) for one in value] if isinstance(value, list) else value


def _refuse_other(folder: Path, before: Manifest, own: Manifest) -> None:
    if before.kind != own.kind:
        there, here = (COMMANDS.get(kind, kind) for kind in (before.kind, own.kind))
        problem = f"holds a run of {there}, this is {here}"
        raise UserError("output", folder, problem, _FRESH)
    names = sorted(set(before.config) | set(own.config))
    found = [n for n in names if _resolved(before.config.get(n)) != _resolved(own.config.get(n))]
    if found:
        shown = [
            f"{n} {_short(before.config.get(n))} there, {_short(own.config.get(n))} here" for n in found[:3]
        ]
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        problem = f"holds a run of another configuration ({'; '.join(shown)}{more})"
        raise UserError("output", folder, problem, _FRESH)


def _short(value: object, longest: int = 40) -> str:
    text = "not set" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _differences(before: Manifest, own: Manifest) -> list[str]:
    """Machine and versions that are not the same, as `torch 2.9 → 2.10`."""
    pairs = [(before.versions, own.versions), (before.machine, own.machine)]
    return [
        f"{name} {old.get(name)} → {new.get(name)}"
        for old, new in pairs
        for name in sorted(set(old) | set(new))
        if old.get(name) != new.get(name)
    ]


def _another_machine(folder: Path, differing: Sequence[str]) -> UserError:
    problem = f"was begun on another machine or with other versions ({', '.join(differing)})"
    remedy = "Continue it there, measure anew with --fresh, or mix both with --mix-machines"
    return UserError("output", folder, problem, remedy)
