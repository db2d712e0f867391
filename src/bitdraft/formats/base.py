"""What every format answers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """`title` is how charts write it, `style_index` that of its colour, hatch and marker there. `torch_dtype`
    is the name of the dtype that products are computed in, and `bits` is a weight's. `tie_lead` is the lead
    of a logit, in logits, that two shapes of a forward can round away; `wider` the dtype that tells a
    rounding tie from a bug. Of formats that don't fit into a time limit, those with a larger `left_out_first`
    go first. Quality differences are paired only with one that `can_be_reference`.
    """

    name: str
    title: str
    family: str
    torch_dtype: str
    bits: int
    style_index: int
    tie_lead: float = 0.0
    wider: str = "float32"
    left_out_first: int = 0
    can_be_reference: bool = True

    def weight_bytes(self, num_weights: int) -> int:
        """Of so many weights in memory."""
        return num_weights * self.bits // 8

    @property
    def wider_name(self) -> str:
        """`fp32` or `fp64`, as results say it."""
        return f"fp{self.wider.removeprefix('float')}"
