"""Speculative decoding at equal true K against its peers, interleaved in one process.

Embedded models: on each prompt, K = 0 and each draft at several K run natively (static, compiled, and eager
at one K) and by transformers (`generate`, assisted generation); prompt lookup runs natively alone.
Random weights: pythia-410m with a pythia-70m draft at a synthetic acceptance of 0.8, natively; transformers
cannot be made to accept at a rate, so it is no peer there.
Each line stands against K = 0 in its own execution, against transformers at the same K, and against the
prediction: the replay's steps at costs measured in its own execution. `bound` is that prediction's speedup.
Last, the embedded question to `--plan` and to the sweep, each timed as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

import bench_prediction
from bench_plan import compare_plan
from bench_prediction import prediction, steps_of
from benchmarks import (
    PRECISIONS,
    Report,
    Settings,
    dumped,
    interleave,
    load_all,
    prompts_of,
    same_ids,
    same_texts,
    say,
    table,
    tokens_per_step,
)
from bitdraft.backends.base import EngineSetup
from bitdraft.backends.native import NativeEngine
from bitdraft.backends.transformers import TransformersEngine
from bitdraft.config import MOST_K, DecodingConfig, Execution, Precision, SamplingConfig, SpecDecodeConfig
from bitdraft.engine.agreement import greedy_agreement
from bitdraft.engine.drafters.lookup import NgramDrafter
from bitdraft.metrics.speed import decode_speed_ratio, speed_figures, speed_ratio
from bitdraft.schema.records import Generation
from bitdraft.spec_decode.costs import measure_costs
from bitdraft.spec_decode.replay import Chain, lookup_chain, model_chain
from bitdraft.spec_decode.synthetic import Text, agreement_bits, run_with_oracle
from bitdraft.spec_decode.theory import Costs, CostSample, gather_costs
from speculation_picture import picture

MODEL_KS, LOOKUP_KS, EAGER_K = (2, 3, 4, 6), (4, 8), 3
ALPHA = 0.8
LOOKUP, PEER = "ngram", "transformers"
GREEDY = SamplingConfig()
COST_ROUNDS = 3
Arm = tuple[str, str | None, int]
"""Side (an execution of the native engine, or transformers), draft, K"""
COLUMNS = {
    "pair": ("target", 0),
    "precision": ("precision", 0),
    "what": ("what", 0),
    "tok_s": ("tokens/s", 0),
    "over_k0": ("/ own K = 0", 2),
    "over_transformers": ("/ transformers, same K", 2),
    **bench_prediction.COLUMNS,
    "same_ids": ("ids as K = 0", 0),
    "followed": ("ids as told", 0),
}


@dataclass(frozen=True)
class Pair:
    """A target, its drafts by label, and the acceptance that they are made to have, if one is stated."""

    target: str
    drafts: Mapping[str, str]
    alpha: float | None
    ks: tuple[int, ...]
    num_tokens: int
    vocab_size: int


PAIRS = (
    Pair(
        "demo/target",
        {"draft-small": "demo/draft-small", "draft-medium": "demo/draft-medium"},
        None,
        MODEL_KS,
        100,
        2048,
    ),
    Pair("pythia-410m", {"pythia-70m": "pythia-70m"}, ALPHA, (1, 2, 3, 4, 6, 8), 48, 50_304),
)


@dataclass
class Bench:
    """One pair at one precision. `samples` are the costs, `chains` the replay's, `followed` the texts that
    drafts with oracle tokens followed, a prompt each."""

    pair: Pair
    precision: Precision
    config: DecodingConfig
    sides: dict[str, Any]
    samples: dict[str, list[Any]] = field(default_factory=dict)
    chains: dict[str, list[Chain]] = field(default_factory=dict)
    followed: dict[Arm, list[Text]] = field(default_factory=dict)
    bits: Sequence[bool] = ()
    text: Text = ()

    @property
    def native(self) -> list[str]:
        return [side for side in self.sides if side != PEER]

    def arms(self) -> list[Arm]:
        arms: list[Arm] = [(side, None, 0) for side in self.sides]
        for draft in self.pair.drafts:
            for side in self.sides:
                ks = (EAGER_K,) if side == "eager" else self.pair.ks
                arms += [(side, draft, k) for k in ks]
        if self.pair.alpha is None:
            arms += [(side, LOOKUP, k) for side in self.native if side != "eager" for k in LOOKUP_KS]
        return arms

    def decode(self, arm: Arm) -> Generation:
        side, draft, k = arm
        if self.pair.alpha is None or draft is None:
            found: Generation = self.sides[side].decode(self.config, draft, k, 0)
            return found

        def run(oracle_ids: list[list[int]]) -> list[Generation]:
            return [self.sides[side].decode(self.config, draft, k, 0, oracle_ids[0])]

        runs, texts = run_with_oracle(run, [self.text], [self.bits], self.pair.vocab_size)
        self.followed.setdefault(arm, []).extend(texts)
        return runs[0]

    def begin(self, place: int, prompt: list[int]) -> None:
        """Prefill on every side; the target's text, and where drafts will agree with it."""
        for side in self.sides.values():
            side.prepare(prompt, self.config)
        self.text = self.decode(("static", None, 0)).token_ids
        if self.pair.alpha is not None:
            self.bits = agreement_bits(self.pair.alpha, len(self.text), 0, max(place, 0))

    def measure(self, place: int, prompt: list[int]) -> None:
        """Costs in each execution, and where each draft agrees."""
        costs_of = SpecDecodeConfig(k=self.pair.ks, max_new_tokens=self.config.max_new_tokens)
        labels = [*self.pair.drafts, *([LOOKUP] if self.pair.alpha is None else [])]
        if place < 0:
            return
        for side in self.native:
            found = measure_costs(self.sides[side], prompt, self.text, costs_of, labels, COST_ROUNDS)
            self.samples.setdefault(side, []).append(found)
        for label in labels:
            self.chains.setdefault(label, []).append(self._chain(label, prompt))

    def _chain(self, label: str, prompt: list[int]) -> Chain:
        limit = self.config.max_new_tokens
        if label == LOOKUP:
            lookup, text = NgramDrafter(torch.device("cpu"), self.pair.vocab_size), [*prompt, *self.text]
            lookup.start([prompt], len(text))
            proposals = [[], *lookup.proposals(text, len(prompt) + 1, MOST_K)]
            return lookup_chain(proposals, self.text, 1, limit)
        if self.pair.alpha is not None:
            return model_chain(self.bits, 1, limit)
        agrees, _ = greedy_agreement(self.sides["static"].runner(label), prompt, self.text)
        return model_chain(agrees, 1, limit)


def sides_of(pair: Pair, precision: Precision, settings: Settings) -> dict[str, Any]:
    """The executions share models; transformers has models of its own."""

    def models() -> tuple[Any, dict[str, Any]]:
        target, *drafts = load_all([pair.target, *pair.drafts.values()], precision, settings.device)
        return target, dict(zip(pair.drafts, drafts, strict=True))

    target, drafts = models()
    executions: list[Execution] = ["static", "eager"]
    if settings.may_compile(pair.target):
        executions.insert(1, "compiled")
    lookup: dict[str, Any] = {LOOKUP: None} if pair.alpha is None else {}
    sides: dict[str, Any] = {
        execution: NativeEngine(
            EngineSetup(target, drafts | lookup, GREEDY, execution=execution, capacity=512)
        )
        for execution in executions
    }
    if pair.alpha is None:
        sides[PEER] = TransformersEngine(EngineSetup(*models(), GREEDY))
    return sides


def compare(
    pair: Pair, precision: Precision, prompts: list[list[int]], settings: Settings
) -> list[dict[str, Any]]:
    num_tokens = 24 if settings.quick else pair.num_tokens
    config = DecodingConfig(max_new_tokens=num_tokens)
    bench = Bench(pair, precision, config, sides_of(pair, precision, settings))
    items = list(enumerate(prompts))
    arms: dict[Arm, Callable[[tuple[int, list[int]]], Generation]] = {
        arm: lambda _, arm=arm: bench.decode(arm)  # type: ignore[misc]
        for arm in bench.arms()
    }
    runs = interleave(
        arms,
        items,
        f"speculation, {pair.target}, {precision}",
        before=lambda item: bench.begin(*item),
        after=lambda place, item: bench.measure(place, item[1]),
    )
    costs = {
        side: gather_costs([CostSample.of(own) for own in samples]) for side, samples in bench.samples.items()
    }
    return [line_of(bench, arm, runs, costs) for arm in runs]


def line_of(
    bench: Bench, arm: Arm, runs: Mapping[Arm, list[Generation]], costs: Mapping[str, Costs]
) -> dict[str, Any]:
    side, draft, k = arm
    found, base = runs[arm], runs[side, None, 0]
    who = side if side == PEER else f"native {side}"
    name = bench.pair.target + (f", α = {bench.pair.alpha}" if bench.pair.alpha is not None else "")
    line: dict[str, Any] = {
        "pair": name,
        "precision": bench.precision,
        "what": f"{who}, K = 0" if draft is None else f"{who}, {draft}, K = {k}",
        "side": side,
        "draft": draft,
        "k": k,
        "tok_s": speed_figures(found)["throughput_tok_s"].value,
        "same_ids": same_ids(found, runs["static", None, 0]),
        "n": len(found),
    }
    peer = runs.get((PEER, draft, k))
    if peer is not None and side != PEER:
        line["over_transformers"] = speed_ratio(found, peer)
    if draft is None:
        return line
    line["over_k0"] = speed_ratio(found, base)
    line["decode_over_k0"] = decode_speed_ratio(found, base)
    line["tokens_per_step"] = tokens_per_step(found, k)
    texts = bench.followed.get(arm, [])[-len(found) :]  # behind those of the warm-up
    if texts:
        line["followed"] = same_texts(found, texts)
    if side != PEER:
        line |= prediction(bench.chains[draft], (draft, k), (found, base), costs[side]) | steps_of(found)
    return line


def run(settings: Settings) -> Report:
    lines: list[dict[str, Any]] = []
    for pair in PAIRS:
        if pair.target not in settings.picks([pair.target]):
            continue
        num_prompts = 5 if settings.quick else 20 if pair.alpha is None else 10
        prompts = prompts_of(settings, num_prompts, 256)
        for precision in PRECISIONS:
            torch.compiler.reset()
            lines += compare(pair, precision, prompts, settings)
    say("speculation: plan and sweep")
    asks = not settings.quick and bool(settings.picks(["demo/target"]))
    plan = [compare_plan(settings, "fp32")] if asks else []
    text = ["## Speculation", table(COLUMNS, lines), *(entry["text"] for entry in plan)]
    record = {"lines": [dumped(line) for line in lines], "plan": plan}
    return Report("speculation", record, "\n\n".join(text), picture(lines))
