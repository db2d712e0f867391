"""How a run is carried out. Nothing here decides a number, so none of it is part of a result."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field, field_validator

from bitdraft.config.base import Config, parts_of, seconds

ExecutorName = Literal["local", "ray"]


class RunOptions(Config):
    """`output` is the run's folder, None for one named after what is asked, below `root`; without both
    nothing is written. The same configuration in the same folder continues: `fresh` measures anew,
    `retry_failed` only what had failed, `mix_machines` continues what another machine or other versions have
    begun. `devices` are CUDA devices for several cells at once; `cell_timeout_s` is how long a cell may be
    silent.
    """

    model_config = ConfigDict(title="Run")

    output: Path | None = Field(
        None,
        description="The run's folder: results, charts and journal. The same call goes on with its own run.",
    )
    root: Path | None = Field(
        None, description="Without `output`, a folder named after what is asked is made below this one."
    )
    fresh: bool = Field(False, description="Measure anew what the folder already holds.")
    retry_failed: bool = Field(False, description="Measure again what had failed.")
    mix_machines: bool = Field(
        False, description="Go on with what another machine or other versions have begun."
    )
    include_paths: bool = Field(
        False, description="Keep whole paths of models, texts and folders in results and pages."
    )
    executor: ExecutorName = Field(
        "local", description="Where cells run: local (this machine), or ray (a cluster)."
    )
    ray_address: str | None = Field(
        None, description="A Ray cluster's address. By default one on this machine is started."
    )
    devices: tuple[str, ...] = Field(
        (), description="CUDA devices for several cells at once, one each: 0,1,2."
    )
    cell_timeout_s: float = Field(
        1800.0,
        gt=0,
        allow_inf_nan=False,
        description="A measurement that is silent for longer is ended: 90s, 30m.",
    )

    _listed = field_validator("devices", mode="before")(parts_of)
    _as_seconds = field_validator("cell_timeout_s", mode="before")(seconds)
