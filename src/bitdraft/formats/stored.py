"""Checkpoints as they are stored: quantised already by one of the methods that transformers loads, and the
original that such a checkpoint is compared with."""

from __future__ import annotations

from bitdraft.formats.base import Format

FAMILY = "stored"
STORED = Format(
    name="stored",
    title="As stored",
    family=FAMILY,
    torch_dtype="",
    bits=0.0,
    style_index=8,
    tie_lead=0.5,
)
ORIGINAL = Format(
    name="original",
    title="Original",
    family=FAMILY,
    torch_dtype="",
    bits=32.0,
    style_index=9,
    tie_lead=0.5,
    left_out_first=-1,
)
"""The checkpoint that `--reference` names, in the dtype that it is stored in: quality is paired with it"""
FORMATS = {found.name: found for found in (STORED, ORIGINAL)}
METHODS = {
    "awq": "AWQ",
    "bitsandbytes": "bitsandbytes",
    "compressed-tensors": "compressed-tensors",
    "fp8": "FP8",
    "fbgemm_fp8": "FBGEMM FP8",
    "gptq": "GPTQ",
    "hqq": "HQQ",
    "mxfp4": "MXFP4",
    "modelopt": "ModelOpt",
    "torchao": "torchao",
}
"""Names by `quant_method` in config.json"""
NEEDS_GPU = frozenset({"FP8", "FBGEMM FP8", "MXFP4"})
"""Elsewhere transformers would make bfloat16 of these, which is another format"""
