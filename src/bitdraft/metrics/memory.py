"""Peak memory, in GiB: `peak_vram_gb` on CUDA, `peak_ram_gb` elsewhere and beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bitdraft.schema.records import Figure

GIB = 2**30
NAMES = ("peak_vram_gb", "peak_ram_gb")


def memory_figures(peak_bytes: Mapping[str, int] | None) -> dict[str, Figure]:
    """`peak_ram` and its like, in bytes, as figures in GiB."""
    return {f"{name}_gb": Figure(value=num_bytes / GIB) for name, num_bytes in (peak_bytes or {}).items()}


def memory_name(rows: Iterable[Mapping[str, Figure]]) -> str:
    """What the peak memory of these rows' metrics is called: VRAM where any of them has it."""
    return NAMES[0] if any(NAMES[0] in metrics for metrics in rows) else NAMES[1]
