"""vLLM's own server (its build for CPUs), started by a declaration: certificates of it, and `serve-bench`
beside `vllm bench serve` on the same server and prompts, in turn (ours, theirs, theirs, ours), theirs read by
`bitdraft import`. Intervals are of both sides together; theirs sends a request of its own before it measures.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bitdraft
import peers_vllm
from bitdraft.config import ServeBenchConfig, make_config
from bitdraft.schema.records import Figure
from bitdraft.schema.serving import ServingResult
from bitdraft.servers.launch import Declaration, launched
from bitdraft.serving.workload import prepare
from peers_common import TARGET, Agreement, call, folder_of

DRAFT = "demo/draft-medium"
K, NUM_PROMPTS, NUM_TOKENS, PROMPT_TOKENS = 3, 20, 64, 96
DRAWN_PROMPTS, NUM_DRAWS = 2, 200
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "2",
    "HF_HUB_OFFLINE": "1",
}
# the wheel for CPUs has another name than the package whose version this asks for
_BENCH = """
import sys
from importlib.metadata import Distribution
named = Distribution.from_name.__func__
Distribution.from_name = classmethod(lambda kind, name: named(kind, "vllm-cpu" if name == "vllm" else name))
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args(sys.argv[1:]))
"""


def install() -> None:
    """With what its client reads prompts by."""
    peers_vllm.install()
    call([peers_vllm.PYTHON, "-m", "pip", "install", "--quiet", "pandas"])


def version() -> str:
    return f"{peers_vllm.version()}, its server"


def command(k: int) -> list[str]:
    """The server as a module: the wheel for CPUs lacks what its own command asks for."""
    target, draft = folder_of(TARGET), folder_of(DRAFT)
    words: list[object] = [peers_vllm.PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model", target]
    words += ["--dtype", "float32", "--max-model-len", 1024, "--max-num-seqs", 8, "--enforce-eager"]
    words += ["--generation-config", "vllm", "--no-enable-prefix-caching", "--port", "{port}"]
    if k:
        config = {"method": "draft_model", "model": str(draft), "num_speculative_tokens": k}
        words += ["--speculative-config", json.dumps(config)]
        words += ["--per-request-spec-decode-metrics", "summary"]
    return [str(word) for word in words]


def agree() -> list[Agreement]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        return [*_certificates(path), *_beside_its_own_client(path)]


def _certificates(folder: Path) -> list[Agreement]:
    shared: dict[str, Any] = {"tokenizer": TARGET, "max_prompt_tokens": PROMPT_TOKENS}
    with _server(folder, 0) as plain, _server(folder, K) as other:
        pair = [f"plain={plain}", f"other={other}"]
        greedy = bitdraft.certify_server(
            pair, num_prompts=NUM_PROMPTS, max_new_tokens=NUM_TOKENS, server_precision="fp32", **shared
        )
        drawn = bitdraft.certify_server(
            pair, num_prompts=DRAWN_PROMPTS, temperature=0.8, num_draws=NUM_DRAWS, **shared
        )
    unexplained = sum(one.kind == "unexplained" for one in greedy.divergences)
    farthest = max(one.distance for one in drawn.drawn)
    return [
        Agreement(
            f"certificate, greedy, K = {K}: texts of plain decoding",
            f"{greedy.num_prompts} texts",
            f"{greedy.num_same} the same",
            float(unexplained),
            allowed="near-ties",
        ),
        # its build for CPUs is known to be wrong here: docs/servers.md
        Agreement(
            f"certificate, temperature 0.8, K = {K}: distributions of drawn answers",
            f"{len(drawn.drawn)} prompts, {NUM_DRAWS} draws",
            "the same" if drawn.is_lossless else "others: no certificate",
            farthest,
            is_information=True,
        ),
    ]


@contextmanager
def _server(folder: Path, k: int) -> Iterator[str]:
    declaration = Declaration(f"vllm-{k}", command(k), env=ENVIRONMENT)
    with launched(declaration, folder) as server:
        yield server.url


def _beside_its_own_client(folder: Path) -> list[Agreement]:
    ours, theirs = [], []
    with _server(folder, 0) as url:
        asked = make_config(ServeBenchConfig, {"servers": (f"server={url}",), **_settings()})
        prompts = folder / "prompts.jsonl"
        prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in prepare(asked).sent[1]))
        for place, own in enumerate((True, False, False, True)):
            output = folder / f"run-{place}"
            if own:
                ours.append(bitdraft.bench_servers(config=asked, output=output))
            else:
                theirs.append(_bench(url, prompts, output))
    return [_compared(name, ours, theirs) for name in ("ttft_ms", "tpot_ms", "throughput_tok_s")]


def _settings() -> dict[str, Any]:
    return {
        "num_prompts": NUM_PROMPTS,
        "max_new_tokens": NUM_TOKENS,
        "max_prompt_tokens": PROMPT_TOKENS,
    }


def _bench(url: str, prompts: Path, output: Path) -> ServingResult:
    """`vllm bench serve`, one request at a time, on these prompts in this order."""
    output.mkdir()
    words: list[object] = ["--backend", "openai", "--base-url", url, "--model", folder_of(TARGET)]
    words += ["--dataset-name", "custom", "--dataset-path", prompts, "--disable-shuffle"]
    words += ["--custom-output-len", NUM_TOKENS, "--skip-chat-template", "--ignore-eos", "--temperature", 0]
    words += ["--num-prompts", NUM_PROMPTS, "--max-concurrency", 1, "--save-result", "--save-detailed"]
    words += ["--result-dir", output, "--result-filename", "result.json", "--disable-tqdm"]
    call([peers_vllm.PYTHON, "-c", _BENCH, *words], env={**os.environ, **ENVIRONMENT})
    return bitdraft.import_results([output / "result.json"])


def _compared(name: str, ours: list[ServingResult], theirs: list[ServingResult]) -> Agreement:
    """Means of two runs on a side, and how far apart they are beyond both intervals."""
    sides = [[one.rows[0].metrics[name] for one in side] for side in (ours, theirs)]
    means = [sum(figure.value for figure in side) / len(side) for side in sides]
    half = [math.sqrt(sum(_half(figure) ** 2 for figure in side)) / len(side) for side in sides]
    beyond = max(0.0, abs(means[0] - means[1]) - math.hypot(*half)) / means[1]
    shown = [f"{mean:.4g} ± {own:.2g}" for mean, own in zip(means, half, strict=True)]
    figure = f"serve-bench and vllm bench serve: {name}"
    return Agreement(figure, shown[0], shown[1], beyond, 0.0, allowed="both intervals")


def _half(figure: Figure) -> float:
    assert figure.low is not None
    assert figure.high is not None
    return (figure.high - figure.low) / 2
