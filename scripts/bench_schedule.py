"""A K schedule against whole runs of batches: is what the grid predicts for a batch size what batches bring?

The schedule is of a server that is never idle, and predicts tokens per step (replay) times the target's own
step over a speculative one (measured on the grid). Runs of whole batches tell both sides of that product:
their steps' times, and tokens per step. What they bring as a whole is less, because a batch waits for its
slowest row.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import bitdraft
from benchmarks import Report, Settings, dumped, table
from bitdraft.config import Precision
from bitdraft.schema.records import Generation
from bitdraft.schema.spec_decode import SpecDecodeResult

SIZES, KS = (1, 2, 4, 8), (1, 2, 3, 4, 6)
PROMPT_TOKENS, NEW_TOKENS = 128, 64
COLUMNS = {
    "batch": ("batch", 0),
    "k": ("K", 0),
    "grid_step_ms": ("step on the grid, ms", 2),
    "run_step_ms": ("step in runs, ms", 2),
    "predicted": ("speedup predicted", 2),
    "from_runs": ("tokens/step × steps of runs", 2),
    "whole": ("speedup of whole batches", 2),
}


def step_ms(group: Sequence[Generation], k: int) -> float:
    """Behind the first tokens: the batch's time over the steps of its longest row."""
    start_s = max(run.emissions[0][0] for run in group)
    end_s = max(run.emissions[-1][0] for run in group)
    steps = max(len(run.steps) if k else len(run.token_ids) - 1 for run in group)
    return 1000 * (end_s - start_s) / steps


def measure(
    settings: Settings, precision: Precision, draft: str
) -> tuple[SpecDecodeResult, SpecDecodeResult]:
    """The schedule at the runs' mean context, and the runs."""
    asked: dict[str, Any] = {
        "drafts": (draft,),
        "k": KS,
        "precision": precision,
        "device": "cpu",
        "dataset": "wikitext" if settings.data_root else "stdlib",
        "data_root": settings.data_root,
        "num_prompts": 48 if settings.data_root and not settings.quick else 16,
        "max_prompt_tokens": PROMPT_TOKENS,
        "max_new_tokens": NEW_TOKENS,
        "batch_sizes": SIZES,
    }
    context = PROMPT_TOKENS + NEW_TOKENS // 2
    schedule = bitdraft.evaluate_spec_decode("demo/target", **asked, schedule=True, contexts=(context,))
    return schedule, bitdraft.evaluate_spec_decode("demo/target", **asked)


def compare(schedule: SpecDecodeResult, runs: SpecDecodeResult) -> list[dict[str, Any]]:
    rows = {(row.batch_size, row.k): row for row in runs.rows if row.status == "ok"}
    lines = []
    for point in schedule.schedule.points:
        row, base = rows.get((point.batch_size, point.k)), rows.get((point.batch_size, 0))
        if row is None or base is None:
            continue
        own, plain = (statistics.median(step_ms(item, one.k) for item in one.items) for one in (row, base))
        lines.append(
            {
                "batch": point.batch_size,
                "k": point.k,
                "grid_step_ms": point.step_ms,
                "run_step_ms": own,
                "predicted": point.speedup,
                "from_runs": row.metrics["tokens_per_step"].value * plain / own,
                "whole": row.metrics["decode_speedup"],
            }
        )
    return lines


def run(settings: Settings) -> Report:
    text, record = ["## A schedule against whole batches"], {}
    for precision in ("fp32", "bf16"):
        schedule, runs = measure(settings, precision, "demo/draft-medium")
        lines = compare(schedule, runs)
        record[precision] = [dumped(line) for line in lines]
        ratios = [line["from_runs"] / line["predicted"].value for line in lines]
        worst = f"{min(ratios):.2f} to {max(ratios):.2f}"
        ks = {one.batch_size: one.k for one in schedule.schedule.choices}
        best = {
            size: max((line for line in lines if line["batch"] == size), key=lambda one: one["from_runs"])[
                "k"
            ]
            for size in SIZES
        }
        text += [
            f"demo/target with draft-medium, {precision}, {len(runs.text.prompt_ids)} prompts:",
            table(COLUMNS, lines),
            f"Runs over prediction: {worst}. K of the schedule {ks}, of the runs {best}.",
        ]
    return Report("schedule", record, "\n\n".join(text))
