"""What went wrong with a (draft, K), as its row's status and reason."""

from __future__ import annotations

from bitdraft.engine.loop import NonFiniteDecoding
from bitdraft.engine.scoring import NonFiniteLogits
from bitdraft.errors import Unsupported, UserError
from bitdraft.external import EngineDied
from bitdraft.runs.failures import classify
from bitdraft.schema.records import Status


def failure_of(error: Exception) -> tuple[Status, str]:
    if isinstance(error, NonFiniteDecoding):
        return classify(error), str(error)
    if isinstance(error, NonFiniteLogits):
        return classify(error), f"the draft model's logits are not finite at position {error.position}"
    if isinstance(error, UserError):
        return "unsupported", error.problem
    if isinstance(error, Unsupported | EngineDied):
        return classify(error), str(error)
    return classify(error), f"{type(error).__name__}: {error}".splitlines()[0][:300]
