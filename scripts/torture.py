"""Runs that are killed again and again, against the same runs left alone.

On tiny models each command (precision, spec-decode, recommend) is measured once without interruption. Then
it is started in a new folder, ended with SIGKILL after a random time, and started again in the same folder,
until it ends by itself. What it then holds must be what the uninterrupted run holds, but for times; after
every kill its processes must be gone within five seconds, and everything in its folder must be readable.

Of ten runs one is started as users start it, its cells in processes of their own. The others, which need no
seconds for imports, are forked from this process, cells and all.

    scripts/torture --kills 200 --seed 0
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
import transformers.models.gpt_neox.modeling_gpt_neox  # noqa: F401 (what a fork need not import)

from bitdraft.cli import main as cli
from bitdraft.runs.journal import read_events
from bitdraft.schema.io import read_result
from bitdraft.schema.manifest import read_manifest
from bitdraft.schema.precision import PrecisionResult
from bitdraft.schema.recommendation import Recommendation
from bitdraft.schema.records import Generation
from bitdraft.schema.spec_decode import SpecDecodeResult
from in_process import jobs_in_process

GONE_WITHIN_S = 5.0
SIZE = ("--num-prompts", "5", "--max-prompt-tokens", "24", "--max-new-tokens", "12", "--device", "cpu")
QUALITY = ("--ppl-max-tokens", "500", "--kl-max-tokens", "200")


@dataclass(frozen=True)
class Command:
    """A command line, and which of its results are compared (by their place in the run's folder)."""

    name: str
    arguments: tuple[str, ...]
    results: tuple[tuple[str, Any], ...]

    def start(self, folder: Path, *, forked: bool) -> BaseProcess:
        line = [self.name, *self.arguments, "--output", str(folder)]
        process = get_context("fork").Process(target=_inline if forked else _command, args=(line,))
        process.start()
        return process

    def content(self, folder: Path) -> dict[str, Any]:
        return {where: timeless(read_result(folder / where, kind)) for where, kind in self.results}


def _inline(line: list[str]) -> None:
    _quiet()
    with jobs_in_process():
        cli(line)


def _command(line: list[str]) -> None:
    _quiet()
    os.execv(sys.executable, [sys.executable, "-m", "bitdraft", *line])


def _quiet() -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)


def make_checkpoints(root: Path) -> None:
    """In a process of its own: torch's threads do not live on in a fork."""
    from tiny import noisy_copy, save_checkpoint, tiny_model

    _quiet()
    save_checkpoint(root / "target", tiny_model())
    save_checkpoint(root / "draft", noisy_copy("gpt_neox", 0, 0.05))


def commands(root: Path) -> list[Command]:
    """On tiny checkpoints and a text that are made below `root`."""
    making = get_context("fork").Process(target=make_checkpoints, args=(root,))
    making.start()
    making.join()
    target, draft = str(root / "target"), str(root / "draft")
    text = root / "story.txt"
    text.write_text("".join(f"the cat and the hen number {i} sat in the barn\n" for i in range(120)))
    shared = (target, "--dataset", f"file:{text}", *SIZE)
    drafts = ("--draft", f"cheap={draft}", "--draft", "ngram")
    return [
        Command(
            "precision",
            (*shared, *QUALITY, "--precisions", "fp32,bf16"),
            (("precision.json", PrecisionResult),),
        ),
        Command(
            "spec-decode",
            (*shared, *drafts, "--k", "1-3"),
            (("spec_decode_file-story.json", SpecDecodeResult),),
        ),
        Command(
            "recommend",
            (*shared, *QUALITY, *drafts, "--precisions", "fp32", "--k", "2"),
            (
                ("precision/precision.json", PrecisionResult),
                ("plan-fp32/spec_decode_plan_file-story.json", SpecDecodeResult),
            ),
        ),
    ]


def timeless(result: PrecisionResult | SpecDecodeResult | Recommendation) -> Any:
    """What two runs of one question have in common whatever the machine's speed."""
    if isinstance(result, PrecisionResult):
        return {
            row.precision: (
                row.status,
                row.quality,
                row.metrics.get("ppl"),
                row.raw.score_blocks,
                row.raw.kl_divergence,
                texts(row.runs),
            )
            for row in result.rows
        }
    if isinstance(result, SpecDecodeResult):
        rows = {
            row.configuration: (
                row.status,
                row.lossless,
                row.replay_check,
                row.realised_k,
                row.acceptance_by_position,
                row.groups,
                row.metrics.get("acceptance_rate"),
                texts(row.runs),
            )
            for row in result.rows
        }
        return rows, result.replay
    return [row.precision for row in result.contenders]


def texts(runs: Sequence[Generation]) -> list[Any]:
    return [(run.prompt_tokens, run.token_ids, run.steps, run.finish_reason) for run in runs]


def family(pid: int) -> list[psutil.Process]:
    try:
        own = psutil.Process(pid)
        return [own, *own.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def kill(process: BaseProcess) -> float:
    """End it with SIGKILL; the seconds until all its processes were gone. Raises where some stay."""
    members = family(process.pid or 0)
    process.kill()
    start = time.monotonic()
    process.join()
    _, alive = psutil.wait_procs(members, timeout=GONE_WITHIN_S)
    alive = [one for one in alive if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    if alive:
        raise AssertionError(f"{GONE_WITHIN_S:g} s after the kill there still are {alive}")
    return time.monotonic() - start


def check_folder(folder: Path) -> None:
    """Whatever the kill has left can be read."""
    if not (folder / "run.json").exists():
        return
    manifest = read_manifest(folder)
    assert manifest is not None
    for path in folder.rglob("*.jsonl"):
        events, length = read_events(path)
        torn = path.stat().st_size - length
        assert not path.read_bytes()[length:].count(b"\n"), f"{torn} bytes of {path} are lost"
        assert not events or events[0]["event"] == "cell"
    for path in folder.rglob("*.json"):
        json.loads(path.read_text())


@dataclass
class Tally:
    """`slowest_s` is the longest that processes took to be gone."""

    kills: int = 0
    runs: int = 0
    slowest_s: float = 0.0


def torture(root: Path, num_kills: int, seed: int, *, only_forked: bool = False, say: bool = True) -> Tally:
    """Raises `AssertionError` at the first difference."""
    drawn, tally = random.Random(seed), Tally()
    every = commands(root)
    truth, seconds = {}, {}
    for command in every:
        for forked in (True,) if only_forked else (True, False):
            folder = root / f"whole-{command.name}-{forked}"
            start = time.monotonic()
            process = command.start(folder, forked=forked)
            process.join()
            assert process.exitcode == 0, f"{command.name} ends with {process.exitcode}"
            seconds[command.name, forked] = time.monotonic() - start
            truth[command.name] = command.content(folder)
    for number in itertools.count():
        if tally.kills >= num_kills:
            return tally
        command, forked = every[number % len(every)], only_forked or number % 10 != 0
        delays = growing(drawn, seconds[command.name, forked])
        folder = root / f"{command.name}-{number}"
        own = until_done(command, folder, forked, delays, tally)
        found = command.content(folder)
        if found != truth[command.name]:
            raise AssertionError(f"{command.name} after {own} kills differs: {folder}")
        tally.runs += 1
        if say:
            how = "forked" if forked else "processes"
            print(f"{tally.kills} kills, {tally.runs} runs: {command.name}, {how}, {own} kills", flush=True)
    return tally


def growing(drawn: random.Random, whole_s: float) -> Iterator[float]:
    """When to kill: at first anywhere; later with more and more time, so that every run ends."""
    for own in itertools.count():
        yield drawn.uniform(0.0, whole_s) * (1 + own / 8)


def until_done(command: Command, folder: Path, forked: bool, delays: Iterator[float], tally: Tally) -> int:
    """The kills that it took."""
    for own, delay_s in enumerate(delays):
        process = command.start(folder, forked=forked)
        process.join(delay_s)
        if process.exitcode is not None:
            assert process.exitcode == 0, f"{command.name} ends with {process.exitcode}: {folder}"
            return own
        tally.slowest_s = max(tally.slowest_s, kill(process))
        tally.kills += 1
        check_folder(folder)
    raise AssertionError


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a folder for the runs, which stays")
    args = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as below:
        root = args.keep or Path(below)
        root.mkdir(parents=True, exist_ok=True)
        tally = torture(root, args.kills, args.seed)
    print(
        f"{tally.kills} kills over {tally.runs} runs in {time.monotonic() - start:.0f} s: every result is "
        f"that of an uninterrupted run. All processes were gone within {tally.slowest_s:.2f} s."
    )


if __name__ == "__main__":
    main()
