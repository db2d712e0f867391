"""What every format answers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """`title` is how charts write it. `torch_dtype` is the name of the dtype that products are computed in,
    and `bits` that of a weight. `place` is its colour's among the charts'. `tie_lead` is the lead of a logit,
    in logits, that two shapes of a forward can round away; `wider` the dtype that tells a rounding tie from a
    bug. Of formats that don't fit into a time limit, those with a larger `left_out_first` go first.
    """

    name: str
    title: str
    family: str
    torch_dtype: str
    bits: int
    place: int
    tie_lead: float = 0.0
    wider: str = "float32"
    left_out_first: int = 0

    @property
    def wider_name(self) -> str:
        """`fp32` or `fp64`, as results say it."""
        return f"fp{self.wider.removeprefix('float')}"
