"""Two folders of result files, at any depth, and which file is compared with which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bitdraft.compare.measured import Measurement
from bitdraft.errors import UserError
from bitdraft.schema.comparison import Side, SideFile
from bitdraft.schema.io import read_result
from bitdraft.schema.manifest import counted_files, unfinished_runs
from bitdraft.schema.naming import draft_name
from bitdraft.schema.precision import PrecisionResult
from bitdraft.schema.recommendation import Choice, Recommendation
from bitdraft.schema.serving import ServingResult
from bitdraft.schema.spec_decode import SpecDecodeResult

_WHAT = "precision.json, spec_decode_*.json or serving.json"


@dataclass
class Folder:
    """Results by the paths of their files below the folder, without the end; plans apart, for they measured
    no speed; what `recommend` said, if that is where they are from; and what is said of runs that are not
    finished."""

    path: Path
    results: dict[str, Measurement] = field(default_factory=dict)
    plans: list[str] = field(default_factory=list)
    recommended: str | None = None
    unfinished: tuple[str, ...] = ()

    def describe(self) -> Side:
        """For the head of a comparison: folder, files, and what each was measured on and when."""
        files = {
            name: SideFile(
                time_utc=result.environment.time_utc,
                model=result.model.name,
                hardware=result.environment.hardware or None,
            )
            for name, result in self.results.items()
        }
        return Side(folder=self.path.resolve().name, files=files)


def read_folder(path: Path, side: str) -> Folder:
    """All results of a folder; none at all is a `UserError`, as is a file that cannot be read."""
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise UserError(side, path, what, f"Name a folder that holds {_WHAT}")
    folder = Folder(path, unfinished=tuple(unfinished_runs(path)))
    for file in counted_files(path, "precision.json"):
        folder.results[_name(file, path)] = read_result(file, PrecisionResult)
    for file in counted_files(path, "serving.json"):
        folder.results[_name(file, path)] = read_result(file, ServingResult)
    for file in counted_files(path, "spec_decode_*.json"):
        result = read_result(file, SpecDecodeResult)
        if result.config.plan:
            folder.plans.append(_name(file, path))
        else:
            folder.results[_name(file, path)] = result
    for file in counted_files(path, "recommendation.json"):
        result_of_search = read_result(file, Recommendation)
        if file.parent == path and result_of_search.is_complete:
            folder.recommended = _words(result_of_search.choice)
    if not folder.results:
        problem = "holds only plans, which measured no speed" if folder.plans else f"holds no {_WHAT}"
        if folder.unfinished:
            problem = f"holds no result yet ({folder.unfinished[0]})"
        raise UserError(
            side,
            path,
            problem,
            "Name a folder that `bitdraft precision`, `spec-decode` or `serve-bench` wrote",
        )
    return folder


def _name(file: Path, folder: Path) -> str:
    return file.relative_to(folder).with_suffix("").as_posix()


def _words(choice: Choice) -> str:
    """`bf16, ngram, K = 10` or `fp32, no draft`"""
    if choice.draft is None:
        return f"{choice.precision or 'nothing'}, no draft"
    return f"{choice.precision}, {draft_name(choice.draft, choice.k or 0, choice.draft_precision)}"


def pair_files(a: Mapping[str, Measurement], b: Mapping[str, Measurement]) -> list[tuple[str, str]]:
    """Names of files to compare: first those of the same text, precision and stated acceptance, whatever
    they are called; then what is left under the same name, of which it will be said why it differs."""
    pairs: list[tuple[str, str]] = []
    left = dict(b)
    for same in (_same_subject, _same_name):
        for name, result in a.items():
            if name in (taken for taken, _ in pairs):
                continue
            found = [other for other in left if same(name, result, other, left[other])]
            if found:
                # of several with one subject the one with the same name
                other = name if name in found else found[0]
                pairs.append((name, other))
                del left[other]
    order = list(a)
    return sorted(pairs, key=lambda pair: order.index(pair[0]))


def _same_subject(_: str, a: Measurement, __: str, b: Measurement) -> bool:
    return _subject(a) == _subject(b)


def _same_name(a_name: str, a: Measurement, b_name: str, b: Measurement) -> bool:
    return a_name == b_name and a.kind == b.kind


def _subject(result: Measurement) -> tuple[Any, ...]:
    if isinstance(result, PrecisionResult):
        return (result.kind,)
    if isinstance(result, ServingResult):
        return result.kind, result.text.sha256
    config = result.config
    names = (config.precision, config.draft_precision, config.synthetic_acceptance)
    return (result.kind, result.text.sha256, *names)
