"""Running servers: which, what is sent to them, and under which load."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, field_validator, model_validator

from bitdraft import formats
from bitdraft.config.base import Config, check_range, listed, numbers, parts_of
from bitdraft.config.decoding import MOST_K, DecodingConfig, SamplingConfig
from bitdraft.config.text import TextConfig

BASELINE, SERVER = "baseline", "server"
"""What the two are called unless they are named"""
MOST_AT_ONCE = 4096

Api = Literal["completions", "chat"]


class LoadConfig(Config):
    """How requests come: so many at a time (a closed loop), or at a rate (an open one, whose gaps are
    exponential: Poisson arrivals by the seed)."""

    model_config = ConfigDict(title="Load and limits")

    concurrency: tuple[int, ...] = Field((1,), description="Requests in flight: 4, or 1,4,16.")
    rate: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Requests a second, at random (Poisson), in place of --concurrency.",
    )
    max_ttft_ms: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Goodput: the longest time to the first token, ms."
    )
    max_tpot_ms: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Goodput: the longest time per output token, ms."
    )

    @field_validator("concurrency", mode="before")
    @classmethod
    def _ranges(cls, value: Any) -> Any:
        return numbers(value, "concurrency", MOST_AT_ONCE)

    @field_validator("concurrency")
    @classmethod
    def _possible(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value:
            raise ValueError("no concurrency is named")
        check_range(value, "concurrency", MOST_AT_ONCE)
        return tuple(sorted(set(value)))


class ServersConfig(DecodingConfig, TextConfig, SamplingConfig):
    """Which servers, and what they are sent. `servers` are NAME=URL, the one that the others are compared
    with first; those of `launch` come before them."""

    model_config = ConfigDict(title="Servers")

    servers: tuple[str, ...] = Field((), description="NAME=URL of each server, the baseline's first.")
    launch: Path | None = Field(
        None,
        description="A TOML file of servers that are started and ended here, the baseline's first "
        "(docs/servers.md).",
    )
    api: Api = Field("completions", description="Of OpenAI's: completions (a text goes on) or chat.")
    served_model: str | None = Field(
        None, description="The model's name in requests. By default the first that a server lists."
    )
    tokenizer: str | None = Field(
        None,
        description="Folder or hub id of the model's tokenizer: prompts are then cut by tokens and sent as "
        "ids. Without it they are cut at four characters a token.",
    )
    timeout_s: float = Field(
        300.0, gt=0, allow_inf_nan=False, description="The longest silence of a server, seconds."
    )
    retries: int = Field(0, ge=0, le=10, description="Further tries of a request that failed.")
    seed: int = Field(0, ge=0, description="Of the sample of prompts, of arrivals and of sampling.")

    _listed = field_validator("servers", mode="before")(listed)

    @field_validator("servers")
    @classmethod
    def _named_urls(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        names = [entry.partition("=")[0].strip() for entry in value]
        for entry, name in zip(value, names, strict=True):
            url = entry.partition("=")[2].strip()
            parts = urlsplit(url)
            if not name or parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"{entry} is no NAME=http://HOST:PORT")
            if parts.username or parts.password or parts.query:
                raise ValueError(f"{name}: the URL holds what may be secret")
            if names.count(name) > 1:
                raise ValueError(f"two servers are called {name}")
        return value

    @model_validator(mode="after")
    def _has_servers(self) -> Self:
        if not self.servers and self.launch is None:
            raise ValueError("no server is named")
        return self

    @property
    def urls(self) -> dict[str, str]:
        """By name, without a slash at the end; `/v1` is taken off."""
        pairs = (entry.split("=", 1) for entry in self.servers)
        return {name.strip(): url.strip().rstrip("/").removesuffix("/v1") for name, url in pairs}

    @property
    def baseline(self) -> str:
        """What the others are compared with."""
        return next(iter(self.urls))


class ServeBenchConfig(ServersConfig, LoadConfig):
    """One run of `serve-bench`."""

    model_config = ConfigDict(title="Servers")

    speculative_tokens: tuple[str, ...] = Field(
        (), description="K of a server that doesn't tell it: K of all, or NAME=K."
    )
    num_warmup: int = Field(1, ge=0, description="Unmeasured requests to each server before the others.")
    one_at_a_time: bool = Field(
        False,
        description="With --launch, where a device has room for one server alone: each runs twice, in turn "
        "(A B B A), with half of the prompts each time.",
    )

    @field_validator("speculative_tokens", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return () if value is None else parts_of(value)

    @model_validator(mode="after")
    def _known_names(self) -> Self:
        for entry in self.speculative_tokens:
            name, equals, k = entry.rpartition("=")
            is_known = not equals or self.launch is not None or name in self.urls
            if not k.isdigit() or not 1 <= int(k) <= MOST_K or not is_known:
                raise ValueError(f"speculative_tokens: {entry} is no K from 1 to {MOST_K}, or of no server")
        if self.one_at_a_time and self.launch is None:
            raise ValueError("one_at_a_time is of servers that are started here (launch)")
        return self

    def k_of(self, name: str) -> int | None:
        """What was said of a server; None where nothing was."""
        parts = [entry.rpartition("=") for entry in self.speculative_tokens]
        found = {own: int(k) for own, _, k in parts}
        plain = None if name == self.baseline and len(self.urls) > 1 else found.get("")
        return found.get(name, plain)

    @property
    def loads(self) -> tuple[int, ...]:
        """Requests in flight, one run each; 0 stands for those that come at a rate."""
        return (0,) if self.rate is not None else self.concurrency


class CertifyConfig(ServersConfig):
    """One run of `certify`: two servers, the plain one first."""

    model_config = ConfigDict(title="Certificate")

    server_precision: str = Field(
        formats.USUAL[-1],
        description="Format of the servers' weights: how far rounding sets two tokens apart depends on it.",
    )
    noise_concurrency: int = Field(
        4, ge=1, le=256, description="At which the plain server is held against itself, too."
    )
    num_draws: int = Field(
        200, ge=20, le=100_000, description="With --temperature, answers to each prompt from each server."
    )
    draw_tokens: int = Field(3, ge=2, le=16, description="With --temperature, tokens of such an answer.")

    @field_validator("server_precision")
    @classmethod
    def _known(cls, value: str) -> str:
        found = formats.canonical(value)
        if found is None:
            raise ValueError("no such precision")
        return found

    @field_validator("servers")
    @classmethod
    def _two(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value and len(value) != 2:
            raise ValueError("a certificate is of two servers")
        return value
