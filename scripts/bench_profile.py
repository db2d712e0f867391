"""Where a decode step's time goes: linear products, attention, small operations, and the rest.

Plain decoding of the embedded target and of pythia-160m's shape in fp32, by torch.profiler in eager, static
and compiled execution. An operation belongs to the outermost linear product or attention that it is called
within; all others are small operations. On a GPU kernels are counted by their names. The rest is the step's
time without them: Python, the host's side of every call, and waiting.
Profiling slows a step down, so the step is also timed without it, in the same process; parts are scaled
from the profiled step to that one.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from bench_drawing import stacked_bars
from benchmarks import EMBEDDED, Report, Settings, load, prompts_of, say, table
from bitdraft.backends.base import EngineSetup
from bitdraft.backends.native import NativeEngine
from bitdraft.config import DecodingConfig, Execution, SamplingConfig
from bitdraft.metrics.speed import decode_span

MODELS = (EMBEDDED, "pythia-160m")
# by operator; compiled code calls the same by names that begin with `aoti_torch_cpu_`
LINEAR = ("linear", "addmm", "mm", "packed_linear", "_linear_pointwise")
ATTENTION = ("scaled_dot_product", "flash_attention")
FUSED = "_cpp_fused_"
GREEDY = SamplingConfig()
LINEAR_KERNELS, ATTENTION_KERNELS = ("gemm", "gemv", "cutlass", "splitk"), ("flash", "fmha", "attention")
PARTS = ("linear products", "attention", "small operations", "Python, host, rest")
COLUMNS: dict[str, tuple[str, int]] = {
    "model": ("model", 0),
    "execution": ("execution", 0),
    "step_ms": ("step, ms", 2),
    **{part: (f"{part}, ms", 2) for part in PARTS},
    "num_operations": ("operations a step", 0),
    "slowdown": ("profiled / step", 2),
}


def operator_of(name: str) -> str:
    """`addmm` of `aten::addmm` and of `aoti_torch_cpu_addmm_out`; nothing for what is no operator."""
    if name.startswith("aoti_torch_cpu_"):
        return name.removeprefix("aoti_torch_cpu_").removesuffix("_out")
    return name.partition("::")[2]


def part_of(event: Any) -> str:
    """By the outermost of an operation and those that called it which is a product or attention."""
    found = PARTS[2]
    while event is not None:
        operator = operator_of(event.name)
        if any(mark in operator for mark in ATTENTION):
            found = PARTS[1]
        elif operator in LINEAR:
            found = PARTS[0]
        event = event.cpu_parent
    return found


def kernel_part(name: str) -> str:
    lower = name.lower()
    if any(mark in lower for mark in ATTENTION_KERNELS):
        return PARTS[1]
    return PARTS[0] if any(mark in lower for mark in LINEAR_KERNELS) else PARTS[2]


def operation_us(events: Any, on_cuda: bool) -> tuple[dict[str, float], int]:
    """Microseconds by part, and the number of operations (kernels on a GPU)."""
    spent = dict.fromkeys(PARTS[:3], 0.0)
    count = 0
    for event in events:
        is_kernel = event.device_type.name == "CUDA"
        name = event.name
        if is_kernel != on_cuda or not (on_cuda or operator_of(name) or FUSED in name):
            continue
        spent[kernel_part(name) if on_cuda else part_of(event)] += (
            event.device_time_total if on_cuda else event.self_cpu_time_total
        )
        count += 1
    return spent, count


def measure(
    name: str, model: Any, prompt: list[int], execution: Execution, config: DecodingConfig
) -> dict[str, Any]:
    on_cuda = model.device.type == "cuda"

    def step_ms(made: NativeEngine) -> float:
        seconds, num_tokens = decode_span(made.decode(config, None, 0, 0, finite_only=False))
        return 1000 * seconds / num_tokens

    def prepared() -> NativeEngine:
        capacity = len(prompt) + config.max_new_tokens
        made = NativeEngine(EngineSetup(model, {}, GREEDY, execution=execution, capacity=capacity))
        made.prepare(prompt, config)
        step_ms(made)
        return made

    decoder = prepared()
    plain_ms = statistics.median(step_ms(decoder) for _ in range(5))
    inductor: Any = torch._inductor.config
    # fused kernels are no operators: code of its own names them, and is slower for it
    with inductor.patch({"cpp.enable_kernel_profile": True}):
        seen = prepared() if execution == "compiled" else decoder
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    with profile(activities=activities) as found:
        profiled_ms = step_ms(seen)
    num_steps = config.max_new_tokens - 1
    spent_us, count = operation_us(found.events(), on_cuda)
    scale = 1.0 if on_cuda else plain_ms / profiled_ms
    parts = {part: scale * us / 1000 / num_steps for part, us in spent_us.items()}
    parts[PARTS[3]] = max(0.0, plain_ms - sum(parts.values()))
    return {
        "model": name,
        "execution": decoder.execution(None)["execution"],
        "step_ms": plain_ms,
        **parts,
        "num_operations": round(count / num_steps),
        "slowdown": profiled_ms / plain_ms,
    }


def measure_model(name: str, settings: Settings) -> list[dict[str, Any]]:
    config = DecodingConfig(max_new_tokens=17 if settings.quick else 65)
    prompt = prompts_of(settings, 1, 256)[0]
    model = load(name, "fp32", settings.device).model
    executions: list[Execution] = ["eager", "static"]
    if settings.may_compile(name):
        executions.append("compiled")
    lines = []
    for execution in executions:
        say(f"profile: {name}, {execution}")
        lines.append(measure(name, model, prompt, execution, config))
    return lines


def run(settings: Settings) -> Report:
    lines: list[dict[str, Any]] = []
    for name in settings.picks(MODELS):
        torch.compiler.reset()
        lines += measure_model(name, settings)
    notes = (
        "Parts are scaled from the profiled step to the plain one (on a GPU they are kernels, and are not)."
    )
    text = ["## Where a decode step's time goes", table(COLUMNS, lines), notes]
    return Report("profile", lines, "\n\n".join(text), picture(lines))


def picture(lines: list[dict[str, Any]]) -> bytes:
    bars: dict[str, Mapping[str, float]] = {
        f"{line['model']}\n{line['execution']}": {part: line[part] for part in PARTS} for line in lines
    }
    return stacked_bars("Where a decode step's time goes (fp32, one token)", "ms a step", bars)
