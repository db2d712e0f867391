"""How requests are decoded, sampled and drafted."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator

from bitdraft.config.base import Config, check_range, listed, numbers

Execution = Literal["auto", "eager", "static", "compiled"]

MOST_K, LARGEST_BATCH = 32, 64

NGRAM = "ngram"  # the draft that is prompt lookup


class DecodingConfig(Config):
    """How one request is decoded. Greedy; with `ignore_eos` the output length is fixed."""

    model_config = ConfigDict(title="Text and prompts")

    max_new_tokens: int = Field(200, ge=1, description="Tokens to generate per prompt.")
    ignore_eos: bool = Field(
        True, description="Generate past EOS, so that every text has the same length and speeds compare."
    )


class SamplingConfig(Config):
    """How a token is drawn: greedy at temperature 0, else from the tempered distribution cut to its
    `top_k` most probable tokens and to the smallest set that holds `top_p` of what is left."""

    model_config = ConfigDict(title="Sampling")

    temperature: float = Field(0.0, ge=0, allow_inf_nan=False, description="0: greedy; above: sampling.")
    top_k: int | None = Field(None, ge=1, description="Sample from the so many most probable tokens.")
    top_p: float | None = Field(
        None, gt=0, le=1, description="Sample from the most probable tokens that hold this share."
    )


class DraftsConfig(Config):
    """`drafts` are checkpoints (`NAME` or `LABEL=NAME`) or `ngram`; left out, for an embedded target, the
    embedded ones and `ngram`. `k` are the numbers of speculative tokens."""

    model_config = ConfigDict(title="Speculation")

    drafts: tuple[str, ...] | None = Field(
        None,
        description="A draft: demo/NAME, a folder, a hub id or ngram (prompt lookup), or LABEL=NAME. By "
        "default the embedded ones and ngram for an embedded target, else ngram.",
    )
    k: tuple[int, ...] = Field(tuple(range(3, 11)), description="Speculative tokens a step: 3-10, or 1,2,4.")

    @field_validator("drafts", mode="before")
    @classmethod
    def _several_drafts(cls, value: Any) -> Any:
        return listed(value)

    @field_validator("drafts")
    @classmethod
    def _some_draft(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and not value:
            raise ValueError("no draft is named")
        return value

    @field_validator("k", mode="before")
    @classmethod
    def _ranges(cls, value: Any) -> Any:
        return numbers(value, "K", MOST_K)

    @field_validator("k")
    @classmethod
    def _possible_k(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value:
            raise ValueError("no K is named")
        check_range(value, "K", MOST_K)
        return tuple(sorted(set(value)))
