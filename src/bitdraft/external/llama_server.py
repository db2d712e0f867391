"""llama.cpp's server for one (draft, K): its own interface, which takes ids and gives them back, and tells
with every token how many were drafted and kept so far, from which steps follow exactly."""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from time import perf_counter
from typing import Any, Literal

import httpx

from bitdraft.errors import one_line
from bitdraft.external.base import EngineDied, EngineSetup, peak_of_tree
from bitdraft.external.steps import counts_of_totals, emissions_of, steps_of_counts
from bitdraft.formats import kv_cache
from bitdraft.schema.records import Generation
from bitdraft.servers.events import EventStream
from bitdraft.servers.launch import Declaration, Launched, NotStarted, launched

OWN_ARGUMENTS = (
    *("--port", "--host", "-m", "--model", "-md", "--model-draft", "--spec-draft-model", "-np"),
    *("--parallel", "--spec-type", "--spec-draft-n-max", "--spec-draft-n-min", "--draft", "--draft-max"),
)
"""Without these, as `command_of` sets them, a sweep would not measure what it says"""
_ALL_LAYERS = 999
_LAST_BREATH_S = 2.0
_SEEDS = 2**32 - 1  # the last one stands for chance


@contextmanager
def llama_server(setup: EngineSetup) -> Iterator[LlamaServer]:
    """Started, and ended with the block. Raises `EngineDied`."""
    declaration = Declaration(setup.name, command_of(setup), ready="/health")
    try:
        with launched(declaration, setup.folder) as server:
            yield LlamaServer(setup, server)
    except NotStarted as error:
        raise EngineDied(f"llama-server {error}") from error


def command_of(setup: EngineSetup) -> list[str]:
    """One request at a time, nothing kept from one to the next, exactly K tokens drafted."""
    config, device = setup.config, setup.config.device
    words: list[object] = [setup.program, "-m", setup.target, "--host", "127.0.0.1", "--port", "{port}"]
    words += ["--parallel", 1, "-c", setup.context, "--cache-ram", 0]
    words += [] if config.threads is None else ["-t", config.threads]
    words += ["-ngl", _ALL_LAYERS if device.startswith("cuda") else 0]
    if config.flash_attention != "auto":
        words += ["-fa", config.flash_attention]
    if config.kv_cache != kv_cache.AUTO:
        words += ["-ctk", config.kv_cache, "-ctv", config.kv_cache]
    if setup.draft is not None:
        words += ["-md", setup.draft, "--spec-type", "draft-simple", "--spec-draft-n-max", setup.k]
        words += ["--spec-draft-n-min", 0, "--spec-draft-p-min", 0]
        words += ["-ngld", _ALL_LAYERS if device.startswith("cuda") else 0]
    return [*map(str, words), *shlex.split(config.engine_args)]


class LlamaServer:
    """See `EngineProcess`."""

    def __init__(self, setup: EngineSetup, server: Launched) -> None:
        self._setup, self._server = setup, server
        # a connection each: one that was kept may be closed just when it is used again
        unkept = httpx.Limits(max_keepalive_connections=0)
        self._client = httpx.Client(base_url=server.url, timeout=None, limits=unkept)
        found = self._client.get("/props")
        self.version = str(found.json().get("build_info", "")) if found.status_code == httpx.codes.OK else ""

    def awake(self) -> AbstractContextManager[None]:
        """It sleeps by itself."""
        return nullcontext()

    def generate(self, prompt: Sequence[int], max_new_tokens: int, seed: int) -> Generation:
        """See `EngineProcess`."""
        asked = self._asked(prompt, max_new_tokens) | {"seed": seed % _SEEDS}
        asked |= {"stream": True, "return_tokens": True, "timings_per_token": True}
        content = json.dumps(asked).encode()
        answer = _Stream()
        submit_s = perf_counter()
        try:
            with self._client.stream("POST", "/completion", content=content) as response:
                if response.status_code != httpx.codes.OK:
                    response.read()
                    raise EngineDied(f"llama-server answers {response.status_code}: {response.text[:300]}")
                events = EventStream()
                for piece in response.iter_raw():
                    time_s = perf_counter()
                    for data in events.feed(piece):
                        answer.take(json.loads(data), time_s)
        except httpx.HTTPError as error:
            raise self._broken_off(error) from error
        return answer.generation(len(prompt), submit_s, self._setup.k, max_new_tokens)

    def next_log_probs(self, text: Sequence[int], num: int) -> dict[int, float]:
        """See `EngineProcess`."""
        asked = self._asked(text, 1) | {"n_probs": num, "temperature": 0.0}
        try:
            found = self._client.post("/completion", json=asked).raise_for_status().json()
        except httpx.HTTPError as error:
            raise self._broken_off(error) from error
        first = found["completion_probabilities"][0]
        return {int(one["id"]): float(one["logprob"]) for one in first["top_logprobs"]}

    def peak_bytes(self) -> int | None:
        """See `EngineProcess`."""
        return peak_of_tree(self._server.process.pid)

    def _broken_off(self, error: httpx.HTTPError) -> EngineDied:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._server.process.wait(_LAST_BREATH_S)
        why = self._server.last_words if self._server.has_died else one_line(error)
        return EngineDied(f"llama-server broke off ({why})")

    def _asked(self, prompt: Sequence[int], num_tokens: int) -> dict[str, Any]:
        """Of its samplers only those that were asked for."""
        config = self._setup.config
        return {
            "prompt": list(prompt),
            "n_predict": num_tokens,
            "cache_prompt": False,
            "ignore_eos": config.ignore_eos,
            "temperature": config.temperature,
            "top_k": config.top_k or 0,
            "top_p": 1.0 if config.top_p is None else config.top_p,
            "min_p": 0.0,
        }


class _Stream:
    """What a streamed answer gave so far."""

    def __init__(self) -> None:
        self.token_ids: list[int] = []
        self.totals: list[tuple[int, int]] = []
        self.token_s: list[float] = []
        self.ended: Literal["length", "eos"] = "length"

    def take(self, event: Mapping[str, Any], time_s: float) -> None:
        """One event that arrived then."""
        if event.get("error"):
            raise EngineDied(f"llama-server: {event['error'].get('message', event['error'])}")
        timings = event.get("timings") or {}
        total = int(timings.get("draft_n") or 0), int(timings.get("draft_n_accepted") or 0)
        tokens = event.get("tokens") or []
        for token in tokens:
            self.token_ids.append(int(token))
            self.totals.append(total)
            self.token_s.append(time_s)
        if event.get("stop_type") == "eos":
            self.ended = "eos"

    def generation(self, prompt_tokens: int, submit_s: float, k: int, limit: int) -> Generation:
        """As a record. Raises `EngineDied` for an answer without text, or without times."""
        if not self.token_ids:
            raise EngineDied("llama-server gave no token")
        if len(self.token_s) > 1 and self.token_s[0] == self.token_s[-1]:
            raise EngineDied("the answer came in one piece, which tells no time between tokens")
        counts = counts_of_totals(self.totals) if k else ()
        steps = tuple(steps_of_counts(counts, len(self.token_ids), k, limit)) if k else ()
        return Generation(
            prompt_tokens=prompt_tokens,
            submit_s=submit_s,
            emissions=emissions_of(self.token_s, steps),
            steps=steps,
            token_ids=tuple(self.token_ids),
            finish_reason=self.ended,
        )
