"""What the precision module measures, in processes of their own: the machine, and each precision.

One precision: load → quality (not of random weights) → speed → for all but the reference the divergence from
it, which needs both models and so comes after the peak is taken. Everything is emitted as it is measured, a
window, a prompt at a time; given the events of an interrupted attempt, a cell goes on behind them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from bitdraft.backends import load_model, make_engine, token_model
from bitdraft.backends.base import Engine, EngineSetup
from bitdraft.config import PrecisionConfig
from bitdraft.engine.check import check_model
from bitdraft.engine.cpu.products import ProductChoices
from bitdraft.engine.other_shape import OtherShape
from bitdraft.engine.scoring import NonFiniteLogits, kl_of_windows, locate_overflow, score_windows
from bitdraft.engine.token_model import TokenModel
from bitdraft.errors import NonFiniteNumbers, UserError
from bitdraft.inputs.checkpoints import find_checkpoint
from bitdraft.inputs.files import AGAIN
from bitdraft.inputs.models import LoadedModel, resolve_device
from bitdraft.inputs.variants import Variant
from bitdraft.inputs.windows import Window, truncate
from bitdraft.probes.ceilings import measure_ceilings
from bitdraft.probes.clock import now
from bitdraft.probes.energy import Meter, find_counter, idle_watts
from bitdraft.probes.environment import describe
from bitdraft.probes.memory import begin_phase, peak_memory_bytes, peak_resident_bytes
from bitdraft.probes.reference_work import reference_work_s
from bitdraft.runs.cell import Event
from bitdraft.runs.executors.base import Emit
from bitdraft.schema.packing import pack
from bitdraft.schema.records import Overflow

WARM_UP_TOKENS = 16
FLOOR_TOKENS = 1024
ENERGY_BLOCKS = 5


def measure_machine(payload: dict[str, Any], emit: Emit) -> None:
    """Resolve the device, describe the machine and measure its ceilings. Emits one `environment`."""
    config = PrecisionConfig(**payload["config"])
    device = resolve_device(config.device)
    with emit.slow():
        ceilings = measure_ceilings(device, config.precisions)
        idle = idle_watts(device)
    found = describe(device).model_copy(update={"ceilings": ceilings})
    if idle is not None:
        found = found.model_copy(update={"energy_counter": idle[0], "idle_watts": round(idle[1], 2)})
    emit("environment", environment=found.model_dump(mode="json"))


def measure(payload: dict[str, Any], emit: Emit) -> None:
    """Measure one precision. Emits `loaded`, a `scored` for each window (or one `overflow`), a `phase` with
    the peak memory of either, `execution`, `reference_work` and a `generation` for each prompt, and a `kl`
    for each window where it is paired."""
    _Cell(payload, emit).measure()


class _Cell:
    """One precision in this process, and what an earlier attempt has measured of it."""

    def __init__(self, payload: Mapping[str, Any], emit: Emit) -> None:
        self.emit = emit
        self.config = PrecisionConfig(**payload["config"])
        self.precision: str = payload["precision"]
        self.prompts: list[list[int]] = payload["prompts"]
        self.clusters: list[str] = payload["clusters"]
        self.windows = [Window(tuple(ids), first, doc) for ids, first, doc in payload["windows"]]
        self.is_paired: bool = payload["paired"]
        self.has_floor: bool = payload["floor"]
        self.is_first_round: bool = payload["first"]
        self.done: list[Event] = payload["done"]

    def _count(self, kind: str) -> int:
        return sum(event["event"] == kind for event in self.done)

    def _last(self, kind: str) -> Event | None:
        return next((event for event in reversed(self.done) if event["event"] == kind), None)

    def measure(self) -> None:
        config, base_ram = self.config, peak_resident_bytes()
        self.emit("progress", stage="load", done=0, total=1)
        with self.emit.slow():
            start_s = now()
            checkpoint = find_checkpoint(config)
            device = resolve_device(config.device)
            loaded = load_model(Variant(checkpoint, self.precision), device, config)
            load_s = now() - start_s
        runner = token_model(loaded.model)
        check_model(runner, self.prompts[0], checkpoint.label)
        self.emit(
            "loaded",
            load_s=load_s,
            base_ram_bytes=base_ram,
            num_parameters=loaded.num_parameters,
            weight_bytes=loaded.weight_bytes,
            streamed_bytes=loaded.streamed_bytes,
            tensor_types=loaded.tensor_types,
            kv_bytes_per_token=runner.kv_bytes_per_token,
        )
        self._end_phase("loading", device)
        finite = True
        if self.windows:
            finite = self._score(runner)
            self._end_phase("scoring", device)
        self._time(loaded)
        if self.has_floor and finite and config.kl_max_tokens:
            self.emit("progress", stage="divergence", done=0, total=1)
            self._measure_floor(loaded, runner)
        if self.is_paired and finite and config.kl_max_tokens:
            self.emit("progress", stage="divergence", done=0, total=1)
            with self.emit.slow():
                variant = Variant(checkpoint, config.reference_precision)
                reference = load_model(variant, device, config)
            self._compare(reference, runner)

    def _score(self, runner: TokenModel) -> bool:
        """Score the windows that are left; stop at non-finite logits and say where they began. Whether all
        are finite."""
        if self._last("overflow") is not None:
            return False
        chunk, known = self.config.score_chunk_tokens, self._windows_of("scored")
        total = sum(window.num_scored for window in self.windows)
        done = sum(self.windows[index].num_scored for index in known)
        self.emit("progress", stage="quality", done=done, total=total)
        windows = [(w.token_ids, w.first_scored) for w in self.windows]
        try:
            for index, (log_prob, top1) in score_windows(runner, windows, chunk, known):
                scores = {"log_prob": pack(log_prob.numpy()), "top1": pack(top1.numpy().astype(np.int32))}
                self.emit("scored", window=index, **scores)
                done += len(log_prob)
                self.emit("progress", stage="quality", done=done, total=total)
        except NonFiniteLogits as error:
            _refuse_bad_weights(runner.model, self.config.model)
            bad = self.windows[error.index]
            found: Overflow = locate_overflow(
                runner, bad.token_ids, bad.first_scored, chunk, window=error.index
            )
            self.emit("overflow", overflow=found.model_dump())
            return False
        return True

    def _windows_of(self, kind: str) -> set[int]:
        """Those that an earlier attempt has told."""
        return {event["window"] for event in self.done if event["event"] == kind}

    def _end_phase(self, name: str, device: torch.device) -> None:
        """Tell its peak memory, and begin the next one."""
        peaks = peak_memory_bytes(device)
        self.emit("phase", name=name, peak_bytes=peaks, has_end=begin_phase(device))

    def _time(self, loaded: LoadedModel) -> None:
        """Generate from the prompts that are left, after a warm-up; energy is read around each."""
        config, first = self.config, self._count("generation")
        total = len(self.prompts)
        if first == total:
            return
        decided = self._last("execution") or {}
        self.emit("progress", stage="speed", done=first, total=total)
        with self.emit.slow():
            setup = EngineSetup(
                loaded.model,
                execution=decided.get("mode") or config.execution,
                capacity=max(map(len, self.prompts)) + config.max_new_tokens,
                choices=ProductChoices(decided.get("products") or {}),
            )
            engine = make_engine(config.backend, setup)
            short = config.model_copy(update={"max_new_tokens": min(WARM_UP_TOKENS, config.max_new_tokens)})
            for index in range(config.num_warmup):
                engine.generate(self.prompts[index % total], short)
        self._end_phase("preparing", loaded.device)
        reference_work_s(loaded.device)
        self.emit("reference_work", seconds=reference_work_s(loaded.device))
        for index in range(first, total):
            self._one_prompt(engine, loaded, index)
            self.emit("progress", stage="speed", done=index + 1, total=total)
        self.emit("execution", **engine.execution(None), **engine.decisions())
        self._measure_energy(engine, loaded.device)

    def _measure_energy(self, engine: Engine, device: torch.device) -> None:
        """Blocks of the prompts, one after another, each long against the steps of the device's counter;
        nothing without a counter."""
        counter, done = find_counter(device) if self.is_first_round else None, self._count("energy")
        if counter is None or done >= ENERGY_BLOCKS:
            return
        meter, place = Meter(counter), 0

        def work() -> int:
            nonlocal place
            start_s, num_tokens = now(), 0
            while now() - start_s < meter.least_block_s:
                found = engine.generate(self.prompts[place % len(self.prompts)], self.config)
                num_tokens, place = num_tokens + len(found.token_ids), place + 1
            return num_tokens

        for index in range(done, ENERGY_BLOCKS):
            self.emit("progress", stage="energy", done=index, total=ENERGY_BLOCKS)
            with self.emit.slow():
                block = meter.block(work)
            self.emit("energy", **block.model_dump(mode="json"))

    def _one_prompt(self, engine: Engine, loaded: LoadedModel, index: int) -> None:
        generation = engine.generate(self.prompts[index], self.config)
        peaks = peak_memory_bytes(loaded.device)
        if index == self._count("generation"):
            # what was decided by timing, for who goes on behind this prompt
            self.emit("execution", **engine.execution(None), **engine.decisions())
        self.emit(
            "generation",
            index=index,
            generation=generation.model_dump(mode="json") | {"cluster": self.clusters[index]},
            reference_work_s=reference_work_s(loaded.device),
            peak_bytes=peaks,
        )

    def _measure_floor(self, loaded: LoadedModel, runner: TokenModel) -> None:
        """The reference beside itself, through forwards of another shape."""
        windows, known = self._compared_windows(loaded, FLOOR_TOKENS), self._windows_of("floor")
        if len(known) == len(windows):
            return
        pairs = [(window.token_ids, window.first_scored) for window in windows]
        other, chunk = OtherShape(token_model(loaded.model)), self.config.score_chunk_tokens
        own, found = (dict(score_windows(one, pairs, chunk)) for one in (runner, other))
        for index, kl in kl_of_windows(runner, other, pairs, chunk):
            scores = {
                name: [pack(log_prob.numpy()), pack(top1.numpy().astype(np.int32))]
                for name, (log_prob, top1) in (("reference", own[index]), ("scores", found[index]))
            }
            if index not in known:
                self.emit("floor", window=index, kl=_rounded(kl), **scores)

    def _compared_windows(self, reference: LoadedModel, most: int) -> Sequence[Window]:
        """Those on which distributions are compared, with at most so many scored positions: the text's, or
        the reference's own answers to the prompts."""
        most = min(most, self.config.kl_max_tokens)
        if self.config.kld_on == "text":
            return truncate(self.windows, most)
        setup = EngineSetup(reference.model, execution="eager")
        engine, windows = make_engine("native", setup), []
        for index, prompt in enumerate(self.prompts):
            if index * self.config.max_new_tokens < most:
                self.emit("progress", stage="divergence", done=0, total=1)
                answer = engine.generate(prompt, self.config).token_ids
                windows.append(Window((*prompt, *answer), len(prompt), index))
        return truncate(windows, most)

    def _compare(self, reference: LoadedModel, candidate: TokenModel) -> None:
        """KL(reference ‖ candidate) at every scored position of the windows that are left."""
        windows = self._compared_windows(reference, self.config.kl_max_tokens)
        known = self._windows_of("kl")
        done = sum(windows[index].num_scored for index in known)
        total = sum(window.num_scored for window in windows)
        pairs = [(w.token_ids, w.first_scored) for w in windows]
        try:
            for index, kl in kl_of_windows(
                token_model(reference.model), candidate, pairs, self.config.score_chunk_tokens, known
            ):
                self.emit("kl", window=index, values=_rounded(kl))
                done += len(kl)
                self.emit("progress", stage="divergence", done=done, total=total)
        except NonFiniteLogits as error:
            # the candidate's were finite when it was scored
            why = f"the reference {self.config.reference_precision} gives no finite logits"
            raise NonFiniteNumbers(why) from error


def _rounded(values: torch.Tensor) -> list[float]:
    return [float(f"{value:.6g}") for value in values.tolist()]


def _refuse_bad_weights(model: Any, name: str) -> None:
    """Numbers that are not finite in a dtype that holds all of a checkpoint's are the checkpoint's own."""
    for key, weight in model.named_parameters() if isinstance(model, torch.nn.Module) else ():
        if torch.finfo(weight.dtype).max > 1e38 and not weight.isfinite().all():
            problem = f"weight {key} holds numbers that are not finite"
            raise UserError("model", name, problem, AGAIN)


def rows_of(windows: Sequence[Window]) -> Iterator[tuple[tuple[int, ...], int, int]]:
    """Windows as a payload has them."""
    for window in windows:
        yield window.token_ids, window.first_scored, window.document
