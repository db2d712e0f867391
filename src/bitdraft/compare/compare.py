"""Compare two folders of results: pair the files, refuse what is not comparable, compare row by row."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bitdraft.compare.comparable import refusal, tokenizer_problem, was_asked
from bitdraft.compare.differences import differences, machine_findings, merged, same_work
from bitdraft.compare.folders import Folder, pair_files, read_folder
from bitdraft.compare.measured import Measurement, Rows, in_rounds, rows_of
from bitdraft.compare.pairing import speeds_by_round
from bitdraft.compare.rows import Pair, compare_rows
from bitdraft.compare.verdict import decide, held_together
from bitdraft.errors import UserError, one_line
from bitdraft.schema.comparison import Comparison, Difference, Refusal, RowComparison, RowName
from bitdraft.schema.findings import answer
from bitdraft.schema.precision import PrecisionResult
from bitdraft.schema.serving import ServingResult
from bitdraft.stats.intervals import Noise


@dataclass(frozen=True)
class _Compared:
    """Two files that may be compared, and their rows under the names of the first."""

    a: Measurement
    b: Measurement
    rows_a: Rows
    rows_b: Rows
    rows: tuple[RowComparison, ...]
    lost: tuple[RowName, ...]
    differences: Sequence[Difference]


Sides = tuple[Sequence[Folder], Sequence[Folder]]
"""A and B, a folder a round"""


def compare_folders(a: Path, b: Path) -> Comparison:
    """Compare the results in folder `b` with those in folder `a`. See `bitdraft.compare_results`."""
    return _compare([a], [b], None)


def compare_rounds(a: Sequence[Path], b: Sequence[Path]) -> Comparison:
    """The same of two sides that were measured in turn, a folder a round."""
    return _compare(a, b, min(len(a), len(b)))


def _compare(a: Sequence[Path], b: Sequence[Path], num_rounds: int | None) -> Comparison:
    with _damage_named([*a, *b]):
        sides = [read_folder(path, "A") for path in a], [read_folder(path, "B") for path in b]
        names = pair_files(sides[0][0].results, sides[1][0].results)
        found = [_compare_pair(sides, name, other, num_rounds) for name, other in names]
        done = [entry for entry in found if isinstance(entry, _Compared)]
        refused = [entry for entry in found if isinstance(entry, Refusal)]
        first = sides[0][0], sides[1][0]
        if not done:
            raise _nothing_left(first, refused)
        comparison = _gather(sides, names, done, refused, num_rounds)
        if not comparison.rows:
            raise _no_rows(first[1], comparison)
    return comparison


def _compare_pair(sides: Sides, name: str, other: str, num_rounds: int | None) -> _Compared | Refusal:
    names = name, other
    with _damage_named(
        [folder.path / f"{n}.json" for n, side in zip(names, sides, strict=True) for folder in side]
    ):
        a, b = ([f.results[n] for f in side if n in f.results] for n, side in zip(names, sides, strict=True))
        return _compare_files(name, a, b, in_turn=num_rounds is not None)


@contextlib.contextmanager
def _damage_named(paths: Sequence[Path]) -> Iterator[None]:
    """A result file is JSON of the right kind, but what is in its open parts may be anything."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        problem = f"a result file is damaged ({type(error).__name__}: {one_line(error)})"
        remedy = "Measure again or name other folders"
        raise UserError("result", " or ".join(map(str, paths)), problem, remedy) from error


def _compare_files(
    source: str, rounds_a: Sequence[Measurement], rounds_b: Sequence[Measurement], *, in_turn: bool
) -> _Compared | Refusal:
    a, b = rounds_a[0], rounds_b[0]
    refused = refusal(source, a, b)
    if refused is not None:
        return refused
    both = [in_rounds([rows_of(one, source) for one in side]) for side in (rounds_a, rounds_b)]
    pair = Pair(
        is_greedy=not isinstance(a, ServingResult)
        and (isinstance(a, PrecisionResult) or a.config.temperature == 0),
        tokenizer_problem=tokenizer_problem(a, b),
        same_work=same_work(a, b) and not in_turn,
        noise=_noise(both, in_turn=in_turn) if isinstance(a, PrecisionResult) else None,
        in_turn=in_turn,
    )
    rows = tuple(
        compare_rows(name, own, both[1][name], pair) for name, own in both[0].items() if name in both[1]
    )
    lost = tuple(name for name in both[0] if name not in both[1] and was_asked(b, name, like=a))
    return _Compared(a, b, both[0], both[1], rows, lost, differences(source, a, b))


def _noise(both: Sequence[Rows], *, in_turn: bool) -> Noise | None:
    """How processes differ that did the same, from all rows, each of which is of processes of its own: from
    round to round of both sides, or within each side."""
    speeds = [{name: speeds_by_round([*row.items.values()]) for name, row in rows.items()} for rows in both]
    if not in_turn:
        return Noise.of([own for side in speeds for own in side.values()])
    common = [(own, speeds[1][name]) for name, own in speeds[0].items() if name in speeds[1]]
    return Noise.of([[b / a for a, b in zip(*sides, strict=False)] for sides in common])


def _gather(
    sides: Sides,
    names: Sequence[tuple[str, str]],
    done: Sequence[_Compared],
    refused: Sequence[Refusal],
    num_rounds: int | None,
) -> Comparison:
    first = sides[0][0], sides[1][0]
    comparison = Comparison(
        a=first[0].describe(),
        b=first[1].describe(),
        rows=held_together([row for entry in done for row in entry.rows]),
        only_a=tuple(name for entry in done for name in entry.rows_a if name not in entry.rows_b),
        only_b=tuple(name for entry in done for name in entry.rows_b if name not in entry.rows_a),
        files_only_a=tuple(n for n in first[0].results if n not in {one for one, _ in names}),
        lost=tuple(name.full for entry in done for name in entry.lost),
        files_only_b=tuple(n for n in first[1].results if n not in {other for _, other in names}),
        refused=tuple(refused),
        plans=tuple(dict.fromkeys(plan for side in first for plan in side.plans)),
        rounds=num_rounds,
        differences=(*_recommended(first), *merged([d for entry in done for d in entry.differences])),
    )
    machine = machine_findings([(entry.a, entry.b) for entry in done], comparison.rows)
    counts, findings = decide(comparison, machine)
    unfinished = [
        answer("compare.unfinished", name, what=what)
        for name, side in zip("AB", sides, strict=True)
        for folder in side
        for what in folder.unfinished
    ]
    return comparison.model_copy(update={"counts": counts, "findings": (*unfinished, *findings)})


def _recommended(sides: tuple[Folder, Folder]) -> list[Difference]:
    """What `recommend` said on either side, where that isn't the same."""
    a, b = (side.recommended for side in sides)
    return [] if a == b else [Difference(key="recommended", a=a, b=b)]


def _nothing_left(sides: tuple[Folder, Folder], refused: Sequence[Refusal]) -> UserError:
    """The first refusal in full, the others in short; or that the folders have nothing in common."""
    if not refused:
        held = [_joined(sorted(side.results)) for side in sides]
        problem = f"holds no result that A has, too: A has {held[0]}, B has {held[1]}"
        return UserError("B", sides[1].path, problem, "Measure the same on both sides")
    first = refused[0]
    others = "".join(f"; {entry.source}: {entry.field} is {entry.values}" for entry in refused[1:])
    return UserError(first.field, first.values, f"{first.problem} ({first.source}{others})", first.remedy)


def _no_rows(side: Folder, comparison: Comparison) -> UserError:
    held = [_joined([name.full for name in names]) for names in (comparison.only_a, comparison.only_b)]
    problem = f"has no row that A has, too: A has {held[0]}, B has {held[1]}"
    return UserError("B", side.path, problem, "Measure the same rows on both sides")


def _joined(names: Sequence[str]) -> str:
    return ", ".join(names)
