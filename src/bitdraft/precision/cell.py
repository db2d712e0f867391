"""One precision, measured in its own process: load → quality (not of random weights) → speed → peak
memory, then (for
all but the reference) the divergence from the reference, which needs both models and so comes after
the peak is taken and the row is handed over."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bitdraft.backends.native import Native
from bitdraft.backends.transformers import transformers
from bitdraft.config import Precision, PrecisionConfig
from bitdraft.engine.runner import Runner
from bitdraft.engine.scoring import NonFiniteLogits, kl_of_window, locate_overflow, score_windows
from bitdraft.inputs.checkpoints import find_checkpoint
from bitdraft.inputs.models import LoadedModel, load_model, resolve_device
from bitdraft.inputs.windows import Window, truncate
from bitdraft.probes.ceilings import measure_ceilings
from bitdraft.probes.clock import now
from bitdraft.probes.energy import energy_joules
from bitdraft.probes.environment import describe
from bitdraft.probes.memory import peak_memory_bytes, peak_resident_bytes
from bitdraft.probes.reference_work import calibration_s
from bitdraft.schema.records import Generation, Overflow

Emit = Callable[..., None]
WARM_UP_TOKENS = 16


def probe_environment(payload: dict[str, Any], emit: Emit) -> None:
    """Resolve the device, describe the machine and measure its ceilings."""
    config = PrecisionConfig(**payload["config"])
    device = resolve_device(config.device)
    emit("result", environment=describe(device) | {"ceilings": measure_ceilings(device, config.precisions)})


def measure(payload: dict[str, Any], emit: Emit) -> None:
    """Measure one precision. Emits `progress`, one `row`, and one `kl` where paired."""
    config = PrecisionConfig(**payload["config"])
    precision: Precision = payload["precision"]
    workload = json.loads(Path(payload["workload"]).read_text())
    windows = [Window(tuple(ids), first, doc) for ids, first, doc in workload["windows"]]
    checkpoint = find_checkpoint(config)
    emit("progress", stage="load", done=0, total=1)
    base_ram = peak_resident_bytes()
    start_s = now()
    loaded = load_model(checkpoint, precision, resolve_device(config.device), config)
    load_s = now() - start_s
    runner = Runner(loaded.model)
    scores_path = Path(payload["scores"])
    overflow = None if config.random_weights else _score(runner, windows, config, scores_path, emit)
    speed = _time(loaded, workload["prompts"], config, emit)
    emit(
        "row",
        load_s=load_s,
        base_ram_bytes=base_ram,
        peak_bytes=peak_memory_bytes(loaded.device),
        num_parameters=loaded.num_parameters,
        weight_bytes=loaded.weight_bytes,
        streamed_bytes=loaded.streamed_bytes,
        kv_bytes_per_token=runner.kv_bytes_per_token,
        overflow=overflow.model_dump() if overflow else None,
        **speed,
    )
    if payload["paired"] and overflow is None and config.kl_max_tokens:
        emit("progress", stage="divergence", done=0, total=1)
        reference = load_model(checkpoint, config.reference_precision, loaded.device, config)
        compared = truncate(windows, config.kl_max_tokens)
        _compare(Runner(reference.model), runner, compared, config.score_chunk_tokens, emit)


def _score(
    runner: Runner, windows: list[Window], config: PrecisionConfig, path: Path, emit: Emit
) -> Overflow | None:
    """Score all windows into an array file; stop at non-finite logits and say where they began."""
    total = sum(window.num_scored for window in windows)
    emit("progress", stage="quality", done=0, total=total)
    log_probs: list[torch.Tensor] = []
    top1s: list[torch.Tensor] = []
    done = 0
    scored = score_windows(
        runner, [(w.token_ids, w.first_scored) for w in windows], config.score_chunk_tokens
    )
    try:
        for log_prob, top1 in scored:
            log_probs.append(log_prob)
            top1s.append(top1)
            done += len(log_prob)
            emit("progress", stage="quality", done=done, total=total)
    except NonFiniteLogits:
        bad = windows[len(log_probs)]
        chunk = config.score_chunk_tokens
        return locate_overflow(runner, bad.token_ids, bad.first_scored, chunk, window=len(log_probs))
    np.savez(path, log_prob=torch.cat(log_probs).numpy(), top1=torch.cat(top1s).numpy())
    return None


def _time(
    loaded: LoadedModel, prompts: list[list[int]], config: PrecisionConfig, emit: Emit
) -> dict[str, Any]:
    """Generate from every prompt after the warm-up; energy is read at the two ends."""
    is_native = config.backend == "native"
    capacity = max(map(len, prompts)) + config.max_new_tokens
    backend = Native(loaded.model, config.execution, capacity) if is_native else transformers(loaded.model)
    emit("progress", stage="speed", done=0, total=len(prompts))
    warm_up = config.model_copy(update={"max_new_tokens": min(WARM_UP_TOKENS, config.max_new_tokens)})
    for index in range(config.num_warmup):
        backend(prompts[index % len(prompts)], warm_up)
    calibration_s(loaded.device)
    calibration = [calibration_s(loaded.device)]
    energy_start = energy_joules(loaded.device)
    generations: list[Generation] = []
    for prompt in prompts:
        generations.append(backend(prompt, config))
        calibration.append(calibration_s(loaded.device))
        emit("progress", stage="speed", done=len(generations), total=len(prompts))
    energy_end = energy_joules(loaded.device)
    joules = None if energy_start is None or energy_end is None else energy_end - energy_start
    return {
        "generations": [generation.model_dump(mode="json") for generation in generations],
        "calibration_s": calibration,
        **(backend.execution() if isinstance(backend, Native) else {}),
        "joules": joules if joules is not None and joules > 0 else None,
    }


def _compare(
    reference: Runner, candidate: Runner, windows: tuple[Window, ...], chunk_tokens: int, emit: Emit
) -> None:
    """KL(reference ‖ candidate) at every scored position of the windows."""
    total = sum(window.num_scored for window in windows)
    values: list[float] = []
    for window in windows:
        kl = kl_of_window(reference, candidate, window.token_ids, window.first_scored, chunk_tokens)
        values.extend(float(f"{value:.6g}") for value in kl.tolist())
        emit("progress", stage="divergence", done=len(values), total=total)
    emit("kl", values=values)
