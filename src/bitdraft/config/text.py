"""Which text, and how prompts are cut from it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from bitdraft.config.base import Config


class TextConfig(Config):
    """Which text, and how prompts are cut from it: a seeded sample over articles, books or categories, or the
    `first` of the text; through the tokenizer's `chat` template or not; behind what the tokenizer puts in
    front of a text (`bos`) or not."""

    dataset: str = "stdlib"
    data_root: Path | None = None
    num_prompts: int = Field(15, ge=1)
    min_text_chars: int = Field(200, ge=0)
    max_prompt_tokens: int = Field(1024, ge=1)
    sample: Literal["stratified", "first"] = "stratified"
    chat: Literal["auto", "on", "off"] = "auto"
    bos: Literal["auto", "off"] = "auto"
