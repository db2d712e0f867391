"""Does a server that speculates give what the plain one gives?

Greedy: the texts are compared. Where one leaves the other, the plain server is asked how probable its own
token and the other's are there, and held against itself, by repetition and with others in flight. Sampling:
answers of a few tokens are drawn from both, many times, and their distributions compared by permutation.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx

from bitdraft import formats
from bitdraft.config import make_config
from bitdraft.config.serving import CertifyConfig
from bitdraft.errors import UserError
from bitdraft.schema.environment import ModelRecord
from bitdraft.schema.findings import Finding, answer, reason, warning
from bitdraft.schema.serving import Certificate, ServerRecord, TextDivergence
from bitdraft.servers.adapters import adapter_of
from bitdraft.servers.client import Answer, connect, request_body, stream
from bitdraft.serving.declared import read_declarations
from bitdraft.serving.differences import Likely, compare_draws, judge, tokens_of
from bitdraft.serving.kept import Kept, Said, kept
from bitdraft.serving.started import started
from bitdraft.serving.workload import PATHS, UNNAMED, Workload, ask, prepare, settings_of, without_folders
from bitdraft.stats.selection import holm

Progress = Callable[[str, int, int], None]
"""(what, done, total)"""

NUM_PROBABLE = 20
LEVEL = 0.01
DRAWS_AT_ONCE = 8


def certify(
    config: CertifyConfig, folder: Path | None = None, on_progress: Progress | None = None
) -> Certificate:
    """Raises `UserError` for servers that don't answer, or that answer nothing to the end. Where there is a
    folder, an interrupted certificate goes on."""
    report = on_progress or (lambda *_: None)
    declared = [] if config.launch is None else read_declarations(config.launch)
    num = len(declared) + len(config.servers)
    if declared and num != 2:
        problem = f"{num} servers are named, and a certificate is of two"
        raise UserError("launch", config.launch, problem, "Leave two: the plain one first")
    with started(declared, config.servers, None, lambda name, waited_s: report(name, 0, 1)) as group:
        for name, why in group.lost.items():
            raise UserError("launch", name, why, "Mend its command")
        # all settings but where the servers are
        found = make_config(CertifyConfig, dict(config) | {"launch": None, "servers": group.servers})
        servers = [ask(name, url, found) for name, url in found.urls.items()]
        workload = prepare(found)
        about = [config.model_dump(mode="json"), {one.name: one.command for one in declared}, workload.sent]
        with kept(folder, [*about, [one.model_dump(mode="json") for one in servers]]) as answers:
            certificate = asyncio.run(_Certifying(found, workload, servers, answers, report).run())
        died = [warning("serving.died", name, why=why) for name, why in group.died.items()]
        return certificate.model_copy(update={"findings": (*certificate.findings, *died)})


class _Certifying:
    def __init__(
        self,
        config: CertifyConfig,
        workload: Workload,
        servers: Sequence[ServerRecord],
        answers: Kept,
        report: Progress,
    ) -> None:
        self.config, self.answers, self.report = config, answers, report
        self.servers = {one.name: one for one in servers}
        self.workload = workload
        self.prompts: Sequence[Any] = workload.sent[1]
        self.plain, self.other = config.urls

    async def run(self) -> Certificate:
        config = self.config
        async with AsyncExitStack() as stack:
            self.clients: dict[str, httpx.AsyncClient] = {}
            for name, url in config.urls.items():
                opened = connect(name, url, config.noise_concurrency, config.timeout_s)
                self.clients[name] = await stack.enter_async_context(opened)
            found = await (self._draw() if config.temperature > 0 else self._compare())
        servers = tuple(map(without_folders, self.servers.values()))
        return found.model_copy(
            update={
                "servers": servers,
                "model": ModelRecord(name=servers[0].served_model or UNNAMED),
                "text": self.workload.text,
            }
        )

    async def _ask(
        self, name: str, index: int, max_tokens: int | None = None, seed: int | None = None
    ) -> Answer:
        config, record = self.config, self.servers[name]
        settings = settings_of(config) | ({} if seed is None else {"seed": seed})
        body = request_body(
            adapter_of(record.engine, record.version),
            record.served_model,
            self.prompts[index],
            max_tokens or config.max_new_tokens,
            settings,
        )
        return await stream(self.clients[name], PATHS[config.api], body)

    async def _all(self, name: str, at_once: int, what: str) -> list[Said]:
        """Each prompt's answer, so many in flight."""
        slots, done = asyncio.Semaphore(at_once), 0
        self.report(what, done, len(self.prompts))

        async def one(index: int) -> Said:
            nonlocal done
            async with slots:
                found = await self.answers.once((what, name, index, 0), lambda: self._ask(name, index))
            done += 1
            self.report(what, done, len(self.prompts))
            return found

        return list(await asyncio.gather(*(one(index) for index in range(len(self.prompts)))))

    async def _compare(self) -> Certificate:
        """Greedy texts."""
        config = self.config
        plain = await self._all(self.plain, 1, f"{self.plain}: answers")
        other = await self._all(self.other, 1, f"{self.other}: answers")
        failed = [a.error or b.error or "" for a, b in zip(plain, other, strict=True) if a.error or b.error]
        if len(failed) == len(plain):
            problem = f"no prompt was answered by both ({failed[0]})"
            raise UserError("servers", self.other, problem, "Look into the servers' logs")
        apart = [
            index
            for index, (a, b) in enumerate(zip(plain, other, strict=True))
            if not a.error and not b.error and a.text != b.text
        ]
        again: list[list[Said]] = []
        if apart:
            again.append(await self._all(self.plain, 1, f"{self.plain}: once more"))
            again.append(
                await self._all(self.plain, config.noise_concurrency, f"{self.plain}: several at once")
            )
        divergences = []
        tie_lead = formats.find(config.server_precision).tie_lead
        for done, index in enumerate(apart):
            self.report("explaining differences", done, len(apart))
            own = [answers[index].text for answers in again if answers[index].error is None]
            likely = await self._likely(index)
            divergences.append(
                judge((plain[index].text, other[index].text), own, likely, tie_lead, prompt=index)
            )
        num_same = len(plain) - len(failed) - len(apart)
        unexplained = [one for one in divergences if one.kind == "unexplained"]
        return Certificate(
            config=config,
            num_prompts=len(plain),
            num_same=num_same,
            num_failed=len(failed),
            divergences=tuple(divergences),
            # of prompts without an answer nothing is known
            is_lossless=not unexplained and not failed,
            findings=tuple(_findings(self.other, divergences, len(plain), num_same, failed)),
        )

    async def _likely(self, index: int) -> list[Likely]:
        """The plain server's answer to a prompt, token by token; [] where it tells no probabilities."""
        record = self.servers[self.plain]
        is_chat = self.config.api == "chat"
        told = {"logprobs": True, "top_logprobs": NUM_PROBABLE} if is_chat else {"logprobs": NUM_PROBABLE}
        body = request_body(
            adapter_of(record.engine, record.version),
            record.served_model,
            self.prompts[index],
            self.config.max_new_tokens,
            {**settings_of(self.config), **told},
        )
        body = {key: value for key, value in body.items() if key not in ("stream", "stream_options")}
        try:
            response = await self.clients[self.plain].post(PATHS[self.config.api], json=body)
            return tokens_of(response.json())
        except (httpx.HTTPError, ValueError):
            return []

    async def _draw(self) -> Certificate:
        """Answers of a few tokens, drawn from both with a seed each."""
        config, drawn = self.config, []
        for index in range(len(self.prompts)):
            self.report("drawing", index, len(self.prompts))
            samples = [await self._draws(name, index, first) for first, name in enumerate(config.urls)]
            if min(map(len, samples)) >= config.num_draws // 2:
                drawn.append(compare_draws(index, samples[0], samples[1], random.Random(config.seed + index)))
        if not drawn:
            raise UserError("servers", self.other, "no prompt was answered by both", "Look into their logs")
        apart = [
            one for one, held in zip(drawn, holm([d.p_value for d in drawn], LEVEL), strict=True) if held
        ]
        if all(one.num_outcomes < 2 for one in drawn):
            answers = [answer("certify.no_chance", self.other)]
        elif apart:
            worst = max(apart, key=lambda one: one.distance)
            answers = [
                answer(
                    "certify.other_distribution",
                    self.other,
                    n=len(apart),
                    total=len(drawn),
                    prompt=worst.prompt,
                    distance=worst.distance,
                    p=worst.p_value,
                )
            ]
        elif len(drawn) < len(self.prompts):
            missing = len(self.prompts) - len(drawn)
            answers = [answer("certify.draws_missing", self.other, n=missing, total=len(self.prompts))]
        else:
            least = min(one.p_value for one in drawn)
            answers = [
                answer("certify.same_distribution", self.other, total=len(drawn), n=config.num_draws, p=least)
            ]
        return Certificate(
            config=config,
            num_prompts=len(self.prompts),
            num_failed=len(self.prompts) - len(drawn),
            drawn=tuple(drawn),
            is_lossless=not apart and len(drawn) == len(self.prompts),
            findings=tuple(answers),
        )

    async def _draws(self, name: str, index: int, place: int) -> list[str]:
        slots = asyncio.Semaphore(DRAWS_AT_ONCE)

        async def one(number: int) -> Said:
            seed = 2 * (self.config.seed * self.config.num_draws + number) + place
            async with slots:
                return await self.answers.once(
                    ("draw", name, index, seed),
                    lambda: self._ask(name, index, self.config.draw_tokens, seed),
                )

        answers = await asyncio.gather(*(one(number) for number in range(self.config.num_draws)))
        return [found.text for found in answers if found.error is None]


def _findings(
    subject: str,
    divergences: Sequence[TextDivergence],
    num_prompts: int,
    num_same: int,
    failed: Sequence[str],
) -> list[Finding]:
    by_kind = Counter(one.kind for one in divergences)
    figures: dict[str, Any] = {
        "same": num_same,
        "total": num_prompts - len(failed),
        "unanswered": len(failed),
        "ties": by_kind["near-tie"],
        "noise": by_kind["engine noise"],
        "unexplained": by_kind["unexplained"],
    }
    code = "certify.unexplained" if by_kind["unexplained"] else "certify.lossless"
    if failed and not by_kind["unexplained"]:
        code = "certify.unanswered"
    found = [answer(code, subject, **figures)]
    found += [
        reason(
            "certify.difference",
            subject,
            prompt=one.prompt,
            chars=one.num_chars,
            what=one.kind,
            gap=one.gap,
            expected=one.expected,
            found=one.found,
        )
        for one in divergences
    ]
    if failed:
        found.append(warning("certify.failed", subject, n=len(failed), of=num_prompts, why=failed[0]))
    return found
