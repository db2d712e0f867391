"""What makes forwards of one or few tokens fast on a CPU: how linear weights lie, and which product reads
them. Nothing here changes a weight's value.

Decoding streams every weight once a step, and plain products rarely reach the memory's speed. What does is
measured where the model runs (products.py). Measured once, with torch 2.13 (docs/benchmarks):
- In 16 bits oneDNN packs a plain weight at every call, so that a single row's product without it is faster.
- oneDNN sets up a primitive for every GELU: 0.41 ms against 0.07 ms a forward of 16 layers.
"""

from __future__ import annotations

import functools
import itertools
import weakref
from dataclasses import dataclass
from typing import Any

import torch

from bitdraft.engine.cpu.products import (
    PackedFor,
    ProductChoices,
    can_pack,
    lay_plain,
    pack,
    packed_product,
)
from bitdraft.inputs.quantised import has_plain_linears
from bitdraft.probes.container import available_bytes

MOST_ROWS_PLAIN = 2

MOST_ROWS_PACKED = 64

# where nothing is packed: with more rows oneDNN is the faster way for plain weights
MOST_ROWS_WITHOUT_ONEDNN = {torch.float32: 32}

MOST_ROWS_WITHOUT_ONEDNN_IN_16_BIT = 4

_mkldnn_switch: Any = torch.backends.mkldnn


@dataclass
class Rows:
    """Whether the current forward has few rows; all linear layers of a model look here."""

    are_few: bool = False


class DecodingLinear(torch.nn.Linear):
    """A linear layer whose weight is packed, for good or for forwards of few rows.

    The number of rows is told, not looked at, so that a recorded forward holds one product alone.
    """

    rows: Rows
    packed_for: PackedFor
    packed_key: int | None

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        if not (self.packed_for == "all" or (self.packed_for == "few" and self.rows.are_few)):
            return torch.nn.functional.linear(states, self.weight, self.bias)
        if self.packed_key is None:
            self.pack()
        product: torch.Tensor = torch.ops.bitdraft.packed_linear(states, self.bias, self.packed_key)
        return product

    def pack(self) -> None:
        """Keep a copy in oneDNN's own layout for as long as this layer lives."""
        self.packed_key = next(_keys)
        _packed[self.packed_key] = pack(self.weight.detach())
        weakref.finalize(self, _packed.pop, self.packed_key, None)


# A packed tensor can be no constant of a recording, so that the operator takes its number
_keys = itertools.count()

_packed: dict[int, torch.Tensor] = {}


@functools.cache
def _define_product() -> None:
    """oneDNN's product with a packed weight as an operator that can be recorded and compiled, which its
    own is not for its list of optional numbers."""
    make: Any = torch.library.Library  # without type hints
    library = make("bitdraft", "FRAGMENT")
    library.define("packed_linear(Tensor states, Tensor? bias, int key) -> Tensor")

    def product(states: torch.Tensor, bias: torch.Tensor | None, key: int) -> torch.Tensor:
        return packed_product(states, _packed[key], bias)

    def shape_alone(states: torch.Tensor, bias: torch.Tensor | None, key: int) -> torch.Tensor:
        return states.new_empty(*states.shape[:-1], _packed[key].shape[0])

    library.impl("packed_linear", product, "CPU")
    library.impl("packed_linear", shape_alone, "Meta")
    _libraries.append(library)


_libraries: list[Any] = []  # an operator goes with the library that defined it


class few_row_kernels:
    """Within, a CPU forward of few rows uses packed weights, if its model's are prepared, and avoids
    oneDNN where that packs or sets up anew at each call."""

    def __init__(
        self, num_rows: int, device: torch.device, dtype: torch.dtype, rows: Rows | None = None
    ) -> None:
        most = MOST_ROWS_WITHOUT_ONEDNN.get(dtype, MOST_ROWS_WITHOUT_ONEDNN_IN_16_BIT)
        most = most if rows is None else MOST_ROWS_PACKED
        self._off = device.type == "cpu" and num_rows <= most
        self._rows, self._are_few = rows, MOST_ROWS_PLAIN < num_rows <= MOST_ROWS_PACKED

    def __enter__(self) -> None:
        self._before = _mkldnn_switch.enabled
        if self._off:
            _mkldnn_switch.enabled = False
        if self._rows is not None:
            self._rows.are_few = self._are_few

    def __exit__(self, *_: object) -> None:
        _mkldnn_switch.enabled = self._before
        if self._rows is not None:
            self._rows.are_few = False


def prepare_linears(model: Any, choices: ProductChoices | None = None) -> Rows | None:
    """Lay out the linear layers of a CPU model for decoding; None where they stay as they are.

    Layers of another class than torch's (quantised ones, say) are not touched. Copies are packed when a
    forward of few rows first needs them, and none where they would take half of the free memory. `choices`
    say which weights; they are timed where they don't.
    """
    if model.device.type != "cpu" or not has_plain_linears(model):
        return None
    found = rows_of(model)
    if found is not None:
        return found
    linears = [module for module in model.modules() if type(module) is torch.nn.Linear]
    tied = model.get_input_embeddings().weight
    num_bytes = sum(module.weight.numel() * module.weight.element_size() for module in linears)
    if not linears or not can_pack(model.dtype) or 2 * num_bytes > available_bytes():
        for module in linears:
            _lay_plain(module, tied)
        return None
    _define_product()
    rows, choices = Rows(), choices or ProductChoices()
    for module in linears:
        _prepare(module, rows, tied, choices)
    return rows


def _prepare(module: Any, rows: Rows, tied: torch.Tensor, choices: ProductChoices) -> None:
    module.__class__ = DecodingLinear
    module.rows, module.packed_key = rows, None
    module.packed_for = choices.packed_for(module.weight)
    if module.packed_for != "all":
        _lay_plain(module, tied)
        return
    module.pack()
    if module.weight is not tied:
        # nothing reads the plain weight any more; its dtype stays to be asked
        module.weight.data = module.weight.data.new_empty(0)


def _lay_plain(module: Any, tied: torch.Tensor) -> None:
    if module.weight is not tied:
        module.weight.data = lay_plain(module.weight.data)


def copied_bytes(model: Any) -> int:
    """Bytes of weights that are kept twice: packed for forwards of few rows, beside the plain ones."""
    layers = (module for module in model.modules() if isinstance(module, DecodingLinear))
    return sum(
        layer.weight.numel() * layer.weight.element_size()
        for layer in layers
        if layer.packed_for == "few" and layer.packed_key is not None
    )


def rows_of(model: Any) -> Rows | None:
    """Where to tell a prepared model its number of rows; None for one that is not packed."""
    return next((module.rows for module in model.modules() if isinstance(module, DecodingLinear)), None)
