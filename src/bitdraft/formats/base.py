"""What every format answers."""

from __future__ import annotations

from dataclasses import dataclass

TORCH = "torch"


@dataclass(frozen=True)
class Format:
    """`title` is how charts write it, `style_index` that of its colour, hatch and marker there. `backend` is
    what computes with it. `torch_dtype` is the name of the dtype that products are computed in, empty where
    that isn't torch's, and `bits` is a weight's. `tie_lead` is the lead of a logit, in logits, that two
    shapes of a forward can round away; `wider` the dtype that tells a rounding tie from a bug. Of formats
    that don't fit into a time limit, those with a larger `left_out_first` go first. Quality differences are
    paired only with one that `can_be_reference`. Some need a `package`, which an `extra` of bitdraft's
    installs.
    """

    name: str
    title: str
    family: str
    torch_dtype: str
    bits: float
    style_index: int
    tie_lead: float = 0.0
    wider: str = "float32"
    left_out_first: int = 0
    can_be_reference: bool = True
    backend: str = TORCH
    package: str = ""
    extra: str = ""

    def weight_bytes(self, num_weights: int) -> int:
        """Of so many weights in memory."""
        return int(num_weights * self.bits // 8)

    @property
    def wider_name(self) -> str:
        """`fp32` or `fp64`, as results say it."""
        return f"fp{self.wider.removeprefix('float')}"
