"""Weights of linear layers as integers or short floats, by torchao or bitsandbytes: what is left stays
bfloat16.

`int8` and `int4` keep weights alone so and multiply in bfloat16; `int8-dynamic` and `fp8` make the
activations so, too, with a scale for each token. Embeddings are not among the linear layers; the output
layer is. `nf4` (bitsandbytes; Dettmers et al. 2023) takes one of sixteen quantiles of a normal distribution,
with a scale for 64 weights, and leaves the output layer as it is.
"""

from __future__ import annotations

from bitdraft.formats.base import Format

FAMILY = "torchao"
GROUP_SIZE = 32
"""Weights of int4 that share a scale"""


def _format(name: str, title: str, bits: float, style_index: int, package: str = "torchao") -> Format:
    return Format(
        name=name,
        title=title,
        family=FAMILY,
        torch_dtype="bfloat16",
        bits=bits,
        style_index=style_index,
        tie_lead=0.5,
        left_out_first=1,
        package=package,
        extra="quant",
    )


FORMATS = {
    found.name: found
    for found in (
        _format("int8", "INT8", 8.0, 3),
        _format("int8-dynamic", "INT8 dynamic", 8.0, 4),
        _format("int4", "INT4", 4.5, 5),
        _format("fp8", "FP8", 8.0, 6),
        _format("nf4", "NF4", 4.5, 7, "bitsandbytes"),
    )
}
