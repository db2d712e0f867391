"""Weights in GGUF files, which llama.cpp runs: floating point, and blocks of integers with a scale.

Names are llama.cpp's own for mixtures of tensor types (`Q4_K_M`: most tensors Q4_K, some Q6_K); its floating
point has a prefix, because its products are not torch's. `bits` are nominal: how many a file really has for a
weight is the file's to say. `file_type` is `general.file_type` there (llama.h: `llama_ftype`). Those that
`need_importance` are made with an importance matrix, which is measured on a text.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bitdraft.formats.base import Format

FAMILY = "gguf"
LLAMA_CPP = "llama.cpp"
_FIRST_STYLE = 10

# name, file type, bits of a weight
_WITHOUT_IMPORTANCE = (
    ("gguf-f32", 0, 32.0),
    ("gguf-f16", 1, 16.0),
    ("gguf-bf16", 32, 16.0),
    ("Q8_0", 7, 8.5),
    ("Q6_K", 18, 6.56),
    ("Q5_K_M", 17, 5.69),
    ("Q5_K_S", 16, 5.54),
    ("Q5_1", 9, 6.0),
    ("Q5_0", 8, 5.5),
    ("Q4_K_M", 15, 4.85),
    ("Q4_K_S", 14, 4.58),
    ("Q4_1", 3, 5.0),
    ("Q4_0", 2, 4.5),
    ("IQ4_NL", 25, 4.5),
    ("IQ4_XS", 30, 4.25),
    ("MXFP4_MOE", 38, 4.25),
    ("Q3_K_L", 13, 4.27),
    ("Q3_K_M", 12, 3.91),
    ("Q3_K_S", 11, 3.5),
    ("IQ3_M", 27, 3.66),
    ("IQ3_S", 26, 3.44),
    ("IQ3_XS", 22, 3.3),
    ("Q2_K", 10, 2.96),
    ("TQ2_0", 37, 2.06),
    ("TQ1_0", 36, 1.69),
)
_WITH_IMPORTANCE = (
    ("IQ3_XXS", 23, 3.06),
    ("Q2_K_S", 21, 2.79),
    ("IQ2_M", 29, 2.7),
    ("IQ2_S", 28, 2.5),
    ("IQ2_XS", 20, 2.31),
    ("IQ2_XXS", 19, 2.06),
    ("IQ1_M", 31, 1.75),
    ("IQ1_S", 24, 1.56),
)
WELL_KNOWN = ("gguf-f32", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q2_K", "gguf-f16", "Q4_0")
# a file whose mixture has no name here
_OTHER = ("gguf", -1, 0.0)
_ALL = (*_WITHOUT_IMPORTANCE, *_WITH_IMPORTANCE, _OTHER)
# those that mostly stand side by side have colours of their own
_STYLES = [*dict.fromkeys((*WELL_KNOWN, *(name for name, _, _ in _ALL)))]


@dataclass(frozen=True)
class GgufFormat(Format):
    """See the module."""

    file_type: int = -1
    needs_importance: bool = False

    @property
    def is_float(self) -> bool:
        """Whether others can be made from it without rounding twice."""
        return self.name.startswith("gguf-")


def _format(name: str, file_type: int, bits: float) -> GgufFormat:
    is_float = name.startswith("gguf-")
    return GgufFormat(
        name=name,
        title=f"GGUF {name.removeprefix('gguf-').upper()}" if is_float else name,
        family=FAMILY,
        torch_dtype="",
        bits=bits,
        style_index=_FIRST_STYLE + _STYLES.index(name),
        tie_lead=0.05 if name == "gguf-f32" else 0.5,
        left_out_first=2,
        backend=LLAMA_CPP,
        package="llama_cpp",
        extra="llama-cpp",
        file_type=file_type,
        needs_importance=(name, file_type, bits) in _WITH_IMPORTANCE,
    )


FORMATS = {entry[0]: _format(*entry) for entry in _ALL}
WIDEST, OTHER = FORMATS["gguf-f32"], FORMATS["gguf"]
_BY_FILE_TYPE = {found.file_type: found for found in FORMATS.values()}


def of_file_type(number: int | None) -> GgufFormat:
    """The format of a file by its `general.file_type`."""
    return OTHER if number is None else _BY_FILE_TYPE.get(number, OTHER)


def of_dtype(torch_dtype: str) -> str:
    """The name of the format of files with the same numbers."""
    return {"float32": "gguf-f32", "float16": "gguf-f16", "bfloat16": "gguf-bf16"}[torch_dtype]


# by the number of a value's type, its bytes; texts and lists say how long they are
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_UNSIGNED, _TEXT, _LIST = 4, 8, 9
_LONGEST_NAME = 65535


def format_of_file(path: Path) -> GgufFormat | None:
    """What a file says it is (`general.file_type`); None where it can't be read so far. Its whole header is
    `inputs.gguf.header`'s to read."""
    try:
        with path.open("rb") as file:
            if file.read(4) != b"GGUF" or _number(file, 4) < 2:
                return None
            _, num_entries = _number(file, 8), _number(file, 8)
            for _ in range(num_entries):
                length = _number(file, 8)
                if length > _LONGEST_NAME:
                    return None
                name, kind = file.read(length), _number(file, 4)
                if name == b"general.file_type" and kind == _UNSIGNED:
                    return of_file_type(_number(file, 4))
                _skip(file, kind)
    except (OSError, EOFError, OverflowError, KeyError):
        pass
    return None


def _number(file: BinaryIO, num_bytes: int) -> int:
    found = file.read(num_bytes)
    if len(found) < num_bytes:
        raise EOFError
    return int.from_bytes(found, "little")


def _skip(file: BinaryIO, kind: int) -> None:
    """One value of this type."""
    if kind == _TEXT:
        file.seek(_number(file, 8), os.SEEK_CUR)
    elif kind == _LIST:
        of, length = _number(file, 4), _number(file, 8)
        if of == _TEXT:
            for _ in range(length):
                _skip(file, of)
        else:
            file.seek(length * _SIZES[of], os.SEEK_CUR)
    else:
        file.seek(_SIZES[kind], os.SEEK_CUR)
