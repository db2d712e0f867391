"""How weights and products are represented: one table of formats, a file a family.

A format answers by its name for what the rest needs to know of it; nothing else names formats one by one.
"""

from __future__ import annotations

from collections.abc import Sequence

from bitdraft.formats import dtype, gguf, stored, torchao
from bitdraft.formats.base import Format

FORMATS: dict[str, Format] = {
    **dtype.FORMATS,
    **torchao.FORMATS,
    **stored.FORMATS,
    **gguf.FORMATS,
}
"""By name, in the order in which tables show them."""
NAMES = tuple(FORMATS)
USUAL = tuple(dtype.FORMATS)
"""Those that are compared where none is named: what every device and checkpoint has"""
_BY_LOWER = {name.lower(): name for name in NAMES}
UNKNOWN = Format(name="", title="", family="", torch_dtype="", bits=0, style_index=len(FORMATS))


def find(name: str) -> Format:
    """The format of this name; one that says nothing for a name from another version."""
    return FORMATS.get(name, UNKNOWN)


def listed() -> str:
    """What can be named, in a line; of llama.cpp's some."""
    some = ", ".join(name for name in gguf.FORMATS if name in gguf.WELL_KNOWN)
    return (
        f"{', '.join(USUAL)}; {', '.join(torchao.FORMATS)} (bitdraft[quant]); {some} and llama.cpp's others "
        f"(bitdraft[llama-cpp]); {stored.STORED.name} for a checkpoint that is quantised already"
    )


def canonical(text: str) -> str | None:
    """The name that is meant, in whatever case it is written; None where there is none."""
    return _BY_LOWER.get(text.strip().lower())


def default_reference(names: Sequence[str]) -> str:
    """What quality is compared with: of those that can be a reference the format that rounds least; the first
    where that is one of 16 bits. `ValueError` where none can be."""
    able = [name for name in names if find(name).can_be_reference]
    if not able:
        raise ValueError(f"none of {', '.join(names)} can be what quality is compared with")
    most = max(find(name).bits for name in able)
    return next(name for name in able if find(name).bits == most)


def by_worth(names: Sequence[str]) -> list[str]:
    """Those that are left out last, where time is short, first."""
    return sorted(names, key=lambda name: find(name).left_out_first)
