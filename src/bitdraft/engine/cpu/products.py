"""Which product reads a linear weight fastest on this processor, found by timing both.

Plain products go to the library that torch was built with (MKL on x86), packed ones to oneDNN. Neither wins
everywhere: on an Intel Xeon MKL reads float32 weights at the memory's speed with one row and at half of it
with five; on an AMD EPYC it reaches a third of what oneDNN does with any number of rows; and a small
weight is faster left plain on both (docs/benchmarks).
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

import torch
from filelock import FileLock

from bitdraft.config.cache import cache_folder
from bitdraft.probes.clock import now
from bitdraft.probes.machine import cpu_name

PackedFor = Literal["all", "few", "none"]
"""Forwards that a weight is packed for: all, which needs no other copy of it; those of few rows (more than
a decode step's one or two) beside the plain weight; none."""

_ROUNDS = 5

_FEW = 4

# numbers in one weight, beyond which the time grows with the size alone, and in all that are read in turn,
# which no cache holds
_MOST_NUMBERS = 2**23

_ALL_NUMBERS = 2**24

_MOST_WEIGHTS = 64

# a packed product this much slower is taken for the copy that it saves, and one for few rows has to gain
# this much for the copy that it costs
_AS_FAST = 1.05

_CLEARLY_FASTER = 0.9

_mkldnn: Any = torch.ops.mkldnn

_mkldnn_switch: Any = torch.backends.mkldnn


@functools.cache
def can_pack(dtype: torch.dtype) -> bool:
    """Whether oneDNN packs weights of this dtype on this processor, which is asked once."""
    backend: Any = torch.backends.mkldnn  # without type hints
    if not backend.is_available():
        return False
    if dtype == torch.bfloat16:
        return bool(_mkldnn._is_mkldnn_bf16_supported())
    if dtype == torch.float16:
        return bool(_mkldnn._is_mkldnn_fp16_supported())
    return dtype == torch.float32


def pack(weight_OI: torch.Tensor) -> torch.Tensor:
    """A weight of I inputs and O outputs in oneDNN's own layout."""
    packed: torch.Tensor = _mkldnn._reorder_linear_weight(weight_OI, None)
    return packed


def packed_product(
    states: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    product: torch.Tensor = _mkldnn._linear_pointwise(states, packed, bias, "none", [], "")
    return product


def lay_plain(weight_OI: torch.Tensor) -> torch.Tensor:
    """The layout that is fastest for a plain product: input-major in float32, as it is in 16 bits."""
    return weight_OI.t().contiguous().t() if weight_OI.dtype == torch.float32 else weight_OI


class ProductChoices:
    """What weights of each size are packed for, timed once a size and machine, so that equal models round
    alike in every run. `known` are choices of an earlier process, by `key`: who goes on behind it rounds as
    it did, wherever that was."""

    def __init__(self, known: Mapping[str, PackedFor] = MappingProxyType({})) -> None:
        self._known: dict[str, PackedFor] = dict(known)

    def packed_for(self, weight_OI: torch.Tensor) -> PackedFor:
        """For one weight of O outputs and I inputs."""
        num_out, num_in = weight_OI.shape
        name = key(num_out, num_in, weight_OI.dtype)
        if name not in self._known:
            choice = remembered().get(name)
            if choice is None:
                choice = remember(name, _faster(*_seconds(num_out, num_in, weight_OI.dtype)))
            self._known[name] = choice
        return self._known[name]

    def record(self) -> dict[str, PackedFor]:
        """All choices so far."""
        return dict(self._known)


def choices_file() -> Path:
    """Where this machine's choices are kept: `BITDRAFT_CACHE`, or the user's cache folder. To have them timed
    again, remove it."""
    return cache_folder() / "cpu_products.json"


def machine() -> str:
    """What choices are kept for: processor, what torch makes of it, and torch."""
    return f"{cpu_name()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"


def remembered() -> dict[str, PackedFor]:
    """This machine's choices, by `key`; none where there is no file, or none that can be read."""
    found = _all_remembered().get(machine(), {})
    kinds = get_args(PackedFor)
    return {name: kind for name, kind in found.items() if kind in kinds} if isinstance(found, dict) else {}


def _all_remembered() -> dict[str, Any]:
    try:
        found = json.loads(choices_file().read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):  # RuntimeError: nobody is at home
        return {}
    return found if isinstance(found, dict) else {}


def remember(name: str, choice: PackedFor) -> PackedFor:
    """Keep a choice beside others, unless another process was first: its choice is taken. A folder that
    cannot be written to is no error: then every process times anew."""
    try:
        path = choices_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            kept = remembered()
            if name in kept:
                return kept[name]
            found = _all_remembered() | {machine(): kept | {name: choice}}
            temporary = path.with_suffix(".new")
            temporary.write_text(json.dumps(found, indent=1), encoding="utf-8")
            temporary.replace(path)
    except (OSError, RuntimeError):
        pass
    return choice


def key(num_out: int, num_in: int, dtype: torch.dtype) -> str:
    """`1024x512 float32, 2 threads`: what a choice depends on."""
    return f"{num_out}x{num_in} {str(dtype).removeprefix('torch.')}, {torch.get_num_threads()} threads"


def _faster(plain_1: float, packed_1: float, plain_few: float, packed_few: float) -> PackedFor:
    """From seconds with one row and with a few."""
    if packed_1 <= _AS_FAST * plain_1 and packed_few <= _AS_FAST * plain_few:
        return "all"
    return "few" if packed_few <= _CLEARLY_FASTER * plain_few else "none"


@torch.inference_mode()
def _seconds(num_out: int, num_in: int, dtype: torch.dtype) -> list[float]:
    """Plain and packed with one row, then with a few; the least of some rounds in turn, each over weights
    that stand for a model's layers."""
    num_out = max(min(num_out, _MOST_NUMBERS // num_in), 1)
    num_weights = max(min(_ALL_NUMBERS // (num_out * num_in), _MOST_WEIGHTS), 2)
    plain = [lay_plain(torch.full((num_out, num_in), 0.5, dtype=dtype)) for _ in range(num_weights)]
    packed = [pack(weight) for weight in plain]
    ways: list[Callable[[], object]] = []
    for num_rows in (1, _FEW):
        states = torch.ones(num_rows, num_in, dtype=dtype)
        ways.append(functools.partial(_each, torch.nn.functional.linear, states, plain))
        ways.append(functools.partial(_each, packed_product, states, packed))
    spent_s: list[list[float]] = [[] for _ in ways]
    before = _mkldnn_switch.enabled
    try:
        _mkldnn_switch.enabled = False
        for _, (way, found) in itertools.product(range(_ROUNDS), zip(ways, spent_s, strict=True)):
            start_s = now()
            way()
            found.append(now() - start_s)
    finally:
        _mkldnn_switch.enabled = before
    return [min(found) for found in spent_s]


def _each(
    product: Callable[[torch.Tensor, torch.Tensor], object], states: torch.Tensor, weights: list[torch.Tensor]
) -> None:
    for weight in weights:
        product(states, weight)
