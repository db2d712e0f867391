"""One streamed request over HTTP/1.1: when its pieces of text arrived, and what the server said beside them.

Times are the client's: a piece is stamped when the socket's bytes are in hand, before they are parsed. The
client's own cost is in docs/servers.md.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from bitdraft.errors import one_line
from bitdraft.servers.adapters import Adapter
from bitdraft.servers.events import EventStream
from bitdraft.servers.identify import headers_of

_DONE = b"[DONE]"
_LONGEST_ANSWER = 300
_BESIDE_TEXT = ("usage", "timings", "metrics", "meta_info", "stats", "sglext", "spec_verify_ct")


@dataclass
class Answer:
    """What a stream gave so far. `error` ends it; `is_over` where the server said so, `was_cut_off` where no
    answer had begun."""

    submit_s: float
    event_s: list[float] = field(default_factory=list)
    end_s: float = 0.0
    pieces: list[str] = field(default_factory=list)
    said: dict[str, Any] = field(default_factory=dict)
    finish_reason: str | None = None
    error: str | None = None
    is_over: bool = False
    was_cut_off: bool = False

    def take(self, data: bytes, time_s: float) -> None:
        """One event that arrived then."""
        if data == _DONE:
            self.is_over = True
            return
        found = json.loads(data)
        if not isinstance(found, dict):
            raise ValueError("an event that is no object")
        if found.get("error"):
            self.error = _message(found["error"])
            return
        for name in _BESIDE_TEXT:
            if found.get(name) is not None:
                self.said[name] = found[name]
        for choice in found.get("choices") or ():
            delta = choice.get("delta") or {}
            text = "".join(
                part
                for part in (choice.get("text"), delta.get("reasoning_content"), delta.get("content"))
                if isinstance(part, str)
            )
            if text:
                self.pieces.append(text)
                self.event_s.append(time_s)
            if choice.get("finish_reason"):
                self.finish_reason = str(choice["finish_reason"])

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self.pieces)

    @property
    def completion_tokens(self) -> int | None:
        """By the server's own count."""
        usage, timings = self.said.get("usage"), self.said.get("timings")
        for entry, name in ((usage, "completion_tokens"), (timings, "predicted_n")):
            if isinstance(entry, Mapping) and isinstance(entry.get(name), int):
                return int(entry[name])
        return None

    @property
    def prompt_tokens(self) -> int | None:
        """The same of the prompt."""
        usage = self.said.get("usage")
        found = usage.get("prompt_tokens") if isinstance(usage, Mapping) else None
        return found if isinstance(found, int) else None

    @property
    def cached_tokens(self) -> int | None:
        """Of the prompt's, those that the server had in its cache; None where it does not tell."""
        usage, timings = self.said.get("usage"), self.said.get("timings")
        details = usage.get("prompt_tokens_details") if isinstance(usage, Mapping) else None
        for entry, name in ((details, "cached_tokens"), (timings, "cache_n")):
            if isinstance(entry, Mapping) and isinstance(entry.get(name), int):
                return int(entry[name])
        return None


def _message(error: Any) -> str:
    found = error.get("message") if isinstance(error, Mapping) else error
    return " ".join(str(found).split())[:_LONGEST_ANSWER]


@asynccontextmanager
async def connect(name: str, url: str, at_once: int, timeout_s: float) -> AsyncIterator[httpx.AsyncClient]:
    """Connections that are kept, one for each request in flight. What lies between is not encoded: its pieces
    would come together."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=max(at_once, 1))
    headers = {**headers_of(name), "Accept-Encoding": "identity"}
    timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, 30.0), pool=None)
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=timeout, limits=limits) as client:
        yield client


async def stream(client: httpx.AsyncClient, path: str, body: Mapping[str, Any]) -> Answer:
    """The answer to one request; what goes wrong is its `error`, and what had arrived stays.

    A connection that was kept may have been closed by the server meanwhile, which shows when it is used: then
    the request, of which the server has seen nothing, is sent once more, by a new one."""
    content = json.dumps(body).encode()
    answer = await _stream(client, path, content)
    return await _stream(client, path, content) if answer.was_cut_off else answer


async def _stream(client: httpx.AsyncClient, path: str, content: bytes) -> Answer:
    answer = Answer(time.perf_counter())
    has_begun = False
    try:
        request = client.stream("POST", path, content=content, headers={"Content-Type": "application/json"})
        async with request as response:
            has_begun = True
            if response.status_code != httpx.codes.OK:
                answer.error = await _refusal(response)
            else:
                await _read(response, answer)
    except httpx.TimeoutException as error:
        answer.error = f"the server was silent for too long ({type(error).__name__})"
    except httpx.HTTPError as error:
        answer.was_cut_off = not has_begun and not isinstance(error, httpx.ConnectError)
        answer.error = f"the connection broke ({type(error).__name__}: {one_line(error)})"
    except (ValueError, TypeError, AttributeError) as error:
        answer.error = f"an event that is none ({one_line(error)})"
    answer.end_s = time.perf_counter()
    if answer.error is None and not answer.is_over and answer.finish_reason is None:
        answer.error = "the stream ended in its middle"
    if answer.error is None and not answer.event_s:
        answer.error = "no text came"
    if answer.error is None and not answer.completion_tokens:
        answer.error = "the server tells no number of tokens (usage)"
    return answer


async def _read(response: httpx.Response, answer: Answer) -> None:
    events = EventStream()
    async for piece in response.aiter_raw():
        time_s = time.perf_counter()
        for data in events.feed(piece):
            answer.take(data, time_s)
    time_s = time.perf_counter()
    for data in events.end():
        answer.take(data, time_s)


async def _refusal(response: httpx.Response) -> str:
    raw = await response.aread()
    try:
        found = json.loads(raw)
        said = _message(found.get("error", found) if isinstance(found, dict) else found)
    except ValueError:
        said = " ".join(raw.decode("utf-8", "replace").split())[:_LONGEST_ANSWER]
    return f"HTTP {response.status_code}: {said}" if said else f"HTTP {response.status_code}"


async def fetch_text(client: httpx.AsyncClient, path: str) -> str | None:
    """Of an address that a server may lack."""
    try:
        response = await client.get(path)
    except httpx.HTTPError:
        return None
    return response.text if response.status_code == httpx.codes.OK else None


def request_body(
    adapter: Adapter,
    model: str | None,
    prompt: str | list[int] | list[dict[str, str]],
    max_tokens: int,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """A streamed completion: a text or ids go on, messages are answered."""
    is_chat = isinstance(prompt, list) and bool(prompt) and isinstance(prompt[0], dict)
    given = {"messages": prompt} if is_chat else {"prompt": prompt}
    named = {} if model is None else {"model": model}
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    return {**named, **given, "max_tokens": max_tokens, **usage, **settings, **adapter.asks}


async def pause(seconds: float) -> None:
    """Not busy."""
    if seconds > 0:
        await asyncio.sleep(seconds)
