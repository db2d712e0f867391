"""Which checkpoint is measured, and where."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from bitdraft.config.base import Config


class ModelConfig(Config):
    """Which checkpoint, and what may be executed to load it; with `random_weights`, which shape. `seed`
    is that of all chance in a run: of the sample of prompts, of random weights and of sampling."""

    model_config = ConfigDict(title="Model and device")

    model: str = Field(
        "demo/target",
        description="demo/NAME (see: bitdraft models), a checkpoint folder, or a hub id; with random "
        "weights, a shape.",
    )
    revision: str | None = Field(None, description="Hub revision of the model.")
    allow_pickle: bool = Field(False, description="Also load pickle weights, which can run code.")
    trust_remote_code: bool = Field(False, description="Run Python code that the checkpoint brings.")
    random_weights: bool = Field(
        False,
        description="Measure speed without a checkpoint: every model is a shape (pythia-70m, -160m, -410m, "
        "-1.4b, -2.8b, or a folder with a config.json) with weights drawn from the seed.",
    )
    seed: int = Field(0, ge=0, description="Of the sample of prompts, of random weights and of sampling.")
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="auto, cpu, cuda, cuda:N or mps.",
    )
