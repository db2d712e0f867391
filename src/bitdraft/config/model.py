"""Which checkpoint is measured, and where."""

from __future__ import annotations

from pydantic import Field

from bitdraft.config.base import Config


class ModelConfig(Config):
    """Which checkpoint, and what may be executed to load it; with `random_weights`, which shape. `seed`
    is that of all chance in a run: of random weights and of sampling."""

    model: str = "demo/target"
    revision: str | None = None
    allow_pickle: bool = False
    trust_remote_code: bool = False
    random_weights: bool = False
    seed: int = Field(0, ge=0)
    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
