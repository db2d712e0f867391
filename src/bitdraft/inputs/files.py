"""Reading a checkpoint's small files: what a folder holds in place of them is told apart by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bitdraft.errors import UserError, one_line

AGAIN = "Download or save the checkpoint again"
ORIGINAL = "Name the checkpoint that it was made from, in fp32, fp16 or bf16"
_POINTER = b"version https://git-lfs"
_LARGEST_POINTER = 1024


def stand_in_problem(path: Path) -> str | None:
    """Why a file that is named has no content of its own: a dangling link, or a Git LFS pointer left by a
    clone without Git LFS. None where it has, or where there is no such file."""
    if path.is_symlink() and not path.exists():
        return f"{path.name} is a link to a file that is missing"
    try:
        if path.stat().st_size <= _LARGEST_POINTER:
            with path.open("rb") as handle:
                if handle.read(len(_POINTER)) == _POINTER:
                    return f"{path.name} is a Git LFS pointer, not the file itself"
    except OSError:
        return None
    return None


def refuse_stand_ins(paths: list[Path], name: str, field: str) -> None:
    """Raise `UserError` for the first of these files that only stands for one."""
    for path in paths:
        problem = stand_in_problem(path)
        if problem is None:
            continue
        remedy = "Download the checkpoint again, or copy it with what its links point to"
        if "LFS" in problem:
            remedy = "Fetch the files with: git lfs pull"
        raise UserError(field, name, problem, remedy)


def read_object(path: Path, name: str, field: str) -> dict[str, Any]:
    """The JSON object in a checkpoint's file. Raises `UserError`."""
    refuse_stand_ins([path], name, field)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        problem = f"{path.name} cannot be read ({one_line(error)})"
        raise UserError(field, name, problem, AGAIN) from error
    if not isinstance(found, dict):
        raise UserError(field, name, f"{path.name} is no object", AGAIN)
    return found
