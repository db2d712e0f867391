"""What a process does that measures servers under one load: it sends each block of prompts to one server
after the other, and tells what came back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import httpx

from bitdraft.config.serving import ServeBenchConfig
from bitdraft.errors import UserError
from bitdraft.runs.cell import Event
from bitdraft.runs.executors.base import Emit
from bitdraft.schema.serving import ServerRecord, ServerRequest
from bitdraft.servers.adapters import adapter_of
from bitdraft.servers.client import connect, fetch_text, pause, request_body, stream
from bitdraft.servers.counters import PATHS as COUNTERS
from bitdraft.servers.counters import counts_between, num_requests, read_samples, restarted
from bitdraft.servers.turns import turns
from bitdraft.serving.schedule import arrivals_s, blocks_of
from bitdraft.serving.workload import PATHS, settings_of

_SHORT_TOKENS = 8
_RETRY_S = 0.5


def measure(payload: dict[str, Any], emit: Emit) -> None:
    """One load. Emits the `servers` and why others are `lost`, a `request` for each request that is over and,
    at the end, `counters` of each server that has some."""
    with emit.slow():
        asyncio.run(_Load(payload, emit).measure())


class _Load:
    def __init__(self, payload: Mapping[str, Any], emit: Emit) -> None:
        self.config = ServeBenchConfig(**payload["config"])
        self.load: int = payload["load"]
        self.prompts: Sequence[Any] = payload["prompts"]
        self.clusters: Sequence[str] = payload["clusters"]
        self.lost: Mapping[str, str] = payload["lost"]
        self.earlier: Sequence[Event] = payload["done"]
        # one that was lost when the load began would not take turns with the others now
        was_lost = {event["server"] for event in self.earlier if event["event"] == "lost"}
        found = [ServerRecord(**one) for one in payload["servers"]]
        self.records = {one.name: one for one in found if one.name not in was_lost}
        start, stop = payload["indices"] or (0, len(self.prompts))
        self.start, self.num_prompts = start, stop - start
        self.emit = emit
        self.num_sent = dict.fromkeys(self.records, 0)
        self.known = {
            (event["request"]["server"], event["request"]["prompt"])
            for event in self.earlier
            if event["event"] == "request"
        }

    async def measure(self) -> None:
        config, urls = self.config, self.config.urls
        self._tell_servers()
        async with AsyncExitStack() as stack:
            clients = {
                name: await stack.enter_async_context(connect(name, urls[name], self.load, config.timeout_s))
                for name in self.records
            }
            for name, client in clients.items():
                for index in range(config.num_warmup):
                    await self._one(name, client, index % len(self.prompts), warm_up=True)
            before = {name: await self._counters(name, client) for name, client in clients.items()}
            total, done = self.num_prompts * len(clients), len(self.known)
            for number, block in enumerate(blocks_of(self.num_prompts, self.load, self.start)):
                for name in turns(list(clients), number):
                    left = [index for index in block if (name, index) not in self.known]
                    for request in await self._block(name, clients[name], left):
                        self.emit("request", request=request.model_dump(mode="json"))
                    done += len(left)
                    self.emit("progress", stage="requests", done=done, total=total)
            for name, client in clients.items():
                self._tell_counters(name, before[name], await self._counters(name, client))

    def _tell_servers(self) -> None:
        """Once. Raises `UserError` where an interrupted attempt asked another model or version."""
        before = [one for event in self.earlier if event["event"] == "servers" for one in event["servers"]]
        told = {one["name"]: ServerRecord(**one) for one in before}
        for name, record in self.records.items():
            if told.get(name, record) != record:
                problem = f"is {_shown(record)}, and was {_shown(told[name])} before the interrupt"
                raise UserError("servers", name, problem, "Measure all again with --fresh")
        if not before:
            self.emit("servers", servers=[one.model_dump(mode="json") for one in self.records.values()])
            for name, why in self.lost.items():
                self.emit("lost", server=name, load=self.load, reason=why)

    async def _block(
        self, name: str, client: httpx.AsyncClient, indices: Sequence[int]
    ) -> list[ServerRequest]:
        """Requests together: so many at a time, or each when its time has come."""
        if self.load == 0:
            assert self.config.rate is not None
            starts = arrivals_s(len(indices), self.config.rate, self.config.seed)
            return await asyncio.gather(
                *(self._one(name, client, index, start) for index, start in zip(indices, starts, strict=True))
            )
        waiting, found = list(reversed(indices)), []

        async def work() -> None:
            while waiting:
                found.append(await self._one(name, client, waiting.pop()))

        await asyncio.gather(*(work() for _ in range(min(self.load, len(indices)))))
        return sorted(found, key=lambda request: request.prompt)

    async def _one(
        self,
        name: str,
        client: httpx.AsyncClient,
        index: int,
        start_s: float = 0.0,
        *,
        warm_up: bool = False,
    ) -> ServerRequest:
        await pause(start_s)
        config, record = self.config, self.records[name]
        adapter = adapter_of(record.engine, record.version)
        most = min(_SHORT_TOKENS, config.max_new_tokens) if warm_up else config.max_new_tokens
        body = request_body(adapter, record.served_model, self.prompts[index], most, settings_of(config))
        tries = 0
        while True:
            answer = await stream(client, PATHS[config.api], body)
            tries += 1
            self.num_sent[name] += not warm_up
            if answer.error is None and (answer.completion_tokens or 0) > most:
                answer.error = f"the server counts {answer.completion_tokens} tokens, of {most} at most"
            if answer.error is None or warm_up or tries > config.retries:
                break
            await pause(_RETRY_S * tries)
        return ServerRequest(
            server=name,
            load=self.load,
            prompt=index,
            submit_s=answer.submit_s,
            event_s=tuple(answer.event_s),
            end_s=answer.end_s,
            prompt_tokens=answer.prompt_tokens,
            cached_tokens=answer.cached_tokens,
            completion_tokens=answer.completion_tokens,
            finish_reason=answer.finish_reason,
            text=answer.text,
            spec=None if answer.error is not None else adapter.read(answer.said),
            error=answer.error,
            num_tries=tries,
            cluster=self.clusters[index],
        )

    async def _counters(self, name: str, client: httpx.AsyncClient) -> dict[str, float]:
        text = await fetch_text(client, COUNTERS.get(self.records[name].engine, "/metrics"))
        return {} if text is None or text.lstrip().startswith(("{", "[")) else read_samples(text)

    def _tell_counters(self, name: str, before: dict[str, float], after: dict[str, float]) -> None:
        if not after:
            return
        counts = counts_between(before, after)
        self.emit(
            "counters",
            server=name,
            load=self.load,
            counts=None if counts is None else counts.model_dump(mode="json"),
            num_requests=num_requests(before, after),
            num_sent=self.num_sent[name],
            restarted=restarted(before, after),
        )


def _shown(server: ServerRecord) -> str:
    return f"{server.engine} {server.version or ''} with {server.served_model}".replace("  ", " ")
