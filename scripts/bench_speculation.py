"""Speculative decoding against its peers, interleaved in one process, with 95 % bootstrap intervals.

The embedded models in fp32 and bf16, greedy. On each prompt, one after another, the order reversed
on every other prompt:
  K = 0: native, native without recordings (engine.traced), transformers' `generate`
  native with draft models at several K, and transformers' assisted generation at the same true K
  native with prompt lookup
Then the measured costs of draft and verification, and from them the replay's prediction. Last, the
same question to `--plan` and to the sweep, each timed as a whole.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

import bitdraft
from bitdraft.backends.native import NativeSpeculation
from bitdraft.backends.transformers import TransformersSpeculation
from bitdraft.checkpoints import find_checkpoint, load_tokenizer, text_encoder
from bitdraft.config import (
    DecodingConfig,
    ModelConfig,
    Precision,
    SamplingConfig,
    SpecDecodeConfig,
    TextConfig,
)
from bitdraft.engine.agreement import greedy_agreement
from bitdraft.metrics import decode_span, speed_figures, speed_ratio
from bitdraft.models import load_model
from bitdraft.results import Figure, Generation
from bitdraft.spec_decode.costs import measure_costs
from bitdraft.spec_decode.replay import Chain, expected, model_chain
from bitdraft.spec_decode.theory import Costs, gather_costs, replay_seconds
from bitdraft.stats import ratio_of_rates
from bitdraft.tables import times_text
from bitdraft.texts import load_dataset, select_prompts
from bitdraft.timing import now

DRAFTS = ("draft-small", "draft-medium")
MODEL_KS, LOOKUP_KS = (2, 3, 4, 6), (4, 8)
NEW_TOKENS, NUM_WARMUP = 100, 2
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
CPU = torch.device("cpu")
Arm = tuple[str, str | None, int]  # side, draft, K


def load(name: str, precision: Precision) -> Any:
    config = ModelConfig(model=f"demo/{name}")
    return load_model(find_checkpoint(config), precision, CPU, config).model


def prompts_of(text: TextConfig) -> list[list[int]]:
    model = ModelConfig()
    encode = text_encoder(load_tokenizer(find_checkpoint(model), model))
    return [list(prompt.token_ids) for prompt in select_prompts(load_dataset(text), text, encode)]


def sides_of(precision: Precision) -> dict[str, Any]:
    """The engine, the engine without recordings, and transformers; each with models of its own."""
    greedy = SamplingConfig()

    def models() -> tuple[Any, dict[str, Any]]:
        return load("target", precision), {name: load(name, precision) for name in DRAFTS}

    target, drafts = models()
    plain, plain_drafts = models()
    return {
        "native": NativeSpeculation(target, drafts | {"ngram": None}, 2048, greedy),
        "eager": NativeSpeculation(plain, plain_drafts, 2048, greedy, execution="eager"),
        "transformers": TransformersSpeculation(*models(), 2048, greedy),
    }


def compare(precision: Precision, prompts: list[list[int]]) -> dict[str, Any]:
    config, sides = DecodingConfig(max_new_tokens=NEW_TOKENS), sides_of(precision)
    costs_of = SpecDecodeConfig(k=MODEL_KS, max_new_tokens=NEW_TOKENS)
    native = sides["native"]
    arms: list[Arm] = [(side, None, 0) for side in sides]
    arms += [(side, draft, k) for draft in DRAFTS for k in MODEL_KS for side in ("native", "transformers")]
    arms += [("eager", draft, 3) for draft in DRAFTS]
    arms += [("native", "ngram", k) for k in LOOKUP_KS]
    runs: dict[Arm, list[Generation]] = {arm: [] for arm in arms}
    samples, chains = [], {draft: list[Chain]() for draft in DRAFTS}
    for place, prompt in enumerate([*prompts[:NUM_WARMUP], *prompts]):
        for side in sides.values():
            side.prepare(prompt, config)
        for arm in arms if place % 2 else reversed(arms):
            runs[arm].append(sides[arm[0]].decode(config, arm[1], arm[2], 0))
        text = runs["native", None, 0][-1].token_ids
        samples.append(measure_costs(native, prompt, text, costs_of, DRAFTS, 3))
        for draft in DRAFTS:
            agrees, _ = greedy_agreement(native.runner(draft), prompt, text)
            chains[draft].append(model_chain(agrees, 1, NEW_TOKENS))
    records: list[list[Any]] = [samples, *runs.values(), *chains.values()]
    for gathered in records:
        del gathered[:NUM_WARMUP]
    return report(precision, runs, gather_costs(samples), chains)


def of_prediction(
    found: list[Generation], base: list[Generation], predicted_s: list[float], plain_s: list[float]
) -> Figure:
    """Measured speedup after the prefill / the replay's, prompts paired."""
    measured_s, base_s = ([decode_span(run)[0] for run in side] for side in (found, base))
    return ratio_of_rates(predicted_s, measured_s, plain_s, base_s)


def report(
    precision: Precision, runs: dict[Arm, list[Generation]], costs: Costs, chains: dict[str, list[Chain]]
) -> dict[str, Any]:
    base = runs["native", None, 0]
    lines = []
    for (side, draft, k), found in runs.items():
        if side == "transformers" and draft is not None:
            continue  # the peer of a native line
        line: dict[str, Any] = {"side": side, "draft": draft, "k": k}
        figures = {} if found is base else {"over_k0": speed_ratio(found, base)}
        if side == "native" and draft != "ngram":
            figures["over_transformers"] = speed_ratio(found, runs["transformers", draft, k])
        if side == "native" and draft in DRAFTS:
            own = chains[str(draft)]
            predicted_s = [replay_seconds(expected([chain], k), str(draft), costs) for chain in own]
            plain_s = [costs.target_s[1] * (chain.num_tokens - chain.first) for chain in own]
            figures["of_prediction"] = of_prediction(found, base, predicted_s, plain_s)
        num_steps = sum(len(run.steps) for run in found)
        if side != "transformers" and num_steps:
            line["step_ms"] = {
                phase: 1000 * sum(run.phase_s[phase] for run in found) / num_steps
                for phase in found[0].phase_s
            }
            line["tokens_per_step"] = len(found) * (NEW_TOKENS - 1) / num_steps
        line["same_ids"] = sum(a.token_ids == b.token_ids for a, b in zip(found, base, strict=True))
        line["tok_s"] = speed_figures(found)["throughput_tok_s"].value
        shown = ", ".join(f"{name} {times_text(figure)}" for name, figure in figures.items())
        parts = {name: round(value, 2) for name, value in line.get("step_ms", {}).items()}
        print(
            f"{precision} {side} {draft} K = {k}: {line['tok_s']:.0f} tokens/s; {shown}; step {parts} ms, "
            f"{line.get('tokens_per_step', 1):.2f} tokens; {line['same_ids']}/{len(base)} same ids",
            flush=True,
        )
        lines.append(line | {name: figure.model_dump() for name, figure in figures.items()})
    return {"precision": precision, "n": len(base), "costs": asdict(costs), "lines": lines}


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
    value = best.metrics["throughput_tok_s"].value
    print(
        f"plan ({precision}): {chosen[0]}, K = {chosen[1]} in {plan_s:.1f} s; "
        f"sweep: {best.draft}, K = {best.k} in {sweep_s:.1f} s (ratio {plan_s / sweep_s:.3f}); "
        f"the plan's choice measures {found:.1f} tokens/s, the best {value:.1f} [{low:.1f}, {high:.1f}]",
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


def run(data_root: Path | None, quick: bool) -> dict[str, Any]:
    """All of it, on WikiText-2 where its folder is given, else on the standard library."""
    transformers_logging.set_verbosity_error()
    text = TextConfig(
        dataset="wikitext" if data_root else "stdlib",
        data_root=data_root,
        num_prompts=6 if quick else 20,
        max_prompt_tokens=256,
    )
    prompts = prompts_of(text)
    results = [compare(precision, prompts) for precision in PRECISIONS]
    return {"speculation": results, "plan": [] if quick else [compare_plan(text, "fp32")]}
