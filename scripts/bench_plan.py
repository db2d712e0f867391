"""The same question to `bitdraft spec-decode --plan` and to the sweep, each timed as a whole."""

from __future__ import annotations

from typing import Any

import bitdraft
from benchmarks import Settings
from bitdraft.config import Precision
from bitdraft.probes.clock import now


def compare_plan(settings: Settings, precision: Precision) -> dict[str, Any]:
    """Times with and without `plan`, and what the plan's choice measured."""
    question: dict[str, Any] = {
        "dataset": "wikitext" if settings.data_root else "stdlib",
        "data_root": settings.data_root,
        "num_prompts": 20,
        "max_prompt_tokens": 256,
        "precision": precision,
        "device": "cpu",
    }
    start = now()
    plan = bitdraft.evaluate_spec_decode(**question, plan=True)
    plan_s = now() - start
    start = now()
    sweep = bitdraft.evaluate_spec_decode(**question)
    sweep_s = now() - start
    rows = {(row.draft, row.k): row for row in sweep.sweep}
    best = max(sweep.sweep, key=lambda row: row.metrics["throughput_tok_s"].value)
    assert plan.verdict.k is not None
    chosen = plan.verdict.draft, plan.verdict.k
    figure = best.metrics["throughput_tok_s"]
    found = rows[chosen].metrics["throughput_tok_s"].value
    text = (
        f"Plan and sweep ({precision}): {chosen[0]}, K = {chosen[1]} in {plan_s:.1f} s; "
        f"sweep: {best.draft}, K = {best.k} in {sweep_s:.1f} s (ratio {plan_s / sweep_s:.3f}); "
        f"the plan's choice measures {found:.1f} tokens/s, "
        f"the best {figure.value:.1f} [{figure.low or 0:.1f}, {figure.high or 0:.1f}]."
    )
    return {
        "text": text,
        "precision": precision,
        "plan_s": plan_s,
        "sweep_s": sweep_s,
        "chosen": chosen,
        "best": (best.draft, best.k),
        "chosen_tok_s": found,
        "best_tok_s": figure.model_dump(),
    }
