"""Scored tokens/s against lm-evaluation-harness on the same windows at batch size 1.

The embedded target in fp32 on held-out standard-library text and, where its folder is given, WikiText-2.
Items are groups of windows: bitdraft has several windows under way at once, each on its own. Before
anything is timed both sides' log-likelihoods are held equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks import EMBEDDED, Report, Settings, dumped, interleave, load, table
from bitdraft.config import ModelConfig, TextConfig
from bitdraft.engine.runner import Runner
from bitdraft.engine.scoring import score_windows
from bitdraft.inputs.checkpoints import find_checkpoint
from bitdraft.inputs.datasets import load_dataset
from bitdraft.inputs.tokenizers import load_tokenizer, text_encoder
from bitdraft.inputs.windows import Window, rolling_windows
from bitdraft.probes.clock import now
from bitdraft.stats.intervals import ratio_of_rates

COLUMNS = {
    "text": ("text", 0),
    "bitdraft_tok_s": ("bitdraft, tokens/s", 0),
    "peer_tok_s": ("lm-evaluation-harness, tokens/s", 0),
    "ratio": ("ratio", 2),
    "n": ("groups", 0),
}
Group = list[Window]


def grouped(windows: Group, size: int, most: int) -> list[Group]:
    return [windows[start : start + size] for start in range(0, min(len(windows), size * most), size)]


def texts_of(settings: Settings, tokenizer: Any) -> dict[str, list[Group]]:
    num_groups = 5 if settings.quick else 12
    encode, prefix = text_encoder(tokenizer), tokenizer.bos_token_id

    def windows_of(rows: Sequence[str], size: int) -> Group:
        return [w for i, row in enumerate(rows) for w in rolling_windows(encode(row), prefix, size, i)]

    stdlib = load_dataset(TextConfig())
    scored = {
        "stdlib in windows of 2048": grouped(windows_of(stdlib.rows[:4], 2048), 2, num_groups),
        "stdlib in windows of 256": grouped(windows_of(stdlib.rows[:2], 256), 8, num_groups),
    }
    if settings.data_root:
        rows = load_dataset(TextConfig(dataset="wikitext", data_root=settings.data_root)).rows
        windows = windows_of([row for row in rows[:1000] if row.strip()], 2048)
        scored["WikiText-2 rows as documents"] = grouped(windows, 16, num_groups)
    return scored


def timed(run: Callable[[Group], object]) -> Callable[[Group], float]:
    def seconds(group: Group) -> float:
        start = now()
        run(group)
        return now() - start

    return seconds


def compare(name: str, model: Any, tokenizer: Any, groups: list[Group], rounds: int) -> dict[str, Any]:
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(
        pretrained=model, tokenizer=tokenizer, batch_size=1, max_length=2048, device=str(model.device)
    )
    runner = Runner(model)

    def ours(group: Group) -> float:
        pairs = [(window.token_ids, window.first_scored) for window in group]
        return sum(float(log_prob.double().sum()) for log_prob, _ in score_windows(runner, pairs, 256))

    def theirs(group: Group) -> float:
        requests = [(("", ""), list(w.token_ids[:1]), list(w.token_ids[1:])) for w in group]
        return sum(float(answer[0]) for answer in harness._loglikelihood_tokens(requests, disable_tqdm=True))

    for group in groups[:2]:
        assert abs(ours(group) / theirs(group) - 1) < 1e-5, "the two log-likelihoods differ"
    arms = {"bitdraft": timed(ours), "peer": timed(theirs)}
    turns = [interleave(arms, groups, f"scoring, {name}") for _ in range(rounds)]
    seconds = {
        side: [sum(times) for times in zip(*(turn[side] for turn in turns), strict=True)] for side in arms
    }
    work = [rounds * sum(window.num_scored for window in group) for group in groups]
    return {
        "text": name,
        "bitdraft_tok_s": sum(work) / sum(seconds["bitdraft"]),
        "peer_tok_s": sum(work) / sum(seconds["peer"]),
        "ratio": ratio_of_rates(work, seconds["bitdraft"], work, seconds["peer"]),
        "n": len(groups),
        "rounds": rounds,
        "seconds": seconds,
    }


@torch.inference_mode()
def run(settings: Settings) -> Report:
    config = ModelConfig(model=EMBEDDED)
    tokenizer = load_tokenizer(find_checkpoint(config), config)
    model = load(EMBEDDED, "fp32", settings.device).model
    rounds = 1 if settings.quick else 3
    lines = [
        compare(name, model, tokenizer, groups, rounds)
        for name, groups in texts_of(settings, tokenizer).items()
    ]
    markdown = (
        f"## Scoring\n\nThe embedded target in fp32, batch 1, {rounds} rounds.\n\n{table(COLUMNS, lines)}"
    )
    return Report("scoring", [dumped(line) for line in lines], markdown)
