"""Which checkpoint is measured, and where."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from bitdraft import formats
from bitdraft.config.base import Config, listed, parts_of
from bitdraft.formats import kv_cache as kv_formats
from bitdraft.formats.gguf import FAMILY, OTHER, format_of_file

FlashAttention = Literal["auto", "on", "off"]

_MAY_BE_LEFT_OUT = ("precision", "precisions", "gguf", "pairs")


def is_gguf(name: str) -> bool:
    """Whether a model is a GGUF file by its name: `FILE.gguf`, `hub/repo/FILE.gguf`, `hub/repo:Q4_K_M`."""
    return name.lower().endswith(".gguf") or gguf_tag(name) is not None


def gguf_tag(name: str) -> str | None:
    """`Q4_K_M` of `hub/repo:Q4_K_M`."""
    found = re.fullmatch(r"[\w.-]+/[\w.-]+:([\w.-]+)", name)
    return found[1] if found else None


def gguf_format(name: str) -> str | None:
    """The format of a GGUF file: what a file that is here says itself, else what its name ends with, None
    where it says none: `Q4_K_M` of `a/model-q4_k_m.gguf`, `gguf-f16` of `model.F16.gguf`."""
    own = format_of_file(Path(name).expanduser())
    if own is not None:
        return own.name
    stem = re.sub(r"(-\d{5}-of-\d{5})?\.gguf$", "", name, flags=re.IGNORECASE)
    last = gguf_tag(name) or re.split(r"[-./\\]", stem)[-1]
    return next(
        (
            found
            for found in map(formats.canonical, (last, f"gguf-{last}"))
            if found is not None and formats.find(found).family == FAMILY
        ),
        None,
    )


class ModelConfig(Config):
    """Which checkpoint, and what may be executed to load it; with `random_weights`, which shape. `seed`
    is that of all chance in a run: of the sample of prompts, of random weights and of sampling."""

    model_config = ConfigDict(title="Model and device")

    model: str = Field(
        "demo/target",
        description="demo/NAME (see: bitdraft models), a checkpoint folder, or a hub id; with random "
        "weights, a shape.",
    )
    revision: str | None = Field(None, description="Hub revision of the model.")
    allow_pickle: bool = Field(False, description="Also load pickle weights, which can run code.")
    trust_remote_code: bool = Field(False, description="Run Python code that the checkpoint brings.")
    random_weights: bool = Field(
        False,
        description="Measure speed without a checkpoint: every model is a shape (pythia-70m, -160m, -410m, "
        "-1.4b, -2.8b, or a folder with a config.json) with weights drawn from the seed.",
    )
    seed: int = Field(0, ge=0, description="Of the sample of prompts, of random weights and of sampling.")
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="auto, cpu, cuda, cuda:N or mps.",
    )
    tokenizer: str | None = Field(
        None,
        description="Folder or hub id whose tokenizer is taken in place of the model's own: for a GGUF file.",
    )
    gguf: tuple[str, ...] = Field(
        (),
        description="A GGUF file of the model: FORMAT=FILE, or FILE where its name says the format "
        "(model-Q4_K_M.gguf).",
    )
    kv_cache: str = Field(
        kv_formats.AUTO,
        description=f"Numbers of llama.cpp's key-value cache: {', '.join(kv_formats.FORMATS)}. auto: "
        f"{kv_formats.DEFAULT}, as llama.cpp has them.",
    )
    flash_attention: FlashAttention = Field("auto", description="llama.cpp's flash attention.")
    threads: int | None = Field(
        None, ge=1, le=1024, description="Threads on a CPU. By default one a usable core."
    )

    @model_validator(mode="before")
    @classmethod
    def _formats_of_files(cls, values: Any) -> Any:
        """A GGUF file is measured in its own format where no other is asked for, and files that are named for
        formats are among what is measured."""
        if not isinstance(values, dict):
            return values
        found = {
            name: value for name, value in values.items() if value is not None or name not in _MAY_BE_LEFT_OUT
        }
        model, files = found.get("model"), found.get("gguf") or ()
        if isinstance(model, str) and is_gguf(model):
            left = {"precision", "precisions"} & (cls.model_fields.keys() - found.keys())
            own = (gguf_format(model) or OTHER.name) if left else ""
            found |= {name: own if name == "precision" else (own,) for name in left}
        if files and "precisions" in cls.model_fields:
            asked = parts_of(found.get("precisions", cls.model_fields["precisions"].default))
            named_files = listed(files)
            if isinstance(asked, list | tuple) and isinstance(named_files, list | tuple):
                known = {formats.canonical(str(name)) for name in asked}
                named = dict.fromkeys(_format_of(str(file)) for file in named_files)
                found["precisions"] = (*asked, *(name for name in named if name and name not in known))
        return found

    @field_validator("kv_cache")
    @classmethod
    def _known_numbers(cls, value: str) -> str:
        return known_kv_cache(value)

    @field_validator("gguf", mode="before")
    @classmethod
    def _several_files(cls, value: Any) -> Any:
        return listed(value)

    @field_validator("gguf")
    @classmethod
    def _named_files(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        found = [_format_and_file(entry) for entry in value]
        names = [name for name, _ in found]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two files are named for {name}")
        return tuple("=".join(entry) for entry in found)

    def gguf_file(self, precision: str) -> str | None:
        """The file that was named for a format."""
        files = dict(entry.split("=", 1) for entry in self.gguf)
        return files.get(precision)

    @property
    def gguf_formats(self) -> tuple[str, ...]:
        """Those that files were named for."""
        return tuple(entry.split("=", 1)[0] for entry in self.gguf)


def known_kv_cache(name: str) -> str:
    """In llama.cpp's own writing: `fp16` is `f16` there. Raises `ValueError`."""
    found = name.lower().replace("fp", "f")
    if found != kv_formats.AUTO and found not in kv_formats.FORMATS:
        raise ValueError("no such numbers of a cache")
    return found


def _format_of(entry: str) -> str | None:
    """Of a named file, None where it is no format."""
    try:
        return _format_and_file(entry)[0]
    except ValueError:
        return None


def _format_and_file(entry: str) -> tuple[str, str]:
    """Of `FORMAT=FILE`, or of a file whose name says its format."""
    name, equals, file = entry.partition("=")
    own = formats.canonical(name) if equals else None
    if own is not None:
        if not file.strip():
            raise ValueError(f"no file is named for {own}")
        if formats.find(own).family != FAMILY:
            raise ValueError(f"{own} is no format of GGUF files")
        return own, file
    found = gguf_format(entry)
    if found is None:
        raise ValueError(f"{entry} says no format: name it as FORMAT=FILE")
    return found, entry
