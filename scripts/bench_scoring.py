"""Scored tokens/s against lm-evaluation-harness at its best batch size, on the same windows.

The embedded target in fp32 on held-out standard-library text and, where its folder is given, WikiText-2; and
pythia-160m's shape, whose vocabulary is 50,304. Items are groups of windows. Before anything is timed both
sides' log-likelihoods are held equal. In processes of their own, the memory that scoring takes above the
weights.
"""

from __future__ import annotations

import gc
import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import psutil
import torch

from benchmarks import EMBEDDED, Report, Settings, dumped, interleave, load, table
from bitdraft.config import ModelConfig, TextConfig
from bitdraft.engine import scoring
from bitdraft.engine.runner import Runner
from bitdraft.engine.scoring import score_windows
from bitdraft.inputs.checkpoints import find_checkpoint
from bitdraft.inputs.datasets import load_dataset
from bitdraft.inputs.tokenizers import load_tokenizer, text_encoder
from bitdraft.inputs.windows import Window, rolling_windows, sliding_windows
from bitdraft.probes.clock import now
from bitdraft.probes.memory import begin_phase, peak_resident_bytes
from bitdraft.stats.intervals import ratio_of_rates

COLUMNS = {
    "text": ("windows", 0),
    "bitdraft_tok_s": ("bitdraft, tokens/s", 0),
    "peer_tok_s": ("lm-evaluation-harness, tokens/s", 0),
    "batch_size": ("its best batch size", 0),
    "ratio": ("ratio", 2),
    "layers_tok_s": ("bitdraft, layers alone, tokens/s", 0),
    "bound": ("layers alone / peer", 2),
    "n": ("groups", 0),
}
MEMORY_COLUMNS = {
    "text": ("windows", 0),
    "peak_mb": ("peak above the weights, MB", 0),
    "quarter_mb": ("a quarter of fp32 logits, window × 50,304, MB", 0),
}
SHAPE = "pythia-160m"
BATCH_SIZES = (1, 2, 4, 8, 16, 32)
LARGEST_LOGITS = 3e9
Group = list[Window]


def grouped(windows: Group, size: int, most: int) -> list[Group]:
    return [windows[start : start + size] for start in range(0, min(len(windows), size * most), size)]


def texts_of(settings: Settings, tokenizer: Any) -> dict[str, list[Group]]:
    num_groups = 5 if settings.quick else 10
    encode, prefix = text_encoder(tokenizer), tokenizer.bos_token_id

    def windows_of(rows: Sequence[str], size: int) -> Group:
        return [w for i, row in enumerate(rows) for w in rolling_windows(encode(row), prefix, size, i)]

    stdlib = load_dataset(TextConfig())
    half = [*sliding_windows(encode(stdlib.joined()[:120_000]), 512, 256)]
    scored = {
        "2048 tokens": grouped(windows_of(stdlib.rows[:4], 2048), 2, num_groups),
        "512 tokens, half of them scored": grouped(half[1:], 8, num_groups),
        "256 tokens": grouped(windows_of(stdlib.rows[:3], 256), 16, num_groups),
    }
    if settings.data_root:
        rows = load_dataset(TextConfig(dataset="wikitext", data_root=settings.data_root)).rows
        windows = windows_of([row for row in rows[:1400] if row.strip()], 2048)
        scored["WikiText-2 rows as documents"] = grouped(windows, 64, num_groups)
    return scored


def timed(run: Callable[[Group], object]) -> Callable[[Group], float]:
    def seconds(group: Group) -> float:
        start = now()
        run(group)
        return now() - start

    return seconds


class Sides:
    """Both tools over one model, on groups of windows."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        from lm_eval.models.huggingface import HFLM

        self._runner, self._model, self._tokenizer, self._harness = Runner(model), model, tokenizer, HFLM

    def ours(self, group: Group) -> float:
        pairs = [(window.token_ids, window.first_scored) for window in group]
        found = score_windows(self._runner, pairs, 256)
        return sum(float(log_prob.double().sum()) for _, (log_prob, _) in found)

    def layers(self, group: Group) -> float:
        """The same without logits: no way of scoring through these layers is faster."""
        with patch("bitdraft.engine.scoring.slices_of", lambda *_: iter(())):
            return self.ours(group)

    def theirs(self, batch_size: int) -> Callable[[Group], float]:
        model = self._model
        harness = self._harness(
            pretrained=model,
            tokenizer=self._tokenizer,
            batch_size=batch_size,
            max_length=2048,
            device=str(model.device),
        )

        def run(group: Group) -> float:
            requests = [
                (("", ""), list(w.token_ids[: w.first_scored]), list(w.token_ids[w.first_scored :]))
                for w in group
            ]
            answers = harness._loglikelihood_tokens(requests, disable_tqdm=True)
            return sum(float(answer[0]) for answer in answers)

        return run

    def best_batch_size(self, group: Group) -> int:
        """The fastest of three on one group."""
        longest = max(len(window.token_ids) for window in group)
        size = self._model.config.vocab_size
        spent: dict[int, float] = {}
        for batch_size in BATCH_SIZES:
            if batch_size > len(group) or batch_size * longest * size * 4 > LARGEST_LOGITS:
                break
            run = timed(self.theirs(batch_size))
            spent[batch_size] = min(run(group) for _ in range(3))
        return min(spent, key=spent.__getitem__)


def compare(name: str, sides: Sides, groups: list[Group], rounds: int) -> dict[str, Any]:
    batch_size = sides.best_batch_size(groups[0])
    theirs = sides.theirs(batch_size)
    for group in groups[:2]:
        assert abs(sides.ours(group) / theirs(group) - 1) < 1e-5, "the two log-likelihoods differ"
    arms = {"bitdraft": timed(sides.ours), "peer": timed(theirs), "layers": timed(sides.layers)}
    turns = [interleave(arms, groups, f"scoring, {name}") for _ in range(rounds)]
    seconds = {
        side: [sum(times) for times in zip(*(turn[side] for turn in turns), strict=True)] for side in arms
    }
    work = [rounds * sum(window.num_scored for window in group) for group in groups]
    return {
        "text": name,
        "bitdraft_tok_s": sum(work) / sum(seconds["bitdraft"]),
        "peer_tok_s": sum(work) / sum(seconds["peer"]),
        "layers_tok_s": sum(work) / sum(seconds["layers"]),
        "bound": sum(seconds["peer"]) / sum(seconds["layers"]),
        "batch_size": batch_size,
        "ratio": ratio_of_rates(work, seconds["bitdraft"], work, seconds["peer"]),
        "n": len(groups),
        "rounds": rounds,
        "seconds": seconds,
    }


def batch_size_changes(model: Any, groups: list[Group]) -> float:
    """By what share a perplexity differs between windows alone and together."""
    runner = Runner(model)
    pairs = [(window.token_ids, window.first_scored) for group in groups for window in group]
    before, means = dict(scoring.TOKENS_AT_ONCE), []
    for most in (1, before["cpu"], 4 * before["cpu"]):
        scoring.TOKENS_AT_ONCE["cpu"] = most
        parts = [log_prob.double() for _, (log_prob, _) in sorted(score_windows(runner, pairs, 256))]
        means.append(float(torch.cat(parts).mean()))
    scoring.TOKENS_AT_ONCE.update(before)
    return max(abs(math.expm1(mean - means[0])) for mean in means)


def memory(name: str, length: int, num_windows: int) -> dict[str, Any]:
    """In a process of its own."""
    command = [sys.executable, __file__, name, str(length), str(num_windows)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak = json.loads(done.stdout.splitlines()[-1])
    return {
        "text": f"{name}, {num_windows} of {length} tokens",
        "peak_mb": peak / 1e6,
        "quarter_mb": length * 50_304 * 4 / 4 / 1e6,
    }


def peak_above_weights(name: str, length: int, num_windows: int) -> int:
    """Of scoring windows of chance tokens, after a short warm-up."""
    device = torch.device("cpu")
    runner = Runner(load(name, "fp32", device).model)

    def windows(size: int, num: int) -> list[tuple[list[int], int]]:
        return [(torch.randint(1, 2000, (size,)).tolist(), 1) for _ in range(num)]

    list(score_windows(runner, windows(64, 1), 256))
    gc.collect()
    begin_phase(device)
    before = psutil.Process().memory_info().rss
    list(score_windows(runner, windows(length, num_windows), 256))
    return int(peak_resident_bytes() - before)


@torch.inference_mode()
def run(settings: Settings) -> Report:
    config = ModelConfig(model=EMBEDDED)
    tokenizer = load_tokenizer(find_checkpoint(config), config)
    rounds = 1 if settings.quick else 3
    lines, parts = [], []
    for name, num_rounds in ((EMBEDDED, rounds), (SHAPE, 1)):
        model = load(name, "fp32", settings.device).model
        sides = Sides(model, tokenizer)
        texts = texts_of(settings, tokenizer)
        if name == SHAPE:
            texts = {text: groups[:5] for text, groups in texts.items() if "WikiText" not in text}
        lines += [compare(f"{name}, {text}", sides, groups, num_rounds) for text, groups in texts.items()]
        if name == EMBEDDED:
            change = batch_size_changes(model, texts["256 tokens"][:3])
            parts.append(f"Windows alone or together: fp32 perplexity changes by {change:.1e}.")
    if settings.device.type == "cpu":
        peaks = [memory(*one) for one in ((EMBEDDED, 2048, 4), (SHAPE, 2048, 1), (SHAPE, 2048, 2))]
        parts.append(table(MEMORY_COLUMNS, peaks))
    markdown = f"## Scoring\n\nfp32, {rounds} rounds of the embedded target, one of {SHAPE}'s shape.\n\n"
    markdown += "\n\n".join([table(COLUMNS, lines), *parts])
    return Report("scoring", [dumped(line) for line in lines], markdown)


if __name__ == "__main__":
    print(peak_above_weights(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
