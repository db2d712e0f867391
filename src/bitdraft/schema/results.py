"""What all kinds of results have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from pydantic import field_serializer

from bitdraft.config.base import Config
from bitdraft.errors import UserError
from bitdraft.schema.environment import Environment, ModelRecord, TextRecord
from bitdraft.schema.findings import Conclusions, Finding, texts
from bitdraft.schema.history import SCHEMA_VERSION
from bitdraft.schema.naming import draft_name
from bitdraft.schema.records import Figure, Record

_REPR_CHARS, _REPR_ROWS = 240, 6
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

    def rows_of_figures(self) -> Iterable[tuple[dict[str, Any], Mapping[str, Figure]]]:
        """What tells each row apart, and its figures by name."""
        raise NotImplementedError

    def to_records(self) -> list[dict[str, Any]]:
        """Every figure, tidy: what tells its row apart, then metric, value, low and high (the 95 % interval,
        None without one) and n."""
        return [
            {
                **row,
                "metric": name,
                "value": figure.value,
                "low": figure.low,
                "high": figure.high,
                "n": figure.n,
            }
            for row, figures in self.rows_of_figures()
            for name, figure in figures.items()
        ]

    def to_pandas(self) -> Any:
        """The same as a pandas DataFrame. Raises `UserError` where pandas is not installed."""
        try:
            import pandas
        except ImportError as error:
            raise UserError("to_pandas", "pandas", "is not installed", "pip install pandas") from error
        return pandas.DataFrame(self.to_records())

    def chart(self) -> Any:
        """The picture that the result is told by: a notebook shows it, `.png()` and `.svg()` are its bytes
        and text. None where nothing was measured."""
        return _shown().chart_of(self)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return str(_shown().html_of(self))

    def __repr__(self) -> str:
        """Three lines: what was measured, its speeds, what it says."""
        prompts = len(self.text.prompt_ids)
        what = [str(self.model.name or "?"), str(self.text.dataset or "?"), f"{prompts} prompts"]
        where = self.environment.gpu or self.environment.cpu
        done = "" if self.is_complete else " (not finished)"
        lines = [f"{type(self).__name__}{done}: {', '.join(what)}{f', {where}' if where else ''}"]
        lines += [line[:_REPR_CHARS] for line in (self._speeds(), self.summary) if line]
        return "\n".join(lines)

    __str__ = __repr__

    def _speeds(self) -> str:
        """`fp32 93.3, bf16 108.4 tokens/s`"""
        speeds = {
            _name(row): figures["throughput_tok_s"]
            for row, figures in self.rows_of_figures()
            if "throughput_tok_s" in figures
        }
        shown = [f"{name} {figure.value:.1f}" for name, figure in speeds.items()][:_REPR_ROWS]
        more = f" and {len(speeds) - len(shown)} more" if len(speeds) > len(shown) else ""
        return f"{'; '.join(shown)}{more} tokens/s" if shown else ""

    @field_serializer("config", check_fields=False)
    def _config_without_places(self, config: Config) -> dict[str, Any]:
        return config.model_dump(mode="json", exclude=set(UNRECORDED))


def _shown() -> Any:
    """Showing is a room above this one; it is entered when a person asks a result for its looks."""
    return import_module("bitdraft.present.notebook")


def _name(row: Mapping[str, Any]) -> str:
    """`bf16`, `a, K = 3`, `bf16, plain decoding` or `a, K = 3, batch 4`"""
    parts = [row["precision"]] if "precision" in row else []
    if "k" in row:
        parts.append(draft_name(row["draft"], row["k"]))
    if row.get("batch_size", 1) > 1:
        parts.append(f"batch {row['batch_size']}")
    return ", ".join(parts)
