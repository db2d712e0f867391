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
from pathlib import Path
from typing import Any

from bitdraft.compare.compare import compare_rounds
from bitdraft.compare.folders import read_folder
from bitdraft.config.commands import words_of
from bitdraft.errors import UserError
from bitdraft.schema.comparison import Comparison
from bitdraft.schema.manifest import read_manifest

ROUNDS = 3
MOST_ROUNDS = 20


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
    by_side = dict(zip("ab", zip(folders, pythons, strict=True), strict=True))
    versions = {side: _versions(side, python) for side, (_, python) in by_side.items()}
    commands = {side: _commands(side, *given) for side, given in by_side.items()}
    order = [
        (side, number, name)
        for number in range(1, num_rounds + 1)
        for side in ("ab" if number % 2 else "ba")  # A B, B A, A B, …
        for name in commands[side]
    ]
    for count, (side, number, name) in enumerate(order, 1):
        on_step(f"{count} of {len(order)}: {side.upper()}, round {number}: {name}")
        own = output / f"{side}-{number}" / name
        command = [*commands[side][name], *more, "--output", str(own)]
        _carry_out(f"{side.upper()}: {name}", command, own, versions[side])
    rounds = [[output / f"{side}-{number}" for number in range(1, num_rounds + 1)] for side in "ab"]
    return compare_rounds(rounds[0], rounds[1])


def _commands(side: str, folder: Path, python: str | None) -> dict[str, list[str]]:
    """What measures each result of the folder again, by its name."""
    return {
        name: [
            *(python or sys.executable, "-m", "bitdraft"),
            *words_of(result.kind, _asked((folder / name).parent) or result.config.model_dump(mode="json")),
        ]
        for name, result in read_folder(folder, side.upper()).results.items()
    }


def _asked(run: Path) -> dict[str, Any] | None:
    """What a run's manifest says was asked, with the places that its results leave out."""
    manifest = read_manifest(run)
    return None if manifest is None else manifest.config


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


def _carry_out(what: str, command: Sequence[str], folder: Path, versions: dict[str, str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):  # 1: measured, and nothing that can be recommended
        said = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        problem = f"could not be measured again: {said[-1]}"
        raise UserError(what, folder, problem, "Mend it, then give the command again")
    for result in read_folder(folder, what[0]).results.values():
        measured = result.environment.model_dump()
        other = [name for name, version in versions.items() if measured.get(name) not in (None, version)]
        if other:
            problem = f"was measured with another {' and '.join(other)} than this side's Python has now"
            raise UserError("--output", folder, problem, "Name a new folder, or remove this one")
