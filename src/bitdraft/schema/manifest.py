"""What a run's folder says of itself, and which files in it are the run's."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from bitdraft.errors import UserError, one_line
from bitdraft.schema.records import Record

MANIFEST = "run.json"
MANIFEST_VERSION = 1
COMMANDS = {
    "precision": "precision",
    "spec_decode": "spec-decode",
    "recommendation": "recommend",
    "serving": "serve-bench",
}
"""The command of each kind of run."""
State = Literal["running", "interrupted", "finished"]


class CellEntry(Record):
    """A cell of a run: its journal's name, what people call it, and where it was computed: several machines
    where one was lost, none where that is the run's own."""

    id: str
    name: str
    machines: tuple[str, ...] = ()


class Manifest(Record):
    """What a run's folder says of itself. `config` is what was asked; `files` are the run's results by their
    names; `shown_again` says that it was finished before it was last opened; `mixed` are the machines and
    versions that continued it under `--mix-machines`; `replaced` are the files of the run that `--fresh`
    replaces, until there are new ones."""

    manifest_version: int = MANIFEST_VERSION
    kind: str
    config: dict[str, Any]
    versions: dict[str, str | None]
    machine: dict[str, Any]
    created_utc: str
    updated_utc: str
    finished_utc: str | None = None
    shown_again: bool = False
    state: State = "running"
    cells: tuple[CellEntry, ...] = ()
    files: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    mixed: tuple[dict[str, Any], ...] = Field(default=())


def read_manifest(folder: Path) -> Manifest | None:
    """A folder's, None where it holds none; a damaged one is a `UserError`."""
    path = folder / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError, ValueError) as error:
        why = one_line(error) if isinstance(error, OSError) else "it is damaged, or of another version"
        problem = f"its {MANIFEST} cannot be read ({why})"
        raise UserError("output", folder, problem, "Name another folder, or remove that file") from error


def counted_files(folder: Path, pattern: str) -> list[Path]:
    """Result files of this name at any depth, hidden folders apart, in order of their paths. Where a folder
    is a run's, only those that its manifest names: what an earlier run left there is not mixed in. What
    `--fresh` replaces counts until there is something new."""
    found = []
    counted: dict[Path, frozenset[str] | None] = {}
    for file in _visible(folder, pattern):
        if file.parent not in counted:
            counted[file.parent] = _counted(file.parent)
        names = counted[file.parent]
        if names is None or file.name in names:
            found.append(file)
    return found


def _visible(folder: Path, pattern: str) -> list[Path]:
    return [
        file
        for file in sorted(folder.rglob(pattern))
        if not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]


def _counted(folder: Path) -> frozenset[str] | None:
    """By a folder's manifest; None for all, where there is none or it cannot be read (`unfinished_runs` says
    so)."""
    try:
        manifest = read_manifest(folder)
    except UserError:
        return None
    return None if manifest is None else frozenset(manifest.files or manifest.replaced)


def unfinished_runs(folder: Path) -> list[str]:
    """What is said of the runs at any depth that are not finished, or whose manifest cannot be read. A step
    of a run that is finished was ended by that one's time limit."""
    found: list[str] = []
    finished: list[Path] = []
    for file in sorted(_visible(folder, MANIFEST), key=lambda file: len(file.parts)):
        if any(file.parent.is_relative_to(run) for run in finished):
            continue
        where = file.parent.relative_to(folder).as_posix()
        run = "its run" if where == "." else f"the run in {where}"
        try:
            manifest = read_manifest(file.parent)
        except UserError as error:
            found.append(f"of {run}, {error.problem.removeprefix('its ')}")
            continue
        if manifest is not None and manifest.state == "finished":
            finished.append(file.parent)
        elif manifest is not None:
            kept = "; what is shown of it is of before" if manifest.replaced and not manifest.files else ""
            found.append(f"{run} is not finished: give its command again to go on{kept}")
    return found
