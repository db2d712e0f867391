"""Which result files a folder holds. A file that cannot be read is a warning beside the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bitdraft.errors import UserError, one_line
from bitdraft.schema.io import KINDS, AnyResult, read_result
from bitdraft.schema.manifest import counted_files, unfinished_runs


@dataclass(frozen=True)
class Found:
    """A result and its file's path below the folder."""

    where: str
    result: AnyResult


@dataclass(frozen=True)
class Folder:
    """What was read of one folder, recommendations first, then precision, then speculation; `label` tells
    it from the others; `warnings` name the files that cannot be read, `unfinished` the runs that were not
    ended."""

    path: Path
    label: str
    found: tuple[Found, ...]
    warnings: tuple[str, ...]
    unfinished: tuple[str, ...] = ()


def read_folders(paths: Sequence[Path]) -> list[Folder]:
    """All folders, each once. One without a result file, or none that can be read, is a `UserError`."""
    if not paths:
        raise UserError("DIR", "", "no folder is named", "Name a folder that holds results")
    unique = list({path.resolve(): path for path in paths}.values())
    labels = _labels([path.resolve() for path in unique])
    folders = [_read(path, label) for path, label in zip(unique, labels, strict=True)]
    if not any(folder.found for folder in folders):
        first = folders[0]
        remedy = "Measure again or name another folder"
        raise UserError(
            "DIR", first.path, f"no result file can be read ({first.warnings[0].rstrip('.')})", remedy
        )
    return folders


def _read(path: Path, label: str) -> Folder:
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise UserError("DIR", path, what, "Name a folder that holds results")
    found, warnings = [], []
    for pattern, kind in KINDS.items():
        for file in sorted(counted_files(path, pattern), key=_order):
            where = file.relative_to(path)
            try:
                found.append(Found(where.as_posix(), read_result(file, kind)))
            except UserError as error:
                warnings.append(unreadable(where.as_posix(), error.problem))
            except RecursionError as error:
                warnings.append(unreadable(where.as_posix(), one_line(error)))
    unfinished = unfinished_runs(path)
    if not found and not warnings and unfinished:
        raise UserError("DIR", path, f"holds no result yet ({unfinished[0]})", "Name another folder")
    if not found and not warnings:
        names = "precision.json, spec_decode_*.json, recommendation.json or serving.json"
        remedy = "Name the --output folder of bitdraft precision, spec-decode, recommend or serve-bench"
        raise UserError("DIR", path, f"holds no {names}", remedy)
    return Folder(path, label, tuple(found), tuple(warnings), tuple(map(sentence_of, unfinished)))


def sentence_of(note: str) -> str:
    """With a capital letter and a full stop."""
    return f"{note[0].upper()}{note[1:]}."


def _order(file: Path) -> tuple[bool, bool, Path]:
    """What was measured before what is stated, and that before what is predicted."""
    return "_plan_" in file.name, "_synthetic_" in file.name, file


def unreadable(where: str, problem: str) -> str:
    return f"{where} cannot be shown: {problem}."


def _labels(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    for length in range(1, max(len(path.parts) for path in paths) + 1):
        labels = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(labels)) == len(labels):
            break
    return labels
