"""bitdraft against its peers, interleaved in one process, as ratios with 95 % bootstrap intervals.

Three comparisons:
  decoding     tokens/s of the native backend at K = 0 against transformers' `generate`
  scoring      scored tokens/s against lm-evaluation-harness on the same windows at batch size 1
  speculation  drafts over K against K = 0, transformers and the replay's prediction (bench_speculation)
The first two take the embedded target in fp32 and held-out standard-library text.

Each item (a prompt, a group of windows) is run by both sides directly after one another, the order swapped
from item to item, so that a drift of the machine hits both. Before anything is timed both sides
have run, and their token ids or log-likelihoods are held equal. The last line printed is JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import bench_speculation
from bitdraft.backends import BACKENDS
from bitdraft.checkpoints import find_checkpoint, load_tokenizer, text_encoder
from bitdraft.config import DecodingConfig, ModelConfig, TextConfig
from bitdraft.engine.runner import Runner
from bitdraft.engine.scoring import score_windows
from bitdraft.environment import describe, measure_ceilings
from bitdraft.metrics import request_seconds
from bitdraft.models import load_model, resolve_device
from bitdraft.precision.protocols import Window, rolling_windows
from bitdraft.results import Figure
from bitdraft.stats import ratio_of_rates
from bitdraft.texts import load_dataset, select_prompts
from bitdraft.timing import now

MODEL = ModelConfig(model="demo/target")
Side = Callable[[Any], float]
"""Runs one item and returns its seconds."""


def interleave(sides: Sequence[Side], items: Sequence[Any], rounds: int) -> list[list[float]]:
    """Seconds of every item on every side, summed over rounds; the order swaps from item to item."""
    seconds = [[0.0] * len(items) for _ in sides]
    for turn in range(rounds):
        for place, item in enumerate(items):
            order = range(len(sides)) if (turn + place) % 2 == 0 else reversed(range(len(sides)))
            for side in order:
                seconds[side][place] += sides[side](item)
    return seconds


def summary(name: str, peer: str, work: list[int], seconds: list[list[float]], rounds: int) -> dict[str, Any]:
    total = [rounds * amount for amount in work]
    ratio: Figure = ratio_of_rates(total, seconds[0], total, seconds[1])
    rates = [sum(total) / sum(side) for side in seconds]
    print(
        f"{name}: bitdraft {rates[0]:.1f} tokens/s, {peer} {rates[1]:.1f} tokens/s, "
        f"ratio {ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}], n = {ratio.n} items × {rounds} rounds"
    )
    return {
        "comparison": name,
        "peer": peer,
        "bitdraft_tok_s": rates[0],
        "peer_tok_s": rates[1],
        "ratio": ratio.model_dump(),
        "rounds": rounds,
        "seconds": {"bitdraft": seconds[0], "peer": seconds[1]},
    }


def compare_decoding(models: list[Any], prompts: list[list[int]], rounds: int) -> dict[str, Any]:
    """A model of its own for each side: the native backend lays out its weights anew."""
    config = DecodingConfig(max_new_tokens=100)
    backends = [BACKENDS["native"](models[0]), BACKENDS["transformers"](models[1])]
    for prompt in prompts[:2]:
        first, second = (backend(prompt, config).token_ids for backend in backends)
        assert first == second, "the two backends disagree"
    sides = [lambda prompt, run=run: request_seconds(run(prompt, config)) for run in backends]
    work = [config.max_new_tokens] * len(prompts)
    return summary("decoding", "transformers generate", work, interleave(sides, prompts, rounds), rounds)


def compare_scoring(
    name: str, model: Any, tokenizer: Any, groups: list[list[Window]], rounds: int
) -> dict[str, Any]:
    """Items are groups of windows: bitdraft has several windows under way at once, each on its own."""
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(
        pretrained=model, tokenizer=tokenizer, batch_size=1, max_length=2048, device=str(model.device)
    )
    runner = Runner(model)

    def ours(group: list[Window]) -> float:
        pairs = [(window.token_ids, window.first_scored) for window in group]
        return sum(float(log_prob.double().sum()) for log_prob, _ in score_windows(runner, pairs, 256))

    def theirs(group: list[Window]) -> float:
        requests = [(("", ""), list(w.token_ids[:1]), list(w.token_ids[1:])) for w in group]
        return sum(float(answer[0]) for answer in harness._loglikelihood_tokens(requests, disable_tqdm=True))

    for group in groups[:2]:
        assert abs(ours(group) / theirs(group) - 1) < 1e-5, "the two log-likelihoods differ"

    def timed(run: Callable[[list[Window]], float]) -> Side:
        def seconds(group: list[Window]) -> float:
            start = now()
            run(group)
            return now() - start

        return seconds

    work = [sum(window.num_scored for window in group) for group in groups]
    seconds = interleave([timed(ours), timed(theirs)], groups, rounds)
    return summary(f"scoring, {name}", "lm-evaluation-harness", work, seconds, rounds)


def grouped(windows: list[Window], size: int, most: int) -> list[list[Window]]:
    return [windows[start : start + size] for start in range(0, min(len(windows), size * most), size)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a fifth of the work, for a look")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data-root", type=Path, help="score and prompt with WikiText-2 from here")
    parser.add_argument("--output", type=Path, help="also write the JSON here")
    args = parser.parse_args()
    num_prompts, num_groups, rounds = (4, 4, 1) if args.quick else (15, 12, 3)
    checkpoint = find_checkpoint(MODEL)
    tokenizer, device = load_tokenizer(checkpoint, MODEL), resolve_device(args.device)

    encode = text_encoder(tokenizer)

    def windows_of(rows: Sequence[str], size: int) -> list[Window]:
        prefix = tokenizer.bos_token_id
        return [w for i, row in enumerate(rows) for w in rolling_windows(encode(row), prefix, size, i)]

    text = TextConfig(num_prompts=num_prompts, max_prompt_tokens=256)
    stdlib = load_dataset(text)
    prompts = [list(prompt.token_ids) for prompt in select_prompts(stdlib, text, encode)]
    scored = {
        "stdlib in windows of 2048": grouped(windows_of(stdlib.rows[:4], 2048), 2, num_groups),
        "stdlib in windows of 256": grouped(windows_of(stdlib.rows[:2], 256), 8, num_groups),
    }
    if args.data_root:
        rows = load_dataset(TextConfig(dataset="wikitext", data_root=args.data_root)).rows
        windows = windows_of([row for row in rows[:1000] if row.strip()], 2048)
        scored["WikiText-2 rows as documents"] = grouped(windows, 16, num_groups)

    def load() -> Any:
        return load_model(checkpoint, "fp32", device, MODEL).model

    with torch.inference_mode():
        results = [compare_decoding([load(), load()], prompts, rounds)]
        model = load()
        for name, groups in scored.items():
            results.append(compare_scoring(name, model, tokenizer, groups, rounds))
    environment = describe(device) | {"ceilings": measure_ceilings(device, ("fp32",))}
    report = {"environment": environment, "results": results}
    report |= bench_speculation.run(args.data_root, args.quick)
    line = json.dumps(report)
    if args.output:
        args.output.write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
