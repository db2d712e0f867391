"""vLLM's engine for one (draft, K), in a process of vLLM's own Python, which may be of another environment:
its offline interface, one request at a time, stepped so that each verification's tokens have a time."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from bitdraft import formats
from bitdraft.external.base import EngineDied, EngineSetup, peak_of_tree, tree_of
from bitdraft.external.steps import emissions_of, steps_of_counts
from bitdraft.schema.records import Generation
from bitdraft.servers.launch import words_of_end

OWN_ARGUMENTS = ("--model", "--speculative-config", "--max-num-seqs", "--enable-prefix-caching")
"""Without these, as `engine_words` sets them, a sweep would not measure what it says"""
_WORKER = Path(__file__).with_name("vllm_worker.py")
_GRACE_S = 30.0


@contextmanager
def vllm(setup: EngineSetup) -> Iterator[VllmEngine]:
    """Started, and ended with the block. Raises `EngineDied`."""
    setup.folder.mkdir(parents=True, exist_ok=True)
    log = setup.folder / f"{setup.name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(setup.program), str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            env=environment_of(setup),
            text=True,
        )
    try:
        yield VllmEngine(setup, process, log)
    finally:
        _end(process)


def environment_of(setup: EngineSetup) -> dict[str, str]:
    """Ours, without what would make its Python look into our packages."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    if setup.config.threads is not None:
        env["OMP_NUM_THREADS"] = str(setup.config.threads)
    return env


def engine_words(setup: EngineSetup) -> list[str]:
    """Its own arguments, as `vllm serve` has them: one sequence at a time, no prefix kept from one request to
    the next, its statistics of each request in full."""
    dtype = formats.find(setup.config.precision).torch_dtype
    words: list[object] = ["--model", setup.target, "--dtype", dtype or "auto"]
    words += ["--max-model-len", setup.context, "--max-num-seqs", 1, "--no-enable-prefix-caching"]
    words += ["--generation-config", "vllm", "--seed", setup.config.seed]
    if setup.draft is not None:
        speculation = {
            "method": "draft_model",
            "model": str(setup.draft),
            "num_speculative_tokens": setup.k,
        }
        words += ["--speculative-config", json.dumps(speculation)]
        words += ["--per-request-spec-decode-metrics", "detailed"]
    # what was asked for comes last, and so wins
    return [*map(str, words), *shlex.split(setup.config.engine_args)]


def _end(process: subprocess.Popen[str]) -> None:
    """By the end of its input; then with all that it has started."""
    tree = tree_of(process.pid)
    _tell(tree, psutil.Process.resume)
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):
            if pipe is not None:
                pipe.close()
    psutil.wait_procs(tree, timeout=_GRACE_S)
    _tell(tree, psutil.Process.kill)
    process.wait()


def _tell(tree: Sequence[psutil.Process], what: Callable[[psutil.Process], None]) -> None:
    for one in tree:
        with suppress(psutil.NoSuchProcess):
            what(one)


class VllmEngine:
    """See `EngineProcess`."""

    def __init__(self, setup: EngineSetup, process: subprocess.Popen[str], log: Path) -> None:
        self._setup, self._process, self._log = setup, process, log
        self.version = str(self._ask({"words": engine_words(setup)})["version"])

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Its workers spin while they wait, half of a processor each (0.32, on a CPU): between its turns they
        are stopped."""
        tree = tree_of(self._process.pid)
        _tell(tree, psutil.Process.resume)
        try:
            yield
        finally:
            # workers first: what they wait for still runs
            _tell(tree[::-1], psutil.Process.suspend)

    def _ask(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """One line to it and one from it. Raises `EngineDied`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(wanted) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        if not line.endswith("\n"):
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(5.0)
            raise EngineDied(f"vLLM ended ({words_of_end(self._process.poll(), self._log)})")
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise EngineDied(f"vLLM: {found['error']}")
        return found

    def generate(self, prompt: Sequence[int], max_new_tokens: int, seed: int) -> Generation:
        """See `EngineProcess`."""
        config, k = self._setup.config, self._setup.k
        found = self._ask(
            {
                "prompt": list(prompt),
                "sampling": {
                    "max_tokens": max_new_tokens,
                    "ignore_eos": config.ignore_eos,
                    "temperature": config.temperature,
                    "top_k": config.top_k or 0,
                    "top_p": 1.0 if config.top_p is None else config.top_p,
                    "seed": seed if config.temperature > 0 else None,
                },
            }
        )
        tokens = [(time_s, token) for time_s, ids in found["emissions"] for token in ids]
        token_ids = tuple(token for _, token in tokens)
        if k and found["counts"] is None:
            raise EngineDied("vLLM tells nothing of a request's speculation (it does from 0.32 on)")
        steps = tuple(steps_of_counts(found["counts"], len(tokens), k, max_new_tokens)) if k else ()
        return Generation(
            prompt_tokens=len(prompt),
            submit_s=found["submit_s"],
            emissions=emissions_of([time_s for time_s, _ in tokens], steps),
            steps=steps,
            token_ids=token_ids,
            finish_reason="length" if found["finish_reason"] == "length" else "eos",
        )

    def next_log_probs(self, text: Sequence[int], num: int) -> dict[int, float]:
        """See `EngineProcess`."""
        found = self._ask({"prompt": list(text), "num_log_probs": num})
        return {int(token): float(value) for token, value in found["log_probs"].items()}

    def peak_bytes(self) -> int | None:
        """See `EngineProcess`."""
        return peak_of_tree(self._process.pid)
