"""Which text, and how prompts are cut from it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field

from bitdraft.config.base import Config


class TextConfig(Config):
    """Which text, and how prompts are cut from it."""

    model_config = ConfigDict(title="Text and prompts")

    dataset: str = Field(
        "stdlib",
        description="wikitext, pg19, spec-bench, stdlib (offline), or file:PATH (a text, or prompts "
        "as .jsonl, .json, .csv, .tsv or .parquet; any of them as .gz).",
    )
    data_root: Path | None = Field(None, description="Folder with the datasets' files, in place of the hub.")
    num_prompts: int = Field(15, ge=1, description="Prompts to generate from.")
    min_text_chars: int = Field(200, ge=0, description="Only texts longer than this become prompts.")
    max_prompt_tokens: int = Field(1024, ge=1, description="Prompts are cut to this length.")
    sample: Literal["stratified", "first"] = Field(
        "stratified",
        description="stratified: a sample by the seed over articles, books or categories; first: the first "
        "texts.",
    )
    chat: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Whether prompts go through the tokenizer's chat template: on, off or auto "
        "(conversations do, where it has one).",
    )
    bos: Literal["auto", "off"] = Field(
        "auto", description="auto: what the tokenizer puts in front of a text stands there; off: nothing."
    )
