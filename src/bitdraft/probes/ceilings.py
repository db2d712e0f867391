"""The device's measured ceilings: copy and read bandwidth, rate of matrix products."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import torch

from bitdraft import formats
from bitdraft.config import Precision
from bitdraft.probes.clock import now, synchronize
from bitdraft.schema.environment import Ceilings

_MIN_SECONDS = 0.2


def median_seconds(run: Callable[[], object], device: torch.device) -> float:
    """Median time of a call after a warm-up: at least five calls and 0.2 s, or one that takes as long."""
    times: list[float] = []
    for index in range(1000):
        synchronize(device)
        start = now()
        run()
        synchronize(device)
        if index >= 1:
            times.append(now() - start)
        if sum(times) >= _MIN_SECONDS and (len(times) >= 5 or max(times) >= _MIN_SECONDS):
            break
    return statistics.median(times)


def measure_ceilings(device: torch.device, precisions: Sequence[Precision]) -> Ceilings:
    """Copy bandwidth (bytes read + written) and read bandwidth in GB/s (10⁹), and for each precision of
    floating point the rate of a square matrix product (the second transposed, as a linear layer's weight) in
    TFLOP/s."""
    num_floats = 2**26
    if device.type == "cuda":
        # both buffers together take a quarter of the free memory at most
        num_floats = min(2**30, torch.cuda.mem_get_info(device)[0] // 32)
    copy_s, read_s = _stream_seconds(num_floats, device)
    num_bytes = 4 * num_floats
    size = 8192 if device.type == "cuda" else 1024
    rates: dict[str, float] = {}
    for precision in precisions:
        if precision not in formats.USUAL:
            continue
        left = torch.randn(size, size, device=device).to(getattr(torch, formats.find(precision).torch_dtype))
        seconds = median_seconds(lambda left=left: left @ left.t(), device)  # type: ignore[misc]
        rates[precision] = round(2 * size**3 / seconds / 1e12, 4)
    return Ceilings(
        copy_gb_s=round(2 * num_bytes / copy_s / 1e9, 2),
        read_gb_s=round(num_bytes / read_s / 1e9, 2),
        matmul_tflop_s=rates,
    )


def _stream_seconds(num_floats: int, device: torch.device) -> tuple[float, float]:
    """Seconds to copy and to sum `num_floats` float32 numbers."""
    source = torch.ones(num_floats, device=device)
    target = torch.empty_like(source)
    return median_seconds(lambda: target.copy_(source), device), median_seconds(source.sum, device)
