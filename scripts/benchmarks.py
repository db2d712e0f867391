"""bitdraft against its peers, interleaved in one process, as ratios with 95 % bootstrap intervals.

Two comparisons, both on the embedded target in fp32 and on held-out standard-library text:
  decoding  tokens/s of the native backend at K = 0 against transformers' `generate`
  scoring   scored tokens/s against lm-evaluation-harness on the same windows at batch size 1

Each item (a prompt, a window) is run by both sides directly after one another, the order swapped
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

from bitdraft.backends import BACKENDS
from bitdraft.checkpoints import find_checkpoint, load_tokenizer
from bitdraft.config import DecodingConfig, ModelConfig, TextConfig
from bitdraft.engine.runner import Runner
from bitdraft.engine.scoring import score_window
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


def compare_decoding(
    model: Any, prompts: list[list[int]], config: DecodingConfig, rounds: int
) -> dict[str, Any]:
    backends = [BACKENDS["native"](model), BACKENDS["transformers"](model)]
    for prompt in prompts[:2]:
        first, second = (backend(prompt, config).token_ids for backend in backends)
        assert first == second, "the two backends disagree"
    sides = [lambda prompt, run=run: request_seconds(run(prompt, config)) for run in backends]
    work = [config.max_new_tokens] * len(prompts)
    return summary("decoding", "transformers generate", work, interleave(sides, prompts, rounds), rounds)


def compare_scoring(model: Any, tokenizer: Any, windows: list[Window], rounds: int) -> dict[str, Any]:
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(
        pretrained=model, tokenizer=tokenizer, batch_size=1, max_length=2048, device=str(model.device)
    )
    runner = Runner(model)

    def ours(window: Window) -> float:
        return float(score_window(runner, window.token_ids, window.first_scored, 256)[0].double().sum())

    def theirs(window: Window) -> float:
        context, continuation = list(window.token_ids[:1]), list(window.token_ids[1:])
        return float(
            harness._loglikelihood_tokens([(("", ""), context, continuation)], disable_tqdm=True)[0][0]
        )

    for window in windows[:2]:
        assert abs(ours(window) / theirs(window) - 1) < 1e-5, "the two log-likelihoods differ"

    def timed(run: Callable[[Window], float]) -> Side:
        def seconds(window: Window) -> float:
            start = now()
            run(window)
            return now() - start

        return seconds

    work = [window.num_scored for window in windows]
    sides = [timed(ours), timed(theirs)]
    return summary("scoring", "lm-evaluation-harness", work, interleave(sides, windows, rounds), rounds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a fifth of the work, for a look")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, help="also write the JSON here")
    args = parser.parse_args()
    num_prompts, num_windows, rounds = (4, 6, 1) if args.quick else (15, 24, 3)
    checkpoint = find_checkpoint(MODEL)
    tokenizer, device = load_tokenizer(checkpoint, MODEL), resolve_device(args.device)

    def encode(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)

    text = TextConfig(num_prompts=num_prompts, max_prompt_tokens=256)
    dataset = load_dataset(text)
    prompts = [list(prompt.token_ids) for prompt in select_prompts(dataset, text, encode)]
    windows = [
        window
        for index, row in enumerate(dataset.rows)
        for window in rolling_windows(encode(row), tokenizer.bos_token_id, 2048, index)
    ][:num_windows]
    model = load_model(checkpoint, "fp32", device, MODEL).model
    with torch.inference_mode():
        results = [
            compare_decoding(model, prompts, DecodingConfig(max_new_tokens=100), rounds),
            compare_scoring(model, tokenizer, windows, rounds),
        ]
    report = {
        "environment": describe(device) | {"ceilings": measure_ceilings(device, ("fp32",))},
        "results": results,
    }
    line = json.dumps(report)
    if args.output:
        args.output.write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
