"""Weights and products in one floating-point type: fp32, fp16, bf16.

bf16 has fp32's range and is more often a CPU's own arithmetic than fp16, which is therefore left out first
where time is short.
"""

from __future__ import annotations

from bitdraft.formats.base import Format

FAMILY = "dtype"
FORMATS = {
    found.name: found
    for found in (
        Format("fp32", "FP32", FAMILY, "float32", 32, style_index=0, tie_lead=1e-3, wider="float64"),
        Format("fp16", "FP16", FAMILY, "float16", 16, style_index=1, tie_lead=0.1, left_out_first=1),
        Format("bf16", "BF16", FAMILY, "bfloat16", 16, style_index=2, tie_lead=0.5),
    )
}
