"""Where things lie on this machine is no part of what people share: paths become `path/to/NAME`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from bitdraft.config.base import Config

_R = TypeVar("_R", bound=BaseModel)
HIDDEN = "path/to/"


def places_of(config: Config, folder: Path | None) -> dict[str, str]:
    """Texts that name a place, and what stands for each, the longest first: models and texts that lie here,
    the run's folder, bitdraft's own, Python's, home."""
    asked = dict(config)
    listed = (*(asked.get("drafts") or ()), *(asked.get("gguf") or ()))
    files = [str(entry).rpartition("=")[2] for entry in listed]
    named = [
        asked.get("model"),
        asked.get("tokenizer"),
        asked.get("original"),
        *files,
        asked.get("data_root"),
        asked.get("launch"),
        asked.get("engine_program"),
        folder,
    ]
    named.append(str(asked.get("dataset") or "").removeprefix("file:"))
    found: dict[str, str] = {}
    for one in named:
        path = Path(str(one or "")).expanduser()
        if one and path.exists() and not str(one).startswith("demo/"):
            name = f"{HIDDEN}{path.resolve().name}"
            found |= {str(one): name, str(path): name, str(path.absolute()): name, str(path.resolve()): name}
    own = Path(__file__).resolve().parents[1]
    found |= {str(own): f"{HIDDEN}bitdraft", sys.prefix: f"{HIDDEN}python", str(Path.home()): "~"}
    return dict(sorted(found.items(), key=lambda pair: -len(pair[0])))


def without_places(record: _R, places: Mapping[str, str]) -> _R:
    """A record with every text of it cleared of these places."""
    changed = {}
    for name in type(record).model_fields:
        before = getattr(record, name)
        after = _cleared(before, places)
        if after is not before:
            changed[name] = after
    return record.model_copy(update=changed) if changed else record


def _cleared(value: Any, places: Mapping[str, str]) -> Any:
    """The value itself where nothing in it changes."""
    if isinstance(value, str):
        return _text(value, places)
    if isinstance(value, Path):
        text = _text(str(value), places)
        return value if text == str(value) else Path(text)
    if isinstance(value, BaseModel):
        return without_places(value, places)
    if isinstance(value, dict):
        made = {_cleared(key, places): _cleared(own, places) for key, own in value.items()}
        same = all(made.get(key) is own for key, own in value.items())
        return value if same else made
    if isinstance(value, tuple) and value and not isinstance(value[0], int | float) and type(value) is tuple:
        items = tuple(_cleared(own, places) for own in value)
        same = all(after is before for after, before in zip(items, value, strict=True))
        return value if same else items
    return value


def _text(text: str, places: Mapping[str, str]) -> str:
    if "/" not in text and "\\" not in text and text not in places:
        return text
    for place, name in places.items():
        if len(place) > 1 and place in text:
            text = name if text == place else _within(text, place, name)
    return text


def _within(text: str, place: str, name: str) -> str:
    """Only whole names: `models/a` is not within `models/ab`. A bare name is a word like any other."""
    if "/" not in place and "\\" not in place:
        return text.replace(f"file:{place}", f"file:{name}")
    parts = text.split(place)
    found = parts[0]
    for part in parts[1:]:
        ends = not part or not (part[0].isalnum() or part[0] in "_-.")
        begins = not found or not (found[-1].isalnum() or found[-1] in "_-./~")
        found += (name if ends and begins else place) + part
    return found
