"""What a process does that tells from which machine servers are asked."""

from __future__ import annotations

from typing import Any

import torch

from bitdraft.probes.environment import describe
from bitdraft.runs.executors.base import Emit


def measure(payload: dict[str, Any], emit: Emit) -> None:
    """Emits one `environment`."""
    emit("environment", environment=describe(torch.device("cpu")).model_dump(mode="json"))
