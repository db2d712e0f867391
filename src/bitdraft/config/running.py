"""How a run is carried out. Nothing here decides a number, so none of it is part of a result."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from bitdraft.config.base import Config

ExecutorName = Literal["local", "ray"]


class RunOptions(Config):
    """`output` is the run's folder, None for one named after what is asked, below `root`; without both
    nothing is written. The same configuration in the same folder continues: `fresh` measures anew,
    `retry_failed` only what had failed, `mix_machines` continues what another machine or other versions have
    begun. `devices` are CUDA devices for several cells at once; `cell_timeout_s` is how long a cell may be
    silent.
    """

    output: Path | None = None
    root: Path | None = None
    fresh: bool = False
    retry_failed: bool = False
    mix_machines: bool = False
    executor: ExecutorName = "local"
    ray_address: str | None = None
    devices: tuple[str, ...] = ()
    cell_timeout_s: float = Field(1800.0, gt=0, allow_inf_nan=False)

    @field_validator("devices", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return (
            tuple(part.strip() for part in value.split(",") if part.strip())
            if isinstance(value, str)
            else value
        )
