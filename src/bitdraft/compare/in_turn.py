"""Measure two sides in turn: what each has results of, again, A B B A, each time in processes of its own.

A machine that changes slowly then changes both sides alike, and what one process does to all of its prompts
is in the spread between the rounds. The sides may be measured by different installations of bitdraft, before
and after an upgrade say.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bitdraft.compare.compare import compare_rounds
from bitdraft.compare.folders import read_folder
from bitdraft.config.commands import words_of
from bitdraft.errors import UserError
from bitdraft.schema.comparison import Comparison

ROUNDS = 3
MOST_ROUNDS = 20


@dataclass(frozen=True)
class _Step:
    """One command: `name` is the result's that is measured again."""

    side: str
    round: int
    name: str
    command: list[str]
    folder: Path


def compare_in_turn(
    folders: tuple[Path, Path],
    output: Path,
    *,
    num_rounds: int,
    pythons: tuple[str | None, str | None],
    more: Sequence[str],
    on_step: Callable[[str], None],
) -> Comparison:
    """Measure, or go on with what is missing, and compare. `more` are words for every command."""
    if not 2 <= num_rounds <= MOST_ROUNDS:
        problem = f"is not between 2 and {MOST_ROUNDS}: the spread between rounds needs two"
        raise UserError("rounds", num_rounds, problem, f"Give a number like {ROUNDS}")
    versions = [_versions(side, python) for side, python in zip("ab", pythons, strict=True)]
    steps = [_steps(side, folders[place], output, pythons[place], more) for place, side in enumerate("ab")]
    order = [
        step(number)
        for number in range(1, num_rounds + 1)
        # A B, B A, A B, …
        for of_side in (steps if number % 2 else steps[::-1])
        for step in of_side
    ]
    for count, step in enumerate(order, 1):
        on_step(f"{count} of {len(order)}: {step.side.upper()}, round {step.round}: {step.name}")
        _carry_out(step, versions["ab".index(step.side)])
    rounds = [[output / f"{side}-{number}" for number in range(1, num_rounds + 1)] for side in "ab"]
    return compare_rounds(rounds[0], rounds[1])


def _steps(
    side: str, folder: Path, output: Path, python: str | None, more: Sequence[str]
) -> list[Callable[[int], _Step]]:
    """What makes the command of a round, for each result of the folder."""
    found = read_folder(folder, side.upper())

    def maker(name: str) -> Callable[[int], _Step]:
        result = found.results[name]
        words = words_of(result.kind, result.config.model_dump(mode="json"))

        def make(number: int) -> _Step:
            own = output / f"{side}-{number}" / name
            command = [python or sys.executable, "-m", "bitdraft", *words, *more, "--output", str(own)]
            return _Step(side, number, name, command, own)

        return make

    return [maker(name) for name in found.results]


def _versions(side: str, python: str | None) -> dict[str, str]:
    """What a side is measured by; a Python that has no bitdraft is found before anything is measured."""
    command = [python or sys.executable, "-c", _ASK]
    field, remedy = f"--python-{side}", "Name a Python that bitdraft is installed for"
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UserError(field, command[0], f"cannot be started ({error.strerror})", remedy) from error
    try:
        found: dict[str, str] = json.loads(done.stdout)
    except ValueError as error:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UserError(field, command[0], f"cannot measure ({said[-1]})", remedy) from error
    return found


_ASK = """
import json, bitdraft
from importlib.metadata import version
print(json.dumps({"bitdraft": bitdraft.__version__, **{n: version(n) for n in ("torch", "transformers")}}))
"""


def _carry_out(step: _Step, versions: dict[str, str]) -> None:
    done = subprocess.run(step.command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):  # 1: measured, and nothing that can be recommended
        said = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        problem = f"could not be measured again: {said[-1]}"
        raise UserError(
            f"{step.side.upper()}: {step.name}", step.folder, problem, "Mend it, then give the command again"
        )
    for result in read_folder(step.folder, step.side.upper()).results.values():
        measured = result.environment.model_dump()
        other = [name for name, version in versions.items() if measured.get(name) not in (None, version)]
        if other:
            problem = f"was measured with another {' and '.join(other)} than this side's Python has now"
            raise UserError("--output", step.folder, problem, "Name a new folder, or remove this one")
