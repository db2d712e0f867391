"""Arrays as text that JSON takes: base64 of their bytes, little-endian."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray


def pack(values: NDArray[Any]) -> str:
    """The bytes alone: shape and dtype are the reader's to know."""
    little = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"))
    return base64.b64encode(little.tobytes()).decode()


def unpack(text: str, dtype: str) -> NDArray[Any]:
    """What `pack` was given, as one row of this dtype (`<f4`, `<i4`)."""
    return np.frombuffer(base64.b64decode(text), dtype=dtype)
