"""Plain decoding (K = 0): bitdraft's executions against transformers' `generate`, in fp32 and bf16.

The embedded target and shapes with random weights. On each prompt all ways of both precisions run in turn:
  native: eager, static, compiled
  generate: eager, with a static cache, with a static cache and compiled (static_cache)
Bytes a step are the weights that it reads and the keys and values so far (docs/metrics.md); MBU is those
over the step's time and over the read bandwidth measured between the prompts of the same run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

import bench_drawing
from bench_drawing import Bars
from benchmarks import (
    EMBEDDED,
    PRECISIONS,
    ReadBandwidth,
    Report,
    Settings,
    dumped,
    has_compiler,
    interleave,
    load,
    prompts_of,
    same_ids,
    say,
    table,
)
from bitdraft.backends.base import EngineSetup
from bitdraft.backends.native import NativeEngine
from bitdraft.backends.transformers import TransformersEngine
from bitdraft.config import DecodingConfig, Execution, Precision
from bitdraft.engine.runner import Runner
from bitdraft.errors import UserError
from bitdraft.metrics.speed import (
    bandwidth_utilisation,
    decode_bytes,
    decode_span,
    speed_figures,
    speed_ratio,
)
from bitdraft.schema.records import Figure, Generation
from static_cache import static_generate

Way = Callable[[Sequence[int], DecodingConfig], Generation]
SHAPES, LARGE_SHAPES = ("pythia-70m", "pythia-160m", "pythia-410m"), ("pythia-2.8b",)
PEER = "generate"
NATIVE: dict[str, Execution] = {
    "native eager": "eager",
    "native static": "static",
    "native compiled": "compiled",
}
WAYS = (*NATIVE, PEER, "generate, static cache", "generate, static cache, compiled")
COLUMNS = {
    "model": ("model", 0),
    "precision": ("precision", 0),
    "way": ("what", 0),
    "tok_s": ("tokens/s", 1),
    "step_ms": ("step, ms", 2),
    "over_generate": ("/ generate", 2),
    "over_fp32": ("bf16 / fp32", 2),
    "step_mb": ("MB a step", 1),
    "mbu": ("MBU", 2),
    "same_ids": ("ids as generate", 0),
    "n": ("prompts", 0),
}
Arm = tuple[Precision, str]


@dataclass
class Work:
    """What one model is given to do."""

    name: str
    prompts: list[list[int]]
    config: DecodingConfig

    @property
    def capacity(self) -> int:
        return max(map(len, self.prompts)) + self.config.max_new_tokens

    @classmethod
    def of(cls, name: str, settings: Settings) -> Work:
        num_prompts, num_tokens = (15, 100) if name == EMBEDDED else (10, 48)
        if settings.quick:
            num_prompts, num_tokens = 5, 16
        return cls(name, prompts_of(settings, num_prompts, 256), DecodingConfig(max_new_tokens=num_tokens))


@dataclass
class Streams:
    """What a decode step reads: bytes of weights, and bytes of keys and values for each token so far."""

    weight_bytes: int
    kv_bytes: int

    def bytes_of(self, run: Generation) -> float:
        return decode_bytes(run, self.weight_bytes, self.kv_bytes)


def ways_of(model: Any, peer: Any, work: Work, compiled: bool) -> dict[str, Way]:
    """A model of its own for each side: the native backend lays out a CPU model's weights anew."""
    capacity = work.capacity
    ways: dict[str, Way] = {
        way: NativeEngine(EngineSetup(model, execution=execution, capacity=capacity)).generate
        for way, execution in NATIVE.items()
        if compiled or execution != "compiled"
    }
    ways[PEER] = TransformersEngine(EngineSetup(peer)).generate
    ways["generate, static cache"] = static_generate(peer, capacity, compiled=False)
    if compiled:
        ways["generate, static cache, compiled"] = static_generate(peer, capacity, compiled=True)
    return ways


def prepared(
    ways: Mapping[str, Way], work: Work, who: str
) -> tuple[dict[str, Callable[[list[int]], Generation]], list[str]]:
    """What runs, bound to its settings, and a note for what does not; compiling is done here."""
    arms: dict[str, Callable[[list[int]], Generation]] = {}
    notes = []
    for way, backend in ways.items():
        say(f"plain, {who}: preparing {way}")
        try:
            backend(work.prompts[0], work.config)
        except (UserError, torch.OutOfMemoryError, RuntimeError) as error:
            notes.append(f"{who}, {way} did not run: {error}".splitlines()[0])
            continue
        arms[way] = lambda prompt, run=backend: run(prompt, work.config)  # type: ignore[misc]
    return arms, notes


def measure(work: Work, settings: Settings) -> tuple[list[dict[str, Any]], list[str], float]:
    """The model's lines, notes, and the read bandwidth at the time."""
    arms: dict[Arm, Callable[[list[int]], Generation]] = {}
    streams: dict[Precision, Streams] = {}
    notes: list[str] = []
    for precision in PRECISIONS:
        loaded = load(work.name, precision, settings.device)
        streams[precision] = Streams(loaded.streamed_bytes or 0, Runner(loaded.model).kv_bytes_per_token)
        on_cpu = settings.device.type == "cpu"
        peer = load(work.name, precision, settings.device).model if on_cpu else loaded.model
        ways = ways_of(loaded.model, peer, work, settings.may_compile(work.name))
        found, missing = prepared(ways, work, f"{work.name}, {precision}")
        arms |= {(precision, way): run for way, run in found.items()}
        notes += missing
    bandwidth = ReadBandwidth(settings.device)
    runs = interleave(arms, work.prompts, f"plain, {work.name}", after=bandwidth.sample)
    return lines_of(work.name, runs, streams, bandwidth.bytes_s), notes, bandwidth.bytes_s


def lines_of(
    model: str,
    runs: Mapping[Arm, Sequence[Generation]],
    streams: Mapping[Precision, Streams],
    read_bytes_s: float,
) -> list[dict[str, Any]]:
    lines = []
    for (precision, way), found in runs.items():
        peer, wide = runs.get((precision, PEER)), runs.get(("fp32", way))
        figures = speed_figures(found)
        num_bytes = [streams[precision].bytes_of(run) for run in found]
        num_steps = sum(decode_span(run)[1] for run in found)
        line: dict[str, Any] = {
            "model": model,
            "precision": precision,
            "way": way,
            "tok_s": figures["throughput_tok_s"].value,
            "step_ms": figures["tpot_ms"].value,
            "over_generate": None if peer is None or way == PEER else speed_ratio(found, peer),
            "over_fp32": None if wide is None or precision == "fp32" else speed_ratio(found, wide),
            "step_mb": sum(num_bytes) / num_steps / 1e6,
            "mbu": bandwidth_utilisation(found, num_bytes, read_bytes_s),
            "same_ids": None if peer is None else same_ids(found, peer),
            "n": len(found),
        }
        lines.append(line)
    return lines


def models_of(settings: Settings) -> list[str]:
    large = LARGE_SHAPES if settings.device.type == "cuda" else ()
    return settings.picks((EMBEDDED, *SHAPES, *large))


def run(settings: Settings) -> Report:
    lines: list[dict[str, Any]] = []
    notes: list[str] = []
    if not has_compiler():
        notes.append("There is no C++ compiler: nothing was compiled.")
    bandwidths: dict[str, float] = {}
    for name in models_of(settings):
        torch.compiler.reset()  # compilations of a model that is gone count towards dynamo's limit
        if not settings.may_compile(name):
            notes.append(f"{name}: nothing was compiled (a C++ compiler, and --compiled beside --quick).")
        found, missing, bandwidth = measure(Work.of(name, settings), settings)
        lines += found
        notes += missing
        bandwidths[name] = bandwidth
    if settings.device.type == "cpu":
        notes.append(
            "On a CPU transformers compiles nothing by itself; the line that is compiled sets "
            "`CompileConfig._compile_all_devices`."
        )
    read = ", ".join(f"{value / 1e9:.1f} ({name})" for name, value in bandwidths.items())
    text = [
        "## Plain decoding",
        f"Read bandwidth measured between the prompts, median, GB/s: {read}.",
        table(COLUMNS, lines),
        *notes,
    ]
    record = {"read_bytes_s": bandwidths, "notes": notes, "lines": [dumped(line) for line in lines]}
    return Report("plain", record, "\n\n".join(text), picture(lines))


def picture(lines: Sequence[Mapping[str, Any]]) -> bytes:
    groups = list(dict.fromkeys((line["model"], line["precision"]) for line in lines))
    labels = [f"{model}\n{precision}" for model, precision in groups]

    def bars(key: str) -> Bars:
        found: Bars = {}
        for line in lines:
            figure = line[key] or Figure(value=1.0)  # generate over itself
            found.setdefault(line["way"], {})[groups.index((line["model"], line["precision"]))] = figure
        return {way: found[way] for way in WAYS if way in found}

    panels = {
        "Tokens/s over those of generate (×)": bars("over_generate"),
        "MBU: bytes a step / its time / measured read bandwidth": bars("mbu"),
    }
    title = "Plain decoding, one token a step; bars: 95 % interval over prompts"
    return bench_drawing.bar_panels(title, labels, panels)
