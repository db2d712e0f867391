"""What makes a product with one or few rows fast on a CPU. Nothing here changes a weight's value.

Measured with torch 2.13 on a Zen 4 core, the 64 products of a 16-layer model of width 192, one row
(docs/benchmarks): oneDNN repacks bfloat16 weights at every call (4.1 ms against 1.4 ms without it,
overtaking it again from about 6 rows), and sets up a primitive for every GELU (0.41 ms against
0.07 ms). MKL's float32 product with one row is faster when the weight lies input-major (4.7 ms
against 5.6 ms).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

MOST_FEW_ROWS = {torch.float32: 32}
MOST_FEW_ROWS_IN_16_BIT = 4


@contextlib.contextmanager
def few_row_kernels(num_rows: int, device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Within, a CPU forward of few rows avoids oneDNN."""
    few = num_rows <= MOST_FEW_ROWS.get(dtype, MOST_FEW_ROWS_IN_16_BIT)
    switch: Any = torch.backends.mkldnn
    before = switch.enabled
    switch.enabled = before and not (device.type == "cpu" and few)
    try:
        yield
    finally:
        switch.enabled = before


def lay_input_major(model: Any) -> None:
    """Store float32 CPU weights of linear layers by input instead of by output, tied ones excepted."""
    embedding = model.get_input_embeddings().weight
    for module in model.modules():
        if not isinstance(module, torch.nn.Linear) or module.weight is embedding:
            continue
        weight = module.weight
        if weight.device.type == "cpu" and weight.dtype == torch.float32:
            weight.data = weight.data.t().contiguous().t()
