"""Carry out the runs of a matrix, one after another, each in its own folder below the matrix's.

A run that fails does not end the others. The same matrix in the same folder goes on with what is missing:
what is finished is read, not measured again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bitdraft.config.running import RunOptions
from bitdraft.errors import UserError
from bitdraft.matrix.read import Wanted
from bitdraft.runs.conduct import folder_of
from bitdraft.schema.results import Result

Measure = Callable[[Wanted, RunOptions], Result]
"""Carries out one run."""


@dataclass(frozen=True)
class Outcome:
    """What has become of a run: its result, or the error that ended it."""

    wanted: Wanted
    folder: Path
    result: Result | None = None
    error: UserError | None = None


def folder_of_run(wanted: Wanted, root: Path) -> Path:
    """Where a run of the matrix is kept."""
    found = folder_of(wanted.kind, wanted.config, RunOptions(root=root))
    assert found is not None
    return found


def carry_out(
    matrix: Sequence[Wanted],
    options: RunOptions,
    root: Path,
    measure: Measure,
    on_run: Callable[[int, Wanted], None] | None = None,
) -> list[Outcome]:
    """All runs of a matrix below `root`. An interrupt ends them all."""
    found = []
    for index, wanted in enumerate(matrix, 1):
        if on_run is not None:
            on_run(index, wanted)
        folder = folder_of_run(wanted, root)
        try:
            result = measure(wanted, options.model_copy(update={"output": folder}))
        except UserError as error:
            found.append(Outcome(wanted, folder, error=error))
        else:
            found.append(Outcome(wanted, folder, result=result))
    return found
