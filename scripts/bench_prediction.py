"""Measured speculation beside the prediction from measured costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bitdraft.metrics.speed import decode_span
from bitdraft.schema.records import Generation
from bitdraft.spec_decode.replay import Chain, expected
from bitdraft.spec_decode.theory import Costs, replay_seconds
from bitdraft.stats.intervals import ratio_of_rates

# of a table whose lines hold `prediction` and `steps_of`
COLUMNS = {
    "bound": ("bound", 2),
    "of_prediction": ("/ prediction", 2),
    "tokens_per_step": ("tokens/step", 2),
    "step": ("step: draft + verify + host, ms", 0),
}


def prediction(
    chains: Sequence[Chain],
    drafted: tuple[str, int],
    runs: tuple[Sequence[Generation], Sequence[Generation]],
    costs: Costs,
) -> dict[str, Any]:
    """For a draft and its K: the replay's speedup after the prefill, and the measured one (of runs with it
    and of K = 0) over it, prompts paired."""
    draft, k = drafted
    predicted_s = [replay_seconds(expected([chain], k), draft, costs) for chain in chains]
    plain_s = [costs.target_s[1] * (chain.num_tokens - chain.first) for chain in chains]
    measured_s, base_s = ([decode_span(run)[0] for run in side] for side in runs)
    return {
        "bound": sum(plain_s) / sum(predicted_s),
        "of_prediction": ratio_of_rates(predicted_s, measured_s, plain_s, base_s),
    }


def steps_of(found: Sequence[Generation]) -> dict[str, Any]:
    num_steps = sum(len(run.steps) for run in found)
    step_ms = {
        p: 1000 * sum(run.phase_s[p] for run in found) / num_steps for p in ("draft", "verify", "host")
    }
    return {"step_ms": step_ms, "step": " + ".join(f"{value:.2f}" for value in step_ms.values())}
