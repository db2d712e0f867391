"""Our loops over llama.cpp against llama.cpp's own, interleaved, on the same files with the same settings.

Plain decoding: behind one token, against `llama-bench` (a process a round), on shapes with random weights in
three formats; and what share of the memory's measured read bandwidth it reaches.
Speculation at equal true K: against `llama-server --spec-type draft-simple --spec-draft-p-min 0`, greedy, one
request at a time, by the time between its first token and its last; and against assisted generation of
transformers in fp32. Of the shapes, which agree with no draft, acceptance is made on both sides: by told
tokens here, by `--spec-synth-rates` there, independently, so that steps differ by chance.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch

from benchmarks import ReadBandwidth, Report, Settings, dumped, interleave, load, prompts_of, say, table
from bitdraft.backends import EngineSetup, load_model, make_engine
from bitdraft.backends.llama_cpp.trial import repacking_works
from bitdraft.config import DecodingConfig, ModelConfig
from bitdraft.inputs.checkpoints import DEMO_FOLDER, find_checkpoint
from bitdraft.inputs.models import LoadedModel
from bitdraft.inputs.variants import Variant
from bitdraft.metrics.speed import decode_span
from bitdraft.schema.records import Figure, Generation
from bitdraft.spec_decode.synthetic import agreement_bits, run_with_oracle
from bitdraft.stats.intervals import ratio_of_sums
from peers_llama_cpp import HOME, install, tool

FORMATS = ("gguf-f32", "Q8_0", "Q4_K_M")
SHAPES = ("pythia-160m", "pythia-410m")
TARGET, DRAFT = "demo/target", "demo/draft-medium"
BIG, SMALL, ALPHA, VOCAB = "pythia-410m", "pythia-70m", 0.8, 50_304
THREADS = 2
PLAIN_TOKENS, NEW_TOKENS = 64, 128
PLAIN_COLUMNS = {
    "model": ("model", 0),
    "format": ("format", 0),
    "ours_ms": ("ours, ms a token", 2),
    "theirs_ms": ("llama-bench, ms", 2),
    "ratio": ("our speed / theirs", 3),
    "bandwidth": ("share of read bandwidth", 2),
}
DRAFT_COLUMNS = {
    "pair": ("pair", 0),
    "format": ("format", 0),
    "k": ("K", 0),
    "ours": ("ours, tokens/s", 1),
    "ours_per_step": ("tokens a step", 2),
    "theirs": ("llama-server, tokens/s", 1),
    "theirs_per_step": ("tokens a step", 2),
    "ratio": ("our speed / theirs", 2),
    "by_step": ("seconds a step, theirs / ours", 2),
    "over_transformers": ("ours / transformers assisted, fp32", 2),
}


@dataclass(frozen=True)
class Timed:
    """Seconds behind the first token, the tokens made in them, and verifications."""

    seconds: float
    num_tokens: int
    num_steps: int = 0

    @classmethod
    def of(cls, run: Generation) -> Timed:
        return cls(decode_span(run)[0], len(run.token_ids) - 1, len(run.steps))


def gguf_model(name: str, precision: str) -> LoadedModel:
    """An embedded model, or a shape whose drawn weights are saved for it once."""
    folder = name
    if not name.startswith("demo/"):
        path = HOME / "models" / name
        if not (path / "model.safetensors").exists():
            load(name, "fp32", torch.device("cpu")).model.save_pretrained(path)
            for file in ("tokenizer.json", "tokenizer_config.json"):
                (path / file).write_bytes((DEMO_FOLDER / "target" / file).read_bytes())
        folder = str(path)
    config = ModelConfig(model=folder, threads=THREADS)
    return load_model(Variant(find_checkpoint(config), precision), torch.device("cpu"), config)


def run(settings: Settings) -> Report:
    """Both parts. The tools are built where they are not there."""
    HOME.mkdir(parents=True, exist_ok=True)
    install()
    plain = _plain(settings)
    drafts = _speculation(settings)
    record = {"plain": [dumped(line) for line in plain], "speculation": [dumped(line) for line in drafts]}
    text = f"## llama.cpp\n\n{table(PLAIN_COLUMNS, plain)}\n\n{table(DRAFT_COLUMNS, drafts)}"
    return Report("llama_cpp", record, text)


def _no_repack() -> list[str]:
    return [] if repacking_works() else ["--repack", "0"]


def _bench_seconds(path: Path) -> Timed:
    command = [tool("llama-bench"), "-m", path, "-p", 0, "-n", PLAIN_TOKENS, "-r", 1, "-t", THREADS]
    words = [str(word) for word in [*command, *_no_repack(), "-o", "json"]]
    found = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    return Timed(found[0]["avg_ns"] / 1e9, PLAIN_TOKENS)


def _plain(settings: Settings) -> list[dict[str, Any]]:
    lines = []
    rounds = range(3 if settings.quick else 10)
    decoding = DecodingConfig(max_new_tokens=PLAIN_TOKENS + 1)
    for name in settings.picks(SHAPES):
        for precision in FORMATS:
            loaded = gguf_model(name, precision)
            engine = make_engine("native", EngineSetup(loaded.model, capacity=PLAIN_TOKENS + 2))
            bandwidth = ReadBandwidth(torch.device("cpu"))

            def ours(_: int, engine: Any = engine) -> Timed:
                engine.prepare([5], decoding)
                return Timed.of(engine.decode(decoding, None, 0, 0))

            def theirs(_: int, path: Path = loaded.model.path) -> Timed:
                return _bench_seconds(path)

            found = interleave(
                {"ours": ours, "theirs": theirs},
                rounds,
                f"{name} {precision}",
                bandwidth.sample,
                num_warmup=1,
            )
            seconds = {side: [one.seconds for one in runs] for side, runs in found.items()}
            per_token_s = float(np.median(seconds["ours"])) / PLAIN_TOKENS
            kv_bytes = engine.kv_bytes_per_token(None) * PLAIN_TOKENS / 2
            streamed = (loaded.streamed_bytes or 0) + kv_bytes
            lines.append({
                "model": name,
                "format": precision,
                "ours_ms": 1e3 * per_token_s,
                "theirs_ms": 1e3 * float(np.median(seconds["theirs"])) / PLAIN_TOKENS,
                "ratio": ratio_of_sums(seconds["theirs"], seconds["ours"]),
                "bandwidth": streamed / per_token_s / bandwidth.bytes_s,
            })  # fmt: skip
    return lines


@contextlib.contextmanager
def server(target: Path, draft: Path | None, k: int, rates: Sequence[float]) -> Iterator[httpx.Client]:
    """llama.cpp's own, on loopback, ended with the block; plain without a draft."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words: list[object] = [tool("llama-server"), "-m", target]
    if draft is not None:
        words += ["-md", draft, "--spec-type", "draft-simple"]
        words += ["--spec-draft-n-max", k, "--spec-draft-p-min", 0]
    words += ["-t", THREADS, "--parallel", 1, "-c", 1024, "--metrics"]
    words += ["--host", "127.0.0.1", "--port", port, "--no-warmup", "--cache-ram", 0]
    words += [] if repacking_works() else ["--no-repack"]
    if rates:
        words += ["--spec-synth-rates", ",".join(f"{rate:.4f}" for rate in rates)]
    log = HOME / "models" / f"server-{port}.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("w") as handle:
        process = subprocess.Popen([str(word) for word in words], stdout=handle, stderr=handle)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=600) as client:
                _wait(client, process)
                yield client
        finally:
            process.terminate()
            process.wait(30)


def _wait(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError(f"llama-server ended with {process.returncode}: see its log")
        with contextlib.suppress(httpx.TransportError):
            if client.get("/health").status_code == 200:
                return
        time.sleep(0.1)
    raise RuntimeError("llama-server is not ready after a minute")


def _ask(client: httpx.Client, prompt: Sequence[int]) -> Timed:
    asked = {"prompt": list(prompt), "n_predict": NEW_TOKENS, "temperature": 0, "cache_prompt": False}
    reply = client.post("/completion", json=asked | {"ignore_eos": True}).raise_for_status().json()
    timings = reply["timings"]
    # its clock starts with the first token; a step is a verification, which adds one token of the target's
    num_tokens = timings["predicted_n"] - 1
    return Timed(timings["predicted_ms"] / 1e3, num_tokens, num_tokens - timings.get("draft_n_accepted", 0))


def _speculation(settings: Settings) -> list[dict[str, Any]]:
    lines = []
    num_prompts = 3 if settings.quick else 8
    cases: list[tuple[str, str, str, int, float | None]]
    cases = [(TARGET, DRAFT, precision, k, None) for precision in ("gguf-f32", "Q8_0") for k in (2, 4)]
    cases += [(BIG, SMALL, precision, 4, ALPHA) for precision in ("gguf-f32", "Q8_0")]
    for target, draft, precision, k, alpha in cases:
        if settings.models and target not in settings.models:
            continue
        lines.append(_case(settings, (target, draft), precision, k, alpha, num_prompts))
    return lines


def _case(  # noqa: PLR0917
    settings: Settings, pair: tuple[str, str], precision: str, k: int, alpha: float | None, num_prompts: int
) -> dict[str, Any]:
    target, draft = (gguf_model(name, precision) for name in pair)
    decoding = DecodingConfig(max_new_tokens=NEW_TOKENS)
    prompts = prompts_of(settings, num_prompts, 64)
    setup = EngineSetup(target.model, {"draft": draft.model}, capacity=64 + NEW_TOKENS)
    engine = make_engine("native", setup)
    texts: dict[int, tuple[int, ...]] = {}

    def ours(index: int) -> Timed:
        engine.prepare(prompts[index], decoding)
        if alpha is None:
            return Timed.of(engine.decode(decoding, "draft", k, 0))
        if index not in texts:
            texts[index] = engine.decode(decoding, None, 0, 0).token_ids
        bits = agreement_bits(alpha, NEW_TOKENS, 0, index)

        def told(oracle_ids: list[list[int]]) -> list[Generation]:
            return [engine.decode(decoding, "draft", k, 0, oracle_ids[0])]

        runs, _ = run_with_oracle(told, [texts[index]], [bits], VOCAB)
        return Timed.of(runs[0])

    rates = [] if alpha is None else [alpha ** (place + 1) for place in range(k)]
    with server(target.model.path, draft.model.path, k, rates) as client:
        arms: dict[str, Any] = {"ours": ours, "theirs": lambda index: _ask(client, prompts[index])}
        if alpha is None:
            arms["transformers"] = _assisted(pair, prompts, k)
        say(f"{pair[0]} {precision} K = {k}")
        found = interleave(arms, range(num_prompts), f"{pair[0]} {precision} K = {k}", num_warmup=1)
    return {
        "pair": f"{pair[0]}, {pair[1]}" + ("" if alpha is None else f", acceptance {alpha} stated"),
        "format": precision,
        "k": str(k),
        "ours": _rate(found["ours"]),
        "ours_per_step": _per_step(found["ours"]),
        "theirs": _rate(found["theirs"]),
        "theirs_per_step": _per_step(found["theirs"]),
        "ratio": _speed_ratio(found["ours"], found["theirs"]),
        "by_step": _per_step_ratio(found["theirs"], found["ours"]),
        "over_transformers": _speed_ratio(found["ours"], found["transformers"]) if alpha is None else None,
    }


def _assisted(pair: tuple[str, str], prompts: Sequence[Sequence[int]], k: int) -> Any:
    """transformers in fp32, with a K that is K; its verifications begin with the prefill."""
    models = [load(name, "fp32", torch.device("cpu")).model for name in pair]
    engine = make_engine("transformers", EngineSetup(models[0], {"draft": models[1]}))
    decoding = DecodingConfig(max_new_tokens=NEW_TOKENS)

    def decode(index: int) -> Timed:
        engine.prepare(prompts[index], decoding)
        found = engine.decode(decoding, "draft", k, 0)
        first_s, count = found.emissions[0]
        return Timed(found.emissions[-1][0] - first_s, len(found.token_ids) - count, len(found.steps) - 1)

    return decode


def _rate(runs: Sequence[Timed]) -> float:
    return sum(one.num_tokens for one in runs) / sum(one.seconds for one in runs)


def _per_step(runs: Sequence[Timed]) -> float:
    return sum(one.num_tokens for one in runs) / sum(one.num_steps for one in runs)


def _speed_ratio(ours: Sequence[Timed], theirs: Sequence[Timed]) -> Figure:
    """Tokens a second, paired by prompt."""
    their_s, our_s = ([one.seconds / one.num_tokens for one in runs] for runs in (theirs, ours))
    return ratio_of_sums(their_s, our_s)


def _per_step_ratio(one: Sequence[Timed], other: Sequence[Timed]) -> Figure:
    top, bottom = ([run.seconds / run.num_steps for run in runs] for runs in (one, other))
    return ratio_of_sums(top, bottom)
