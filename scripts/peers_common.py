"""What the comparisons with other tools share: figures side by side, models, prompts and texts."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bitdraft.config import ModelConfig, PrecisionConfig, make_config
from bitdraft.engine.runner import Runner
from bitdraft.engine.scoring import score_windows
from bitdraft.engine.token_model import TokenModel
from bitdraft.inputs.checkpoints import DEMO_FOLDER, find_checkpoint
from bitdraft.inputs.datasets import read_stdlib_module
from bitdraft.inputs.models import load_model
from bitdraft.inputs.variants import Variant
from bitdraft.inputs.windows import ScoringPlan
from bitdraft.metrics.quality import block_lengths, score_blocks
from bitdraft.precision.evaluate import prepare
from bitdraft.schema.records import ScoreBlocks

ROOT = Path(__file__).parents[1]
PEERS = ROOT / ".peers"
TARGET, DRAFT = "demo/target", "demo/draft-small"
CPU = torch.device("cpu")
SCORED_MODULES = ("bisect.py", "sched.py", "json/decoder.py")


@dataclass(frozen=True)
class Agreement:
    """A figure of ours and of another tool. Where a tolerance is given, the difference is relative; without
    one the two must be the same. `is_information` binds nobody; `allowed` says another tolerance in words."""

    figure: str
    ours: str
    theirs: str
    difference: float
    tolerance: float = 0.0
    is_information: bool = False
    allowed: str = ""

    @property
    def agrees(self) -> bool:
        return self.is_information or self.difference <= self.tolerance

    def record(self) -> dict[str, Any]:
        return asdict(self)


def numbers(
    figure: str, ours: float, theirs: float, tolerance: float, *, digits: int = 6, last_digit: float = 0.0
) -> Agreement:
    """Two numbers that differ by a share of theirs; `last_digit` is what theirs was rounded to, of which half
    is no difference."""
    apart = max(abs(ours - theirs) - last_digit / 2, 0.0)
    share = apart / abs(theirs) if theirs else (0.0 if apart == 0 else math.inf)
    return Agreement(figure, f"{ours:.{digits}g}", f"{theirs:.{digits}g}", share, tolerance)


def counts(figure: str, ours: Sequence[int], theirs: Sequence[int]) -> Agreement:
    """Whole numbers, which must be the same."""
    apart = sum(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    return Agreement(figure, _listed(ours), _listed(theirs), float(apart))


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


def same_texts(figure: str, ours: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]]) -> Agreement:
    """How many texts are the same, token by token."""
    num_same = sum(list(a) == list(b) for a, b in zip(ours, theirs, strict=True))
    return Agreement(figure, f"{len(ours)} texts", f"{num_same} the same", float(len(ours) - num_same))


def model_of(name: str) -> Any:
    config = ModelConfig(model=name)
    return load_model(Variant(find_checkpoint(config), "fp32"), CPU, config).model


def folder_of(name: str) -> Path:
    return DEMO_FOLDER / name.removeprefix("demo/")


def prompts_of(num: int, length: int = 64) -> list[list[int]]:
    """Token ids of held-out standard-library text."""
    values = {"model": TARGET, "num_prompts": num, "max_prompt_tokens": length, "device": "cpu"}
    return [list(prompt.token_ids) for prompt in prepare(make_config(PrecisionConfig, values)).prompts]


def blocks_of(model: Any, plan: ScoringPlan) -> ScoreBlocks:
    """A plan's windows scored by our forward, in the text's order."""
    log_prob, top1 = scores_of(Runner(model), plan)
    return score_blocks(log_prob, top1, block_lengths(log_prob.size, plan.document_lengths))


def scores_of(runner: TokenModel, plan: ScoringPlan) -> tuple[np.ndarray, np.ndarray]:
    """(log-probabilities, most probable ids) of all scored tokens, in the text's order."""
    scored = dict(score_windows(runner, windows_of(plan), 256))
    parts = (scored[index] for index in range(len(plan.windows)))
    log_prob, top1 = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
    return log_prob, top1


def windows_of(plan: ScoringPlan) -> list[tuple[tuple[int, ...], int]]:
    """(token ids, place of the first scored one)."""
    return [(window.token_ids, window.first_scored) for window in plan.windows]


def scored_text() -> str:
    """Three modules of the standard library that the embedded models have not seen."""
    return "\n\n".join(read_stdlib_module(name) for name in SCORED_MODULES)


def call(command: Sequence[object], **options: Any) -> str:
    """What a program prints, both streams; its last lines where it fails."""
    done: subprocess.CompletedProcess[str] = subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **options,
    )
    if done.returncode:
        last = "\n".join(done.stdout.splitlines()[-15:])
        raise SystemExit(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{last}")
    return done.stdout
