"""Run the precision module: prepare once, measure each precision in its own process, save as it goes."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bitdraft.config import Precision, PrecisionConfig, make_config
from bitdraft.errors import UserError
from bitdraft.inputs.checkpoints import Checkpoint, find_checkpoint
from bitdraft.inputs.datasets import Dataset, load_dataset
from bitdraft.inputs.prompts import Prompt, check_context, select_prompts, text_record
from bitdraft.inputs.tokenizers import check_token_ids, load_tokenizer, text_encoder
from bitdraft.inputs.windows import ScoringPlan, plan_scoring
from bitdraft.precision.output import save
from bitdraft.precision.rows import RowContext, Scores, build_row, failed_row
from bitdraft.precision.verdict import decide, warnings_of
from bitdraft.runs.executors.local import Event, Failure, run_job
from bitdraft.schema.io import prepare_output
from bitdraft.schema.results import PrecisionResult, PrecisionRow

Progress = Callable[[str, str, int, int], None]
"""(precision, stage, done, total): stage is prepare, environment, load, quality, speed or divergence."""


@dataclass(frozen=True)
class Workload:
    """What every precision is given alike. Random weights have no plan: nothing is scored."""

    checkpoint: Checkpoint
    dataset: Dataset
    prompts: list[Prompt]
    plan: ScoringPlan | None

    def as_json(self) -> str:
        scored = self.plan.windows if self.plan else ()
        windows = [(w.token_ids, w.first_scored, w.document) for w in scored]
        return json.dumps({"prompts": [p.token_ids for p in self.prompts], "windows": windows})


def evaluate_precision(
    config: PrecisionConfig | None = None, *, on_progress: Progress | None = None, **settings: Any
) -> PrecisionResult:
    """Measure a causal language model at several precisions.

    Give a `PrecisionConfig`, or its fields as keywords (`model`, `precisions`, `dataset`, …). With
    `output` set, precision.json, .csv, .md and precision_benchmark_2rows.png are written there, anew
    after every finished row. Raises `UserError` for a request that cannot be carried out; what goes
    wrong at one precision becomes that row's status. An interrupt keeps the finished rows on disk.
    """
    if config is None:
        config = make_config(PrecisionConfig, settings)
    elif settings:
        raise TypeError("give either a config or settings, not both")
    report = on_progress or (lambda *_: None)
    report("", "prepare", 0, 1)
    if config.output is not None:
        prepare_output(config.output)
    workload = prepare(config)
    report("", "environment", 0, 1)
    result = PrecisionResult(
        config=config.model_dump(mode="json", exclude={"output", "data_root"}),
        environment=_probe(config, workload.checkpoint),
        model=workload.checkpoint.record(),
        text=text_record(workload.dataset, workload.prompts),
        rows=(),
    )
    return _measure_all(config, workload, result, report)


def prepare(config: PrecisionConfig) -> Workload:
    """Resolve model and text, cut prompts and windows; every bad input is found here."""
    checkpoint = find_checkpoint(config)
    dataset = load_dataset(config)
    tokenizer = load_tokenizer(checkpoint, config)
    encode = text_encoder(tokenizer)
    prompts = select_prompts(dataset, config, encode)
    context = checkpoint.context
    check_context(prompts, config, config.max_new_tokens, context, "the model's")
    plan = None
    if not config.random_weights:
        prefix = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        plan = plan_scoring(
            dataset,
            encode,
            config.ppl_protocol,
            context=context,
            prefix=prefix,
            max_scored=config.ppl_max_tokens,
        )
    rows = [prompt.token_ids for prompt in prompts]
    rows += [window.token_ids for window in plan.windows] if plan else []
    check_token_ids(max(map(max, rows)), checkpoint)
    return Workload(checkpoint, dataset, prompts, plan)


def _probe(config: PrecisionConfig, checkpoint: Checkpoint) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def keep(event: Event) -> None:
        found.update(event["environment"])

    payload = {"config": _payload(config, checkpoint)}
    failure = run_job("bitdraft.precision.cell:probe_environment", payload, keep)
    if failure is not None:
        remedy = "Try --device cpu, or free memory on the device"
        raise UserError("device", config.device, f"cannot be measured ({failure.reason})", remedy)
    return found


def _payload(config: PrecisionConfig, checkpoint: Checkpoint) -> dict[str, Any]:
    """The configuration for a child, which is given the folder so that it needs no hub."""
    return config.model_dump(mode="json") | {"model": str(checkpoint.folder)}


def _order(config: PrecisionConfig) -> list[Precision]:
    """The reference first, so that the others can be paired with it; then as asked."""
    reference = config.reference_precision
    return [reference, *(name for name in config.precisions if name != reference)]


def _measure_all(
    config: PrecisionConfig, workload: Workload, result: PrecisionResult, report: Progress
) -> PrecisionResult:
    reference: Scores | None = None
    rows: dict[str, PrecisionRow] = {}
    with tempfile.TemporaryDirectory(prefix="bitdraft-") as folder:
        workload_path = Path(folder) / "workload.json"
        workload_path.write_text(workload.as_json())
        for precision in _order(config):
            scores_path = Path(folder) / f"{precision}.npz"
            cell = _Cell(config, workload.checkpoint, precision, workload_path, scores_path)
            row, scores = cell.run(workload.plan, result.environment, reference, report)
            if precision == config.reference_precision:
                reference = scores
            rows[precision] = row
            done = [rows[name] for name in config.precisions if name in rows]
            result = _finish(result, done, config)
            if config.output is not None:
                _save(result, config.output, last=len(rows) == len(config.precisions))
    return result


def _save(result: PrecisionResult, folder: Path, last: bool) -> None:
    """Save what is finished. A disk that is full now may have room later: only the last failure counts,
    and it carries the result, so that nothing that was measured is lost."""
    try:
        save(result, folder)
    except UserError as error:
        if last:
            error.result = result
            raise


def _finish(
    result: PrecisionResult, rows: Sequence[PrecisionRow], config: PrecisionConfig
) -> PrecisionResult:
    verdict = decide(rows, config.reference_precision, config.max_ppl_increase, result.model["stored_dtype"])
    warnings = warnings_of(rows)
    return result.model_copy(update={"rows": tuple(rows), "verdict": verdict, "warnings": warnings})


@dataclass(frozen=True)
class _Cell:
    """One precision's job and what becomes of its events."""

    config: PrecisionConfig
    checkpoint: Checkpoint
    precision: Precision
    workload_path: Path
    scores_path: Path

    def run(
        self,
        plan: ScoringPlan | None,
        environment: dict[str, Any],
        reference: Scores | None,
        report: Progress,
    ) -> tuple[PrecisionRow, Scores | None]:
        events: dict[str, Event] = {}

        def on_event(event: Event) -> None:
            if event["event"] == "progress":
                report(self.precision, event["stage"], event["done"], event["total"])
            else:
                events[event["event"]] = event

        payload = {
            "config": _payload(self.config, self.checkpoint),
            "precision": self.precision,
            "workload": str(self.workload_path),
            "scores": str(self.scores_path),
            "paired": reference is not None,
        }
        failure = run_job("bitdraft.precision.cell:measure", payload, on_event)
        if "row" not in events:
            return failed_row(
                self.precision, failure or Failure("failed", "ended without a result", "")
            ), None
        scores = self._scores()
        kl = events["kl"]["values"] if "kl" in events else None
        copy_bytes_s = environment["ceilings"]["copy_gb_s"] * 1e9
        context = RowContext(plan, copy_bytes_s, self.config.seed, reference)
        row = build_row(self.precision, events["row"], context, scores, kl)
        if failure is not None and reference is not None:
            quality = row.quality | {"kl_missing": failure.reason}
            row = row.model_copy(update={"quality": quality})
        return row, scores

    def _scores(self) -> Scores | None:
        if not self.scores_path.exists():
            return None
        with np.load(self.scores_path) as arrays:
            return Scores(arrays["log_prob"], arrays["top1"])
