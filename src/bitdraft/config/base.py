"""What all configurations share, and how lists of numbers are read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Settings that belong together. Every one has a `description`, and every class a `title`: what `--help`,
    `help()` and the documentation say of them."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


def parts_of(value: Any) -> Any:
    """Text as the parts between its commas; anything else as it is."""
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


def listed(value: Any) -> Any:
    """A single text as one of several; anything else as it is."""
    return (value,) if isinstance(value, str) else value


def share(value: Any) -> Any:
    """`0.5%` as 0.005; anything else as it is."""
    if not isinstance(value, str) or not value.strip().endswith("%"):
        return value
    try:
        return float(value.strip().removesuffix("%")) / 100
    except ValueError:
        raise ValueError("no share") from None


def seconds(value: Any) -> Any:
    """`90s`, `10m` and `1h` as seconds; anything else as it is."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", value)
    if found is None:
        raise ValueError("no time")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2] or "s"]


def check_range(values: Sequence[int], what: str, most: int) -> None:
    for value in values:
        if not 1 <= value <= most:
            raise ValueError(f"{what} = {value} is outside 1 to {most}")


def numbers(value: Any, what: str, most: int) -> Any:
    """Text and a single number as the numbers that are meant; anything else as it is."""
    if isinstance(value, str):
        return _parse_numbers(value, what, most)
    return (value,) if isinstance(value, int) else value


def _parse_numbers(text: str, what: str, most: int) -> tuple[int, ...]:
    """`3-10`, `1,2,4` or a mixture."""
    found: list[int] = []
    for part in text.split(","):
        ends = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if ends is None:
            raise ValueError(f"{part.strip()!r} is neither a number nor a range")
        first, last = int(ends[1]), int(ends[2] or ends[1])
        if last < first:
            raise ValueError(f"the range {first}-{last} is reversed")
        # before a long range is written out
        check_range([last], what, most)
        found.extend(range(first, last + 1))
    return tuple(found)
