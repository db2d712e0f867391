"""What a matrix will take: the cells of its runs, and about how long each is.

The seconds are those at the memory bandwidth that was measured on this machine: every new token streams all
weights once, every draft and K takes as long as plain decoding does, and each process takes a few seconds to
start. They say which run is an hour and which a minute; no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bitdraft.config import PrecisionConfig, RecommendConfig, SpecDecodeConfig
from bitdraft.inputs.checkpoints import Checkpoint
from bitdraft.inputs.variants import Variant
from bitdraft.matrix.read import Wanted
from bitdraft.precision.evaluate import cells_of
from bitdraft.precision.evaluate import prepare as prepare_precision
from bitdraft.runs.store import finished_cells
from bitdraft.spec_decode.evaluate import memory_cells, sweep_cell
from bitdraft.spec_decode.workload import prepare as prepare_sweep

START_S = 8.0
_READ_BYTES_S = 0.5e9


@dataclass(frozen=True)
class ExpectedCell:
    """A cell by its name. `seconds` is None where nothing is known of the model's size, and `is_finished`
    says that it has been measured already."""

    name: str
    id: str
    seconds: float | None
    is_finished: bool = False


def expected_cells(wanted: Wanted, folder: Path, copy_bytes_s: float) -> list[ExpectedCell]:
    """Of a run in this folder. Raises `UserError` for one that cannot be carried out."""
    done = finished_cells(folder)
    return [replace(cell, is_finished=cell.id in done) for cell in _all_cells(wanted, copy_bytes_s)]


def _all_cells(wanted: Wanted, copy_bytes_s: float) -> list[ExpectedCell]:
    config = wanted.config
    if isinstance(config, PrecisionConfig):
        return _of_precision(config, copy_bytes_s)
    if isinstance(config, SpecDecodeConfig):
        return _of_sweep(config, copy_bytes_s)
    assert isinstance(config, RecommendConfig)
    shared = {name: getattr(config, name) for name in PrecisionConfig.model_fields if hasattr(config, name)}
    cells = _of_precision(PrecisionConfig(**shared), copy_bytes_s)
    return [*cells, ExpectedCell("plans and sweeps, as the precisions decide", "", None)]


def _of_precision(config: PrecisionConfig, copy_bytes_s: float) -> list[ExpectedCell]:
    workload = prepare_precision(config)
    found = []
    for cell in cells_of(config, workload):
        if cell.name not in config.precisions:
            found.append(ExpectedCell(cell.name, cell.id, START_S))
            continue
        token_s = _token_s(workload.checkpoint, cell.name, copy_bytes_s)
        new = (config.num_warmup + len(workload.prompts)) * config.max_new_tokens
        chunks = sum(len(window.token_ids) for window in workload.plan.windows) if workload.plan else 0
        forwards = new + chunks / config.score_chunk_tokens
        found.append(ExpectedCell(cell.name, cell.id, _seconds(workload.checkpoint, token_s, forwards)))
    return found


def _of_sweep(config: SpecDecodeConfig, copy_bytes_s: float) -> list[ExpectedCell]:
    workload = prepare_sweep(config)
    token_s = _token_s(workload.target, config.precision, copy_bytes_s)
    labels = [draft.label for draft in workload.drafts]
    num_ways = 1 if config.plan else 1 + len(config.configurations(labels))
    forwards = num_ways * len(workload.prompts) * config.max_new_tokens
    cell = sweep_cell(config, workload)
    found = [ExpectedCell(cell.name, cell.id, _seconds(workload.target, token_s, forwards))]
    if not config.plan:
        once = _seconds(workload.target, token_s, config.max_new_tokens)
        cells = memory_cells(config, workload, labels).values()
        found += [ExpectedCell(own.name, own.id, once) for own in cells]
    return found


def _token_s(checkpoint: Checkpoint, precision: str, copy_bytes_s: float) -> float | None:
    """One forward at batch 1: every weight is read once."""
    weight_bytes = Variant(checkpoint, precision).weight_bytes
    return None if weight_bytes is None else weight_bytes / copy_bytes_s


def _seconds(checkpoint: Checkpoint, token_s: float | None, forwards: float) -> float | None:
    if token_s is None:
        return None
    return START_S + checkpoint.stored_bytes / _READ_BYTES_S + forwards * token_s


def total_s(cells: Sequence[ExpectedCell]) -> float:
    """Of those that are left, as far as they are known."""
    return sum(cell.seconds or 0.0 for cell in cells if not cell.is_finished)
