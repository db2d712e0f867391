"""`bitdraft doctor`."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from bitdraft import formats
from bitdraft.cli.common import errors_to_exit
from bitdraft.cli.flags import Debug
from bitdraft.formats import gguf, stored

if TYPE_CHECKING:
    import torch

    from bitdraft.schema.environment import Environment

# by extra, a module that it brings, and what it is for
EXTRAS = {
    "data": ("datasets", "WikiText-2, PG-19 and Spec-Bench from the hub"),
    "nvidia": ("pynvml", "memory of the process and energy on NVIDIA GPUs"),
    "ray": ("ray", "cells on a Ray cluster"),
    "quant": ("torchao", "int8, int4, fp8 and nf4"),
    "llama-cpp": ("llama_cpp", "GGUF files and every format of theirs"),
}
# of memory, for weights: the rest is for the cache, activations and everything else
SHARE_OF_MEMORY = 0.7


def doctor(
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    measure: Annotated[
        bool,
        typer.Option("--measure/--no-measure", help="Measure the memory's bandwidth and products, seconds."),
    ] = True,
    debug: Debug = False,
) -> None:
    """Say what this machine is, what is installed, how fast it can be, and what fits."""
    with errors_to_exit(debug):
        from bitdraft.config import PRECISIONS, ModelConfig, make_config
        from bitdraft.inputs.models import resolve_device
        from bitdraft.probes.ceilings import measure_ceilings
        from bitdraft.probes.environment import describe

        console = Console()
        found = resolve_device(make_config(ModelConfig, {"device": device}).device)
        environment = describe(found)
        _section(console, "Machine", _machine(environment))
        _section(console, "Installed", _installed(environment))
        _section(console, "Formats", _formats(found))
        _section(console, "Fits", [(name, _largest(environment, name)) for name in PRECISIONS])
        if measure:
            with console.status("measuring …"):
                ceilings = measure_ceilings(found, PRECISIONS)
            rates = [
                (f"products, {name}", f"{rate:.3g} TFLOP/s") for name, rate in ceilings.matmul_tflop_s.items()
            ]
            streams = [
                ("memory, copied", f"{ceilings.copy_gb_s:.1f} GB/s"),
                ("memory, read", f"{ceilings.read_gb_s:.1f} GB/s"),
            ]
            _section(console, "Ceilings", [*streams, *rates])
        console.print("Begin with: bitdraft recommend --budget 5m", style="bold", highlight=False)


def _section(console: Console, title: str, lines: Sequence[tuple[str, str]]) -> None:
    console.print(title, style="bold", highlight=False)
    for name, text in lines:
        console.print(f"  {name:<16} {text}", highlight=False, markup=False)
    console.print()


def _machine(environment: Environment) -> list[tuple[str, str]]:
    lines = [
        ("processor", f"{environment.cpu}, {environment.cpu_capability}"),
        ("cores", _cores(environment)),
        ("memory", _memory(environment)),
        ("system", str(environment.system)),
        ("device", environment.device or "?"),
    ]
    if environment.gpu:
        lines.append(("GPU", f"{environment.gpu}, {environment.gpu_memory_gb} GiB, CUDA {environment.cuda}"))
    return lines


def _cores(environment: Environment) -> str:
    usable = environment.usable_cpus
    limited = usable is not None and usable < (environment.num_cores or 0)
    may = f", of which this process may use {usable:g}" if limited else ""
    return f"{environment.num_cores}{may}; {environment.num_threads} threads"


def _memory(environment: Environment) -> str:
    limit = environment.memory_limit_gb
    return f"{environment.ram_gb} GiB" + (f", of which this process may use {limit} GiB" if limit else "")


def _installed(environment: Environment) -> list[tuple[str, str]]:
    own = f"{environment.bitdraft}, torch {environment.torch}, transformers {environment.transformers}"
    lines = [("bitdraft", f"{own}, Python {environment.python}")]
    for extra, (module, use) in EXTRAS.items():
        there = importlib.util.find_spec(module) is not None
        how = "installed" if there else f"not installed: pip install 'bitdraft[{extra}]'"
        lines.append((extra, f"{how} ({use})"))
    return lines


def _largest(environment: Environment, precision: str) -> str:
    """Parameters whose weights leave room for the rest."""
    memory = environment.gpu_memory_gb or environment.memory_limit_gb or environment.ram_gb or 0.0
    billions = SHARE_OF_MEMORY * memory * 2**30 / (formats.find(precision).bits / 8) / 1e9
    return f"models of up to about {billions:.1f} billion parameters"


def _formats(device: torch.device) -> list[tuple[str, str]]:
    """What `--precisions` takes here, and why not the rest."""
    from bitdraft.config.cache import refuse_unwritable_cache
    from bitdraft.errors import UserError
    from bitdraft.inputs.quantised import unsupported_reason
    from bitdraft.inputs.variants import is_installed

    here, lines = [], []
    unlisted = {*stored.FORMATS, *gguf.FORMATS} - {*gguf.WELL_KNOWN}
    for name in (name for name in formats.NAMES if name not in unlisted):
        wanted = formats.find(name)
        if wanted.package and not is_installed(wanted.package):
            why: str | None = f"needs 'bitdraft[{wanted.extra}]'"
        else:
            why = unsupported_reason(wanted, device)
        if why is None:
            here.append(name)
        else:
            lines.append((name, why))
    try:
        refuse_unwritable_cache()
    except UserError as error:
        lines.append(("cache", f"{error.value}: nothing can be written, so no GGUF files are made"))
    others = " and llama.cpp's others" if set(here) & set(gguf.FORMATS) else ""
    return [("run here", ", ".join(here) + others), *lines]
