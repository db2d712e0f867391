"""A file of servers that are to be started: which commands, and for which K.

    [servers.plain]               # the first is what the others are compared with
    command = "llama-server -m target.gguf --port {port} --metrics"

    [servers.spec]                # a server for each K: spec-k1, spec-k2, …
    command = "llama-server -m target.gguf -md draft.gguf --spec-draft-n-max {k} --port {port} --metrics"
    k = "1-8"

More of a server: `ready` (what answers 200 once it is; by default /v1/models), `start_timeout_s`, `port` (by
default a free one), `log` (by default NAME.log in the run's folder), `env`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from bitdraft.config import Config, make_config
from bitdraft.config.base import check_range, numbers
from bitdraft.config.decoding import MOST_K
from bitdraft.config.toml_file import read_toml
from bitdraft.errors import UserError
from bitdraft.servers.launch import Declaration

_WHERE = "launch"
_NAME = re.compile(r"[\w.+-]{1,40}")
_PLACES = re.compile(r"(?<!\$)\{[A-Za-z_]\w*\}")


class ServerEntry(Config):
    """One [servers.NAME] table."""

    model_config = ConfigDict(title="A server to be started")

    command: tuple[str, ...] = Field(description="The command, a text or a list of words.")
    k: tuple[int, ...] = Field((), description="What {k} in the command is, a server each; or its one K.")
    port: int = Field(0, ge=0, le=65535, description="Where it listens; 0: a free one.")
    ready: str = Field("/v1/models", description="The path that answers 200 once it is ready.")
    start_timeout_s: float = Field(600.0, gt=0, allow_inf_nan=False, description="How long it may take.")
    log: Path | None = Field(None, description="The file of its output.")
    env: dict[str, str] = Field(default_factory=dict, description="Variables beside the environment's.")

    @field_validator("command", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        try:
            return tuple(shlex.split(value)) if isinstance(value, str) else value
        except ValueError as error:
            raise ValueError("has quotation marks that are not closed") from error

    @field_validator("command")
    @classmethod
    def _is_one(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("is empty")
        return value

    @field_validator("k", mode="before")
    @classmethod
    def _ranges(cls, value: Any) -> Any:
        return numbers(value, "k", MOST_K)

    @field_validator("k")
    @classmethod
    def _possible(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        check_range(value, "k", MOST_K)
        return tuple(sorted(set(value)))

    @field_validator("ready")
    @classmethod
    def _is_path(cls, value: str) -> str:
        if not value.startswith("/"):
            raise ValueError("is no path that begins with /")
        return value

    @model_validator(mode="after")
    def _says_where(self) -> Self:
        text = " ".join((*self.command, *self.env.values()))
        if not self.port and "{port}" not in text:
            raise ValueError("says no port: write {port} in the command, or give port = …")
        unknown = next((found for found in _PLACES.findall(text) if found not in ("{port}", "{k}")), None)
        if unknown is not None:
            raise ValueError(f"has {unknown} in its command, which stands for nothing: {{port}} and {{k}} do")
        if "{k}" in text and not self.k:
            raise ValueError("has {k} in its command and no k")
        if len(self.k) > 1 and "{k}" not in text:
            raise ValueError("has several k and no {k} in its command")
        if len(self.k) > 1 and (self.port or self.log):
            raise ValueError("are several servers, which cannot share a port or a log")
        return self

    def declarations(self, name: str) -> Iterator[Declaration]:
        """One, or one for each K."""
        for k in self.k or (None,):
            yield Declaration(
                name if len(self.k) < 2 else f"{name}-k{k}",
                [word.replace("{k}", str(k)) for word in self.command],
                self.port,
                self.ready,
                self.start_timeout_s,
                self.log,
                {key: value.replace("{k}", str(k)) for key, value in self.env.items()},
                k,
            )


def read_declarations(path: Path) -> list[Declaration]:
    """All servers of a file, in its order. Raises `UserError` for a file that cannot be meant."""
    data = read_toml(path, _WHERE)
    tables = data.get("servers")
    unknown = sorted(set(data) - {"servers"})
    if unknown or not isinstance(tables, dict) or not tables:
        problem = f"knows no [{unknown[0]}]" if unknown else "names no server"
        raise UserError(_WHERE, path, problem, "Give [servers.NAME] tables, with a command each")
    found = [one for name, entry in tables.items() for one in _declared(name, entry)]
    names = [one.name for one in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(_WHERE, twice, "two servers have this name", "Give one of them another")
    return found


def _declared(name: str, entry: Any) -> list[Declaration]:
    where = f"servers.{name}"
    if not _NAME.fullmatch(name):
        raise UserError(_WHERE, where, "is no name", "Use letters, digits, dots, dashes, 40 at most")
    if not isinstance(entry, dict):
        raise UserError(_WHERE, where, "is no table", f"Write [{where}] above its settings")
    try:
        return list(make_config(ServerEntry, entry).declarations(name))
    except UserError as error:
        if error.field == "reference":
            raise UserError(
                _WHERE, f"[{where}]", error.problem, "Mend its table (docs/servers.md)"
            ) from error
        value = "" if error.problem == "is missing" else f" = {error.value}"
        raise UserError(_WHERE, f"[{where}] {error.field}{value}", error.problem, error.remedy) from error
