"""Shapes: what `--random-weights` measures in place of a checkpoint.

A shape is a folder with a `config.json`, embedded (EleutherAI's Pythia models) or the user's. Its
weights are never read, so there need not be any.
"""

from __future__ import annotations

from pathlib import Path

from bitdraft.config import ModelConfig
from bitdraft.errors import UserError

SHAPE_FOLDER = Path(__file__).parents[1] / "shape_configs"

SHAPES = ("pythia-70m", "pythia-160m", "pythia-410m", "pythia-1.4b", "pythia-2.8b")

_REMEDY = f"Choose {', '.join(SHAPES)} or a folder with a config.json"


def find_shape(config: ModelConfig, field: str) -> Path:
    """The shape's folder; settings that mean nothing without a checkpoint are a `UserError`."""
    name = config.model
    _refuse_checkpoint_settings(config)
    known = name.rpartition("/")[2]  # as on the hub: EleutherAI/pythia-2.8b
    if known in SHAPES and not Path(name).expanduser().is_dir():
        if config.trust_remote_code:
            problem = f"the shape {name} brings no code"
            raise UserError("trust_remote_code", True, problem, "Leave it out")
        return SHAPE_FOLDER / known
    if name.startswith("demo/"):
        remedy = f"Leave --random-weights out, or {_REMEDY[0].lower()}{_REMEDY[1:]}"
        raise UserError(field, name, "is an embedded model with trained weights, no shape", remedy)
    path = Path(name).expanduser()
    if not path.is_dir():
        raise UserError(field, name, "is a file" if path.exists() else "no such shape or folder", _REMEDY)
    return path


def _refuse_checkpoint_settings(config: ModelConfig) -> None:
    if config.revision is not None:
        problem = "means nothing for random weights, which have no revisions"
        raise UserError("revision", config.revision, problem, "Leave it out")
    if config.allow_pickle:
        problem = "means nothing for random weights, which are read from no file"
        raise UserError("allow_pickle", True, problem, "Leave it out")
