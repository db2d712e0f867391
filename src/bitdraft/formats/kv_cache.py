"""Numbers of llama.cpp's key-value cache, by its own names: their type there (ggml.h: `ggml_type`), and the
bytes that 32 of them take."""

from __future__ import annotations

from typing import NamedTuple


class KvFormat(NamedTuple):
    """See the module."""

    ggml_type: int
    bytes_of_32: int


FORMATS = {
    "f32": KvFormat(0, 128),
    "f16": KvFormat(1, 64),
    "bf16": KvFormat(30, 64),
    "q8_0": KvFormat(8, 34),
    "q5_1": KvFormat(7, 24),
    "q5_0": KvFormat(6, 22),
    "q4_1": KvFormat(3, 20),
    "q4_0": KvFormat(2, 18),
    "iq4_nl": KvFormat(20, 18),
}
AUTO, DEFAULT = "auto", "f16"
"""What llama.cpp takes where nothing is said"""
WIDEST = "f32"
QUANTISED = frozenset(name for name, own in FORMATS.items() if own.bytes_of_32 < 64)
"""Which llama.cpp reads by flash attention alone"""


def find(name: str) -> KvFormat:
    """Of one of these names, or of `auto`."""
    return FORMATS[DEFAULT if name == AUTO else name]
