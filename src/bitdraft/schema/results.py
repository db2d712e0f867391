"""What all kinds of results have."""

from __future__ import annotations

from typing import Any

from pydantic import field_serializer

from bitdraft.config.base import Config
from bitdraft.schema.environment import Environment, ModelRecord, TextRecord
from bitdraft.schema.findings import Conclusions, Finding, texts
from bitdraft.schema.history import SCHEMA_VERSION
from bitdraft.schema.records import Record

UNRECORDED = frozenset({"data_root"})
"""Settings that say where files lie on this machine, and are no part of a result."""


class Result(Conclusions, Record):
    """What all kinds of results have. `is_complete` is False where the run was interrupted; `machines` are
    those that its cells were computed on, where that is more than one."""

    schema_version: int = SCHEMA_VERSION
    environment: Environment = Environment()
    model: ModelRecord = ModelRecord()
    text: TextRecord = TextRecord()
    findings: tuple[Finding, ...] = ()
    is_complete: bool = True
    machines: tuple[str, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """What takes trust from it, a sentence each."""
        return texts(self.findings, "warning")

    @property
    def skipped(self) -> list[str]:
        """What was not done, a sentence each."""
        return texts(self.findings, "skipped")

    @field_serializer("config", check_fields=False)
    def _config_without_places(self, config: Config) -> dict[str, Any]:
        return config.model_dump(mode="json", exclude=set(UNRECORDED))
