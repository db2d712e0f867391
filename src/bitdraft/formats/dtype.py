"""One table: the precisions by name, and what each means for loading."""

from __future__ import annotations

import torch

from bitdraft.config import Precision

DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
