"""Speculative decoding against its peers, interleaved in one process, with 95 % bootstrap intervals.

The embedded models in fp32 and bf16, greedy. On each prompt, one after another, the order reversed
on every other prompt:
  native K = 0; native with draft-medium and with prompt lookup at several K;
  transformers' assisted generation with draft-medium at the same true K
Then the measured costs of draft and verification, and from them the replay's prediction. Last, the
same question to `--plan` and to the sweep, each timed as a whole. The last line printed is JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

import bitdraft
from bitdraft.backends.native import NativeSpeculation
from bitdraft.backends.transformers import TransformersSpeculation
from bitdraft.checkpoints import find_checkpoint, load_tokenizer, text_encoder
from bitdraft.config import DecodingConfig, ModelConfig, Precision, SamplingConfig, TextConfig
from bitdraft.engine.agreement import greedy_agreement
from bitdraft.environment import describe
from bitdraft.metrics import decode_speed_ratio, speed_ratio
from bitdraft.models import load_model
from bitdraft.results import Figure, Generation
from bitdraft.spec_decode.costs import measure_costs
from bitdraft.spec_decode.replay import expected, model_chain
from bitdraft.spec_decode.theory import gather_costs, replay_speedup
from bitdraft.tables import times_text
from bitdraft.texts import load_dataset, select_prompts
from bitdraft.timing import now

DRAFT = "draft-medium"
MODEL_KS, LOOKUP_KS = (2, 3, 4, 5, 6), (4, 8)
CPU = torch.device("cpu")
Arm = tuple[str, str | None, int]  # backend, draft, K


def load(name: str, precision: Precision) -> Any:
    config = ModelConfig(model=f"demo/{name}")
    return load_model(find_checkpoint(config), precision, CPU, config).model


def prompts_of(text: TextConfig) -> list[list[int]]:
    model = ModelConfig()
    encode = text_encoder(load_tokenizer(find_checkpoint(model), model))
    return [list(prompt.token_ids) for prompt in select_prompts(load_dataset(text), text, encode)]


def compare(precision: Precision, prompts: list[list[int]], rounds: int) -> dict[str, Any]:
    config, greedy = DecodingConfig(max_new_tokens=100), SamplingConfig()
    native = NativeSpeculation(
        load("target", precision), {DRAFT: load(DRAFT, precision), "ngram": None}, 2048, greedy
    )
    peer = TransformersSpeculation(load("target", precision), {DRAFT: load(DRAFT, precision)}, 2048, greedy)
    sides: dict[str, Any] = {"native": native, "transformers": peer}
    arms: list[Arm] = [("native", None, 0)]
    arms += [(side, DRAFT, k) for k in MODEL_KS for side in sides]
    arms += [("native", "ngram", k) for k in LOOKUP_KS]
    runs: dict[Arm, list[Generation]] = {arm: [] for arm in arms}
    samples, chains = [], []
    for turn in range(-1, rounds):  # the first turn warms up, on two prompts
        for place, prompt in enumerate(prompts if turn >= 0 else prompts[:2]):
            for side in sides.values():
                side.prepare(prompt, config)
            for arm in arms if (turn + place) % 2 else reversed(arms):
                run = sides[arm[0]].decode(config, arm[1], arm[2], 0)
                if turn >= 0:
                    runs[arm].append(run)
            if turn >= 0:
                text = runs["native", None, 0][-1].token_ids
                ks = dict.fromkeys((*MODEL_KS, *LOOKUP_KS))
                samples.append(
                    measure_costs(native, prompt, text, ks=sorted(ks), drafts=[DRAFT, "ngram"], num_rounds=3)
                )
                agrees, _ = greedy_agreement(native.runner(DRAFT), prompt, text)
                chains.append(model_chain(agrees, 1, config.max_new_tokens))
    return report(precision, runs, samples, chains)


def report(
    precision: Precision, runs: dict[Arm, list[Generation]], samples: list[Any], chains: list[Any]
) -> dict[str, Any]:
    base, costs = runs["native", None, 0], gather_costs(samples)
    lines = []
    for (side, draft, k), found in runs.items():
        if side != "native" or draft is None:
            continue
        line: dict[str, Any] = {"draft": draft, "k": k, "over_k0": speed_ratio(found, base).model_dump()}
        text = f"{precision} {draft} K = {k}: over K = 0 {times_text(speed_ratio(found, base))}"
        if draft == DRAFT:
            peer = speed_ratio(found, runs["transformers", draft, k])
            predicted = replay_speedup(expected(chains, k), draft, costs)
            measured = decode_speed_ratio(found, base)
            assert measured is not None
            share = Figure(
                **{n: v / predicted for n, v in measured.model_dump(exclude={"n", "median"}).items()}
            )
            line |= {"over_transformers": peer.model_dump(), "of_prediction": share.model_dump()}
            text += f", over transformers {times_text(peer)}, of the prediction {times_text(share)}"
        num_steps = sum(len(run.steps) for run in found)
        line["step_ms"] = {
            phase: 1000 * sum(run.phase_s[phase] for run in found) / num_steps for phase in found[0].phase_s
        }
        line["tokens_per_step"] = (len(found) * 99) / num_steps
        line["same_ids"] = sum(a.token_ids == b.token_ids for a, b in zip(found, base, strict=True))
        parts = ", ".join(f"{phase} {value:.2f}" for phase, value in line["step_ms"].items())
        print(
            f"{text}; {line['tokens_per_step']:.2f} tokens/step of {parts} ms; "
            f"{line['same_ids']}/{len(base)} same ids",
            flush=True,
        )
        lines.append(line)
    return {"precision": precision, "n": len(base), "lines": lines}


def compare_plan(text: TextConfig, precision: Precision) -> dict[str, Any]:
    """The same settings with and without `plan`: whole times, and what the plan's choice measured."""
    settings: dict[str, Any] = text.model_dump() | {"precision": precision, "device": "cpu"}
    start = now()
    plan = bitdraft.evaluate_spec_decode(**settings, plan=True)
    plan_s = now() - start
    start = now()
    sweep = bitdraft.evaluate_spec_decode(**settings)
    sweep_s = now() - start
    rows = {(row.draft, row.k): row for row in sweep.rows}
    best = max(sweep.rows, key=lambda row: row.metrics["throughput_tok_s"].value)
    chosen = plan.verdict["draft"], plan.verdict["k"]
    low, high = best.metrics["throughput_tok_s"].low, best.metrics["throughput_tok_s"].high
    found = rows[chosen].metrics["throughput_tok_s"].value
    print(
        f"plan ({precision}): {chosen[0]}, K = {chosen[1]} in {plan_s:.1f} s; sweep: {best.draft}, K = {best.k} "
        f"in {sweep_s:.1f} s ({plan_s / sweep_s:.3f}); the plan's choice measures {found:.1f} tokens/s, the "
        f"sweep's best {best.metrics['throughput_tok_s'].value:.1f} [{low:.1f}, {high:.1f}]",
        flush=True,
    )
    return {
        "precision": precision,
        "plan_s": plan_s,
        "sweep_s": sweep_s,
        "chosen": chosen,
        "best": (best.draft, best.k),
        "chosen_tok_s": found,
        "best_tok_s": best.metrics["throughput_tok_s"].model_dump(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a fifth of the work, for a look")
    parser.add_argument("--data-root", type=Path, help="WikiText-2 from here; else the standard library")
    parser.add_argument("--output", type=Path, help="also write the JSON here")
    args = parser.parse_args()
    transformers_logging.set_verbosity_error()
    num_prompts, rounds = (6, 1) if args.quick else (15, 2)
    text = TextConfig(
        dataset="wikitext" if args.data_root else "stdlib",
        data_root=args.data_root,
        num_prompts=num_prompts,
        max_prompt_tokens=256,
    )
    prompts = prompts_of(text)
    results = [compare(precision, prompts, rounds) for precision in ("fp32", "bf16")]
    plans = [] if args.quick else [compare_plan(text, "fp32")]
    line = json.dumps({"environment": describe(CPU), "speculation": results, "plan": plans})
    if args.output:
        args.output.write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
