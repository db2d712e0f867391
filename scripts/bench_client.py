"""What the client of `serve-bench` costs by itself: how long after a server has sent a piece of text the
client has its time.

A stub in a process of its own sends a token every `GAP_S` to each of so many requests, with the time at which
it was sent in the text (one monotonic clock for all processes of a machine). The delay is what the network's
loopback and the client add; its change from token to token is what TPOT could suffer.

Run: .venv/bin/python scripts/bench_client.py
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np

from bitdraft.servers.client import Answer, connect, stream

GAP_S = 0.010
TOKENS = 200
CONCURRENCY = (1, 4, 16)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
TITLES = ("requests in flight", "delay, median ms", "99 % ms", "TPOT as sent, ms", "as measured", "more by")


async def _head(reader: asyncio.StreamReader) -> bytes:
    """Of the next request; nothing where the connection was closed."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


async def serve() -> None:
    """The stub: answers to whatever is asked; prints its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await _head(reader):
            lines = [line.lower() for line in head.split(b"\r\n")]
            length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
            await reader.readexactly(length)
            writer.write(HEAD)
            start = time.perf_counter()
            for number in range(TOKENS):
                await asyncio.sleep(max(0.0, start + (number + 1) * GAP_S - time.perf_counter()))
                finish = "length" if number == TOKENS - 1 else None
                text = f"{time.perf_counter()!r};"
                _send(writer, {"choices": [{"text": text, "finish_reason": finish}]})
                await writer.drain()
            _send(writer, {"choices": [], "usage": {"completion_tokens": TOKENS}})
            writer.write(b"0\r\n\r\n")
            await writer.drain()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def _send(writer: asyncio.StreamWriter, entry: dict[str, object]) -> None:
    data = f"data: {json.dumps(entry)}\n\n".encode()
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


async def ask(url: str, at_once: int) -> list[Answer]:
    async with connect("stub", url, at_once, 30.0) as client:
        await stream(client, "/v1/completions", {"prompt": "warm"})
        asked = [stream(client, "/v1/completions", {"prompt": "a"}) for _ in range(at_once)]
        return list(await asyncio.gather(*asked))


def delays_ms(answers: Sequence[Answer]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    found = []
    for answer in answers:
        sent = [float(text) for text in answer.text.split(";") if text]
        found += [1000 * (got - own) for got, own in zip(answer.event_s, sent, strict=True)]
    return np.array(found)


def tpot_ms(times_s: Sequence[float]) -> float:
    return 1000 * (times_s[-1] - times_s[0]) / (len(times_s) - 1)


def main() -> None:
    words = [sys.executable, __file__, "serve"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = f"http://127.0.0.1:{process.stdout.readline().strip()}"
        print(
            "| requests in flight | delay, median ms | 99 % ms | TPOT as sent, ms | as measured | more by |"
        )
        print("| ---: | ---: | ---: | ---: | ---: | ---: |")
        for at_once in CONCURRENCY:
            answers = asyncio.run(ask(url, at_once))
            assert all(answer.error is None for answer in answers)
            delays = delays_ms(answers)
            sent = [[float(text) for text in answer.text.split(";") if text] for answer in answers]
            own, measured = (
                float(np.mean([tpot_ms(times) for times in side]))
                for side in (sent, [answer.event_s for answer in answers])
            )
            print(
                f"| {at_once} | {np.median(delays):.3f} | {np.percentile(delays, 99):.3f} | {own:.3f} | "
                f"{measured:.3f} | {100 * (measured / own - 1):+.3f} % |"
            )
        process.terminate()


if __name__ == "__main__":
    if "serve" in sys.argv:
        asyncio.run(serve())
    else:
        main()
