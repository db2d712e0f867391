"""Compare two folders of results: pair the files, refuse what is not comparable, compare row by row."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bitdraft.compare.arms import AnyResult, Arms, arms_of
from bitdraft.compare.comparable import refusal, tokenizer_problem, was_asked
from bitdraft.compare.differences import differences, machine_words, merged, same_work
from bitdraft.compare.folders import Folder, pair_files, read_folder
from bitdraft.compare.output import save
from bitdraft.compare.records import Comparison, Difference, Refusal, RowComparison, RowName
from bitdraft.compare.rows import Pair, compare_arms
from bitdraft.compare.verdict import decide
from bitdraft.errors import UserError, one_line
from bitdraft.schema.io import prepare_output
from bitdraft.schema.results import PrecisionResult
from bitdraft.tables import joined


@dataclass(frozen=True)
class _Compared:
    """Two files that may be compared, and their arms under the names of the first."""

    a: AnyResult
    b: AnyResult
    arms_a: Arms
    arms_b: Arms
    rows: tuple[RowComparison, ...]
    lost: tuple[RowName, ...]
    differences: Sequence[Difference]


def compare_results(a: str | Path, b: str | Path, *, output: str | Path | None = None) -> Comparison:
    """Compare the results in folder `b` with those in folder `a`, row by row; every ratio is B over A.

    With `output` set, comparison.json, .csv, .md and .png are written there. Raises `UserError` where a
    folder holds no result, a file is damaged, or nothing in the two can be compared. Of several files, those
    that can't be compared are in `refused`.
    """
    if output is not None:
        prepare_output(Path(output))
    sides = Folder(Path(a)), Folder(Path(b))
    with _damage_named([side.path for side in sides]):
        sides = read_folder(Path(a), "A"), read_folder(Path(b), "B")
        names = pair_files(sides[0].results, sides[1].results)
        found = [_compare_pair(sides, name, other) for name, other in names]
        done = [entry for entry in found if isinstance(entry, _Compared)]
        refused = [entry for entry in found if isinstance(entry, Refusal)]
        if not done:
            raise _nothing_left(sides, refused)
        comparison = _gather(sides, names, done, refused)
        if not comparison.rows:
            raise _no_rows(sides[1], comparison)
    if output is not None:
        save(comparison, Path(output))
    return comparison


def _compare_pair(sides: tuple[Folder, Folder], name: str, other: str) -> _Compared | Refusal:
    with _damage_named([sides[0].path / f"{name}.json", sides[1].path / f"{other}.json"]):
        return _compare_files(name, sides[0].results[name], sides[1].results[other])


@contextlib.contextmanager
def _damage_named(paths: Sequence[Path]) -> Iterator[None]:
    """A result file is JSON of the right kind, but what is in its open parts may be anything."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        problem = f"a result file is damaged ({type(error).__name__}: {one_line(error)})"
        remedy = "Measure again or name other folders"
        raise UserError("result", " or ".join(map(str, paths)), problem, remedy) from error


def _compare_files(source: str, a: AnyResult, b: AnyResult) -> _Compared | Refusal:
    refused = refusal(source, a, b)
    if refused is not None:
        return refused
    pair = Pair(
        is_greedy=isinstance(a, PrecisionResult) or a.config["temperature"] == 0,
        tokenizer_problem=tokenizer_problem(a, b),
        same_work=same_work(a, b),
    )
    arms = arms_of(a, source), arms_of(b, source)
    rows = tuple(
        compare_arms(name, arm, arms[1][name], pair) for name, arm in arms[0].items() if name in arms[1]
    )
    lost = tuple(name for name in arms[0] if name not in arms[1] and was_asked(b, name, like=a))
    return _Compared(a, b, *arms, rows, lost, differences(source, a, b))


def _gather(
    sides: tuple[Folder, Folder],
    names: Sequence[tuple[str, str]],
    done: Sequence[_Compared],
    refused: Sequence[Refusal],
) -> Comparison:
    comparison = Comparison(
        a=sides[0].describe(),
        b=sides[1].describe(),
        rows=tuple(row for entry in done for row in entry.rows),
        only_a=tuple(name for entry in done for name in entry.arms_a if name not in entry.arms_b),
        only_b=tuple(name for entry in done for name in entry.arms_b if name not in entry.arms_a),
        files_only_a=tuple(n for n in sides[0].results if n not in {one for one, _ in names}),
        lost=tuple(name.full for entry in done for name in entry.lost),
        files_only_b=tuple(n for n in sides[1].results if n not in {other for _, other in names}),
        refused=tuple(refused),
        skipped=tuple(dict.fromkeys(plan for side in sides for plan in side.plans)),
        differences=(*_recommended(sides), *merged([d for entry in done for d in entry.differences])),
    )
    machine = machine_words([(entry.a, entry.b) for entry in done], comparison.rows)
    return comparison.model_copy(update={"verdict": decide(comparison, machine)})


def _recommended(sides: tuple[Folder, Folder]) -> list[Difference]:
    """What `recommend` said on either side, where that isn't the same."""
    a, b = (side.recommended for side in sides)
    return [] if a == b else [Difference(key="recommended", a=a, b=b)]


def _nothing_left(sides: tuple[Folder, Folder], refused: Sequence[Refusal]) -> UserError:
    """The first refusal in full, the others in short; or that the folders have nothing in common."""
    if not refused:
        held = [joined(sorted(side.results)) for side in sides]
        problem = f"holds no result that A has, too: A has {held[0]}, B has {held[1]}"
        return UserError("B", sides[1].path, problem, "Measure the same on both sides")
    first = refused[0]
    others = "".join(f"; {entry.source}: {entry.field} is {entry.values}" for entry in refused[1:])
    return UserError(first.field, first.values, f"{first.problem} ({first.source}{others})", first.remedy)


def _no_rows(side: Folder, comparison: Comparison) -> UserError:
    held = [joined([name.full for name in names]) for names in (comparison.only_a, comparison.only_b)]
    problem = f"has no row that A has, too: A has {held[0]}, B has {held[1]}"
    return UserError("B", side.path, problem, "Measure the same rows on both sides")
