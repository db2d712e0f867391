"""The sweep of a check on a GPU: drafts × stated acceptances × K against K = 0."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import bench_prediction
from bench_prediction import prediction, steps_of
from benchmarks import dumped, interleave, same_ids, same_texts, say, table, tokens_per_step
from bitdraft.backends.native import NativeEngine
from bitdraft.config import SpecDecodeConfig
from bitdraft.metrics.speed import decode_speed_ratio, speed_figures, speed_ratio
from bitdraft.probes.clock import now
from bitdraft.schema.records import Generation
from bitdraft.spec_decode.costs import measure_costs
from bitdraft.spec_decode.replay import Chain, model_chain
from bitdraft.spec_decode.synthetic import Text, agreement_bits, run_with_oracle
from bitdraft.spec_decode.theory import CostSample, gather_costs
from gpu_budget import Budget, Point, affordable, by_importance, dropped_text
from gpu_common import Check, Part

WARM_UP_SHARE = 0.4
SWEEP_COLUMNS = {
    "draft": ("draft", 0),
    "alpha": ("α", 1),
    "k": ("K", 0),
    "tok_s": ("tokens/s", 0),
    "over_k0": ("/ K = 0", 2),
    "decode_over_k0": ("/ K = 0, after the prefill", 2),
    **bench_prediction.COLUMNS,
    "same_ids": ("ids as K = 0", 0),
    "followed": ("ids as told", 0),
}


def _seconds(function: Callable[..., object], *inputs: Any) -> float:
    start_s = now()
    function(*inputs)
    return now() - start_s


def sweep(check: Check, reserve_s: float) -> Part:
    """Drafts × acceptances × K against K = 0 in turn on each prompt; the least important points are dropped
    where their warm-up says that they do not fit."""
    sizes = check.sizes
    bench = Sweep(check, check.decoder())
    prompts = list(enumerate(check.prompts(sizes.num_prompts)))
    points = by_importance(sizes.drafts, sizes.alphas, sizes.ks)
    available_s = check.budget.left_s(reserve_s)
    seconds = bench.warm_up(prompts[0], points, WARM_UP_SHARE * available_s)
    each_s = check.budget.left_s(reserve_s) / len(prompts) - bench.fixed_s
    kept, dropped = affordable(points, seconds, each_s)
    bench.points = kept
    if dropped:
        check.not_run.append(f"no time for {len(dropped)} points of the sweep: {dropped_text(dropped)}")
    arms: dict[Point | None, Callable[[Any], Generation]] = {
        point: lambda _, point=point: bench.decode(point)  # type: ignore[misc]
        for point in (None, *kept)
    }
    runs = interleave(
        arms,
        prompts,
        "sweep",
        before=lambda item: bench.begin(*item),
        after=bench.measure,
        num_warmup=0,
        has_time=lambda: check.budget.left_s(reserve_s) > 0,
    )
    if len(runs[None]) < len(prompts):
        check.not_run.append(f"sweep: only {len(runs[None])} of {len(prompts)} prompts, no time for more")
    lines = [bench.line_of(point, runs) for point in sorted(kept)]
    how_run = bench.decoder.execution(None)
    execution = how_run["execution"]
    if check.settings.device.type == "cuda" and "graphs" not in execution:
        check.not_run.append(f"CUDA graphs: none was captured, the sweep ran {execution}")
    how = (
        f"Native, {execution}, prepared in {how_run['preparation_s']:.1f} s; "
        f"{len(runs[None])} prompts. "
        "The bound is the replay's at measured costs."
    )
    text = ["## Speculation", how, table(SWEEP_COLUMNS, lines) if lines else "No point was run."]
    return Part("\n\n".join(text), {"lines": [dumped(line) for line in lines], "costs": bench.samples})


@dataclass
class Sweep:
    check: Check
    decoder: NativeEngine
    samples: list[dict[str, Any]] = field(default_factory=list)
    chains: dict[float, list[Chain]] = field(default_factory=dict)
    bits: dict[float, list[bool]] = field(default_factory=dict)
    followed: dict[Point, list[Text]] = field(default_factory=dict)
    points: Sequence[Point] = ()
    fixed_s: float = 0.0
    text: Text = ()

    @property
    def drafts(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(point.draft for point in self.points))

    def begin(self, index: int, prompt: list[int]) -> None:
        """Prefill; the target's text, and where drafts will agree with it at each acceptance."""
        self.decoder.prepare(prompt, self.check.config)
        self.text = self.decode(None).token_ids
        for alpha in self.check.sizes.alphas:
            self.bits[alpha] = agreement_bits(alpha, len(self.text), 0, index)
            chain = model_chain(self.bits[alpha], 1, self.check.config.max_new_tokens)
            self.chains.setdefault(alpha, []).append(chain)

    def decode(self, point: Point | None) -> Generation:
        config = self.check.config
        if point is None:
            return self.decoder.decode(config, None, 0, 0)

        def run(oracle_ids: list[list[int]]) -> list[Generation]:
            return [self.decoder.decode(config, point.draft, point.k, 0, oracle_ids[0])]

        bits, vocab_size = self.bits[point.alpha], self.check.sizes.vocab_size
        runs, texts = run_with_oracle(run, [self.text], [bits], vocab_size)
        self.followed.setdefault(point, []).extend(texts)
        return runs[0]

    def measure(self, _place: int, item: tuple[int, list[int]]) -> None:
        """Costs of the target, and of the drafts in use: any other has not read the prompt."""
        sizes = self.check.sizes
        costs_of = SpecDecodeConfig(k=sizes.ks, max_new_tokens=sizes.new_tokens)
        self.samples.append(measure_costs(self.decoder, item[1], self.text, costs_of, self.drafts, 3))

    def warm_up(
        self, item: tuple[int, list[int]], points: Sequence[Point], within_s: float
    ) -> dict[Point, float]:
        """Seconds of each point, captured before; those that there was no time for are missing. Costs and
        the rest of a prompt are in `fixed_s`."""
        clock = Budget(within_s)
        self.begin(*item)
        seconds: dict[Point, float] = {}
        captured: set[tuple[str, int]] = set()
        for point in points:
            if clock.left_s() < 0:
                break
            if (point.draft, point.k) not in captured:
                say(f"sweep: warm-up of {point.draft}, K = {point.k}")
                self.decoder.decode(self.check.config, point.draft, point.k, 0)
                captured.add((point.draft, point.k))
            seconds[point] = _seconds(self.decode, point)
        self.points = list(seconds)
        self.measure(0, item)
        self.fixed_s = _seconds(self.measure, 0, item) + 2 * _seconds(self.decode, None)
        self.fixed_s += _seconds(self.begin, *item)
        for records in (self.samples, self.chains, self.followed):
            records.clear()
        return seconds

    def line_of(self, point: Point, runs: Mapping[Point | None, list[Generation]]) -> dict[str, Any]:
        found, base = runs[point], runs[None]
        costs = gather_costs([CostSample.of(own) for own in self.samples])
        chains = self.chains[point.alpha]
        return {
            **point._asdict(),
            "tok_s": speed_figures(found)["throughput_tok_s"].value,
            "over_k0": speed_ratio(found, base),
            "decode_over_k0": decode_speed_ratio(found, base),
            "tokens_per_step": tokens_per_step(found, point.k),
            "same_ids": same_ids(found, base),
            "followed": same_texts(found, self.followed[point]),
            **prediction(chains, (point.draft, point.k), (found, base), costs),
            **steps_of(found),
        }
