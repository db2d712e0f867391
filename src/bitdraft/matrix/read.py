"""A matrix file: which runs it asks for.

    [shared]                      # settings of every run
    num_prompts = 15

    [[runs]]                      # as many as there are combinations of what is listed
    command = "spec-decode"
    model = ["org/model-1b", "org/model-3b"]
    dataset = ["wikitext", "pg19"]
    drafts = ["org/draft", "ngram"]
    k = "3-10"

Settings are the commands' own, by their names in Python. One that a run takes as a list (`drafts`, `k`,
`precisions`, `batch_sizes`) is the run's list; of any other one, a list means a run for each entry; here
four.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from bitdraft.config import Config, PrecisionConfig, RecommendConfig, SpecDecodeConfig, make_config
from bitdraft.config.toml_file import read_toml
from bitdraft.errors import UserError
from bitdraft.schema.manifest import COMMANDS

_CONFIGS: dict[str, type[Config]] = {
    "precision": PrecisionConfig,
    "spec-decode": SpecDecodeConfig,
    "recommend": RecommendConfig,
}
_WHERE = "matrix"


@dataclass(frozen=True)
class Wanted:
    """One run: a command and its configuration. `title` says what tells it from the others."""

    command: str
    config: Config
    title: str

    @property
    def kind(self) -> str:
        """As results and run folders call it."""
        return next(kind for kind, command in COMMANDS.items() if command == self.command)


def read_matrix(path: Path) -> list[Wanted]:
    """All runs, each once, in the file's order. Raises `UserError` where one cannot be meant."""
    data = read_toml(path, _WHERE)
    unknown = sorted(set(data) - {"shared", "runs"})
    entries, shared = data.get("runs"), data.get("shared", {})
    if unknown or not isinstance(entries, list) or not entries or not isinstance(shared, dict):
        problem = f"knows no [{unknown[0]}]" if unknown else "names no run"
        raise UserError(_WHERE, path, problem, "Give a [shared] table, and [[runs]] with a command each")
    found: dict[tuple[str, Config], Wanted] = {}
    for index, entry in enumerate(entries, 1):
        for wanted in _runs_of(entry, shared, index):
            found.setdefault((wanted.command, wanted.config), wanted)
    return list(found.values())


def _runs_of(entry: Any, shared: Mapping[str, Any], index: int) -> Iterator[Wanted]:
    """Of one [[runs]] table."""
    name = f"runs[{index}]"
    if not isinstance(entry, dict):
        raise UserError(_WHERE, name, "is no table", "Write [[runs]] above its settings")
    command = entry.get("command")
    kind = _CONFIGS.get(command) if isinstance(command, str) else None
    if kind is None:
        raise UserError(
            _WHERE, f"{name}.command {command}", "no such command", f"Choose {', '.join(_CONFIGS)}"
        )
    own = {key: value for key, value in entry.items() if key != "command"}
    settings = {key: value for key, value in shared.items() if key in kind.model_fields} | own
    _check_known(shared, own, kind, name)
    varied = [key for key in settings if isinstance(settings[key], list) and not _takes_a_list(kind, key)]
    empty = next((key for key in varied if not settings[key]), None)
    if empty is not None:
        raise UserError(_WHERE, f"{name}.{empty}", "is an empty list", "Give at least one entry")
    for values in itertools.product(*(settings[key] for key in varied)):
        chosen = dict(zip(varied, values, strict=True))
        try:
            config = make_config(kind, settings | chosen)
        except UserError as error:
            raise UserError(error.field, error.value, f"{error.problem} ({name})", error.remedy) from error
        yield Wanted(str(command), config, _title(str(command), config, chosen))


def _check_known(shared: Mapping[str, Any], own: Mapping[str, Any], kind: type[Config], name: str) -> None:
    every = {field for one in _CONFIGS.values() for field in one.model_fields}
    wrong = [f"{name}.{key}" for key in own if key not in kind.model_fields]
    wrong += [f"shared.{key}" for key in shared if key not in every]
    if wrong:
        known = ", ".join(sorted(kind.model_fields))
        raise UserError(_WHERE, wrong[0], "no such setting", f"Known settings: {known}")


def _takes_a_list(kind: type[Config], field: str) -> bool:
    annotation: Any = kind.model_fields[field].annotation
    return any(get_origin(one) is tuple for one in (annotation, *get_args(annotation)))


def _title(command: str, config: Config, chosen: Mapping[str, Any]) -> str:
    """`spec-decode org/model, bf16, pg19`"""
    others = [str(value) for key, value in chosen.items() if key != "model"]
    return ", ".join([f"{command} {getattr(config, 'model', '')}", *others])
