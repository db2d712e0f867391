"""Populations whose truth is known, for simulations of intervals and verdicts: what an experiment of n items
reports, by the project's own functions, and what is true.

Requests have log-normal times. Speedups differ from prompt to prompt as gamma variables do, or with the heavy
tail of prompt lookup. Acceptance differs as beta variables do. A text's log-probabilities are alike within a
passage: an autoregression from block to block, as strong as it is in real text.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitdraft.compare.gate import Limits, regressions_of
from bitdraft.compare.measured import Measured
from bitdraft.compare.pairing import Rounds
from bitdraft.compare.rows import Pair, compare_rows
from bitdraft.compare.verdict import held_together
from bitdraft.config import RecommendConfig, SpecDecodeConfig
from bitdraft.metrics.acceptance import SHARE_SCALE, STEP_SCALE
from bitdraft.metrics.quality import over_text
from bitdraft.precision.verdict import decide as decide_precision
from bitdraft.precision.verdict import process_noise, ratio_of_rows
from bitdraft.recommend.choose import choose
from bitdraft.recommend.options import Option, measured_options
from bitdraft.schema.comparison import Comparison, RowName, Side
from bitdraft.schema.precision import PrecisionRaw, PrecisionRow, Quality
from bitdraft.schema.records import Figure, Generation
from bitdraft.schema.spec_decode import CostRecord, SpecDecodeResult, SpecDecodeRow
from bitdraft.spec_decode.verdict import decide
from bitdraft.stats.intervals import LINEAR, median_figure, ratio_of_rates, ratio_of_sums

Floats = NDArray[np.float64]
Random = np.random.Generator
SIZES = (5, 8, 10, 15, 20, 40)
NUM_TRUTH = 1_000_000
TOKENS, K, BLOCK = 100.0, 4, 256


@dataclass(frozen=True)
class Population:
    """`report` is the figure of one experiment of n items; `truth` what it is for ever more of them."""

    name: str
    report: Callable[[Random, int], Figure]
    truth: float


def log_normal(rng: Random, n: int, sigma: float) -> Floats:
    """Times whose mean is 1 s."""
    return np.exp(sigma * rng.standard_normal(n) - sigma**2 / 2)


def gamma_speedups(rng: Random, n: int, shape: float) -> Floats:
    """From 0.7 on, 1.3 in the mean; the smaller the shape, the more skewed."""
    return 0.7 + 0.6 * rng.gamma(shape, 1 / shape, n)


def lookup_speedups(rng: Random, n: int) -> Floats:
    """Most prompts gain little, and some all that K allows."""
    return np.minimum(9.0, 1 + 0.4 * np.exp(rng.standard_normal(n)))


def times(sigma: float) -> Population:
    """Throughput."""

    def report(rng: Random, n: int) -> Figure:
        return ratio_of_sums(np.full(n, TOKENS), log_normal(rng, n, sigma))

    return Population(f"throughput, log-normal times, σ {sigma:g}", report, TOKENS)


def speedups(name: str, draw: Callable[[Random, int], Floats], sigma: float = 0.1) -> Population:
    """Of one configuration, beside plain decoding of the same prompts."""
    truth = 1 / float(np.mean(1 / draw(np.random.default_rng(1), NUM_TRUTH)))

    def report(rng: Random, n: int) -> Figure:
        base_s, tokens = log_normal(rng, n, sigma), np.full(n, TOKENS)
        return ratio_of_rates(tokens, base_s / draw(rng, n), tokens, base_s)

    return Population(f"speedup, {name}", report, truth)


def _kept_and_steps(rng: Random, n: int, a: float, b: float) -> tuple[Floats, Floats]:
    """Kept tokens and verifications of prompts of some 40 steps."""
    shares = rng.beta(a, b, n)
    chances = shares[:, None] ** np.arange(1, K + 1)
    steps = rng.integers(20, 60, n)
    return rng.binomial(steps[:, None], chances).sum(1).astype(float), steps.astype(float)


def acceptance(a: float, b: float, per_step: bool = False) -> Population:
    """Acceptance rate, or tokens per step, where prompts accept as a beta variable."""
    kept, steps = _kept_and_steps(np.random.default_rng(1), NUM_TRUTH // 10, a, b)
    truth = float(kept.sum() / steps.sum())

    def report(rng: Random, n: int) -> Figure:
        kept, steps = _kept_and_steps(rng, n, a, b)
        if per_step:
            return ratio_of_sums(kept + steps, steps, scale=STEP_SCALE)
        return ratio_of_sums(kept + steps, steps, lambda tau: (tau - 1) / K, SHARE_SCALE)

    name = "tokens per step" if per_step else "acceptance rate"
    return Population(f"{name}, beta({a:g}, {b:g})", report, 1 + truth if per_step else truth / K)


def text(correlation: float, blocks_per_item: int = 1) -> Population:
    """Perplexity over n items of so many blocks, of which each is alike to the next."""

    def report(rng: Random, n: int) -> Figure:
        noise = rng.standard_normal(n * blocks_per_item + 30)
        level = np.zeros_like(noise)
        for index in range(1, level.size):
            level[index] = correlation * level[index - 1] + math.sqrt(1 - correlation**2) * noise[index]
        mean = -3 + 0.3 * level[30:]
        return over_text(BLOCK * mean, np.full(mean.size, BLOCK), lambda value: np.exp(-value))

    what = "" if blocks_per_item == 1 else f", {blocks_per_item} blocks an item"
    return Population(f"perplexity, blocks alike by {correlation:g}{what}", report, math.exp(3))


def differences(degrees: float = 4) -> Population:
    """Δ ln PPL, whose blocks have heavy tails."""

    def report(rng: Random, n: int) -> Figure:
        return over_text(
            BLOCK * (0.001 + 0.002 * rng.standard_t(degrees, n)), np.full(n, BLOCK), scale=LINEAR
        )

    return Population("Δ ln PPL, heavy-tailed blocks", report, 0.001)


def medians(sigma: float) -> Population:
    """TTFT."""

    def report(rng: Random, n: int) -> Figure:
        return median_figure(np.exp(sigma * rng.standard_normal(n)))

    return Population(f"median, log-normal times, σ {sigma:g}", report, 1.0)


def all_populations() -> list[Population]:
    """Of the table in docs/metrics.md."""
    return [
        *(times(sigma) for sigma in (0.02, 0.1, 0.3)),
        *(
            speedups(f"gamma({shape:g})", lambda rng, n, shape=shape: gamma_speedups(rng, n, shape))  # type: ignore[misc]
            for shape in (1, 2, 4)
        ),
        speedups("heavy tail of prompt lookup", lookup_speedups),
        acceptance(2, 2),
        acceptance(5, 2),
        acceptance(2, 2, per_step=True),
        text(0.0),
        text(0.4, blocks_per_item=8),
        differences(),
        medians(0.3),
    ]


def holds(figure: Figure, truth: float) -> bool:
    """Whether its interval does; one without an interval is no experiment."""
    assert figure.low is not None
    assert figure.high is not None
    return figure.low <= truth <= figure.high


def coverage(
    population: Population, n: int, num_experiments: int, seed: int = 0
) -> tuple[float, float, float]:
    """Shares of experiments whose interval holds the truth, lies above it, and lies below it."""
    rng = np.random.default_rng([seed, n])
    held = above = 0
    for _ in range(num_experiments):
        figure = population.report(rng, n)
        held += holds(figure, population.truth)
        assert figure.low is not None
        above += figure.low > population.truth
    return held / num_experiments, above / num_experiments, 1 - (held + above) / num_experiments


# --- the best of sixteen ------------------------------------------------------------------------------------

NUM_ARMS = 16


@dataclass(frozen=True)
class Selection:
    """Of experiments in which the best of sixteen (draft, K) was chosen: the share that recommends it, the
    share that refuses to speculate (the others leave it open), and of the speedup that is told of it the mean
    error (a share of the true one) and how often its interval holds the truth."""

    recommended: float
    refused: float
    bias: float
    covered: float


class _Selected:
    """What is counted of them."""

    def __init__(self) -> None:
        self._answers: list[bool | None] = []
        self._errors: list[float] = []
        self._held: list[bool] = []

    def add(self, answer: bool | None, told: Figure, truth: float) -> None:
        self._answers.append(answer)
        self._errors.append(told.value / truth - 1)
        self._held.append(holds(told, truth))

    def shares(self) -> Selection:
        num = len(self._answers)
        recommended, refused = (self._answers.count(answer) / num for answer in (True, False))
        return Selection(recommended, refused, float(np.mean(self._errors)), sum(self._held) / num)


def _arms(rng: Random, kind: str, n: int, best: float, num_arms: int = NUM_ARMS) -> tuple[Floats, Floats]:
    """(seconds of plain decoding by prompt, those of the configurations), all of a true speedup of 1 but the
    last, whose is `best`. Prompts speed up alike in all configurations (`shared`, and with a long tail
    `skewed`), or each in a way of its own."""
    base_s = log_normal(rng, n, 0.3)
    own = 0.05 * rng.standard_normal((num_arms, n))
    if kind == "independent":
        own, mean = 0.15 * rng.standard_normal((num_arms, n)), math.exp(0.15**2 / 2)
    elif kind == "shared":
        own, mean = own + 0.15 * rng.standard_normal(n), math.exp((0.15**2 + 0.05**2) / 2)
    else:
        # the mean of exp(−0.2 (G − 1)) for a gamma variable G of shape 2 and mean 1
        own, mean = own + 0.2 * (rng.gamma(2, 1 / 2, n) - 1), math.exp(0.2 + 0.05**2 / 2) / 1.1**2
    speedup = np.exp(own) * mean
    speedup[-1] *= best
    return base_s, base_s / speedup


def _row(draft: str | None, k: int, seconds: Floats, base_s: Floats) -> SpecDecodeRow:
    tokens = np.full(seconds.size, TOKENS)
    metrics = {"throughput_tok_s": ratio_of_sums(tokens, seconds)}
    metrics["speedup"] = ratio_of_rates(tokens, seconds, tokens, base_s)
    metrics["ttft_ms"] = Figure(value=1.0)
    return SpecDecodeRow.model_construct(
        draft=draft,
        k=k,
        batch_size=1,
        status="ok",
        metrics=metrics,
        runs=_runs(seconds),
        groups=(),
        lossless=None,
    )


def _runs(seconds: Floats) -> tuple[Generation, ...]:
    ids = tuple(range(int(TOKENS)))
    return tuple(
        Generation.model_construct(
            prompt_tokens=1,
            submit_s=0.0,
            emissions=((float(second), int(TOKENS)),),
            token_ids=ids,
            finish_reason="length",
        )
        for second in seconds
    )


def selection(
    kind: str,
    n: int,
    best: float,
    num_experiments: int,
    *,
    seed: int = 0,
    num_arms: int = NUM_ARMS,
    others: float = 1.0,
) -> Selection:
    """By the verdict of spec_decode, over n prompts; `others` is the true speedup of all but the best."""
    rng = np.random.default_rng([seed, n])
    found = _Selected()
    for _ in range(num_experiments):
        base_s, seconds = _arms(rng, kind, n, best / others, num_arms)
        rows = [_row(None, 0, base_s, base_s)]
        rows += [_row("a", 1 + index, own / others, base_s) for index, own in enumerate(seconds)]
        verdict, findings = decide(rows, CostRecord())
        said = findings[0]
        k = int(said.subject.rpartition(" ")[2])
        found.add(verdict.speculate, said.figure("speedup"), best if k == num_arms else others)
    return found.shares()


def batch_selection(n: int, best: float, num_experiments: int, seed: int = 0) -> Selection:
    """The same at a larger batch size, over n groups; at batch 1 one configuration of a true speedup of 1."""
    rng = np.random.default_rng([seed, n, 2])
    found = _Selected()
    for _ in range(num_experiments):
        alone_s, (one_s,) = _arms(rng, "shared", n, 1.0, 1)
        base_s, seconds = _arms(rng, "shared", n, best)
        rows = [_row(None, 0, alone_s, alone_s), _row("a", 1, one_s, alone_s)]
        larger = [_row(None, 0, base_s, base_s)]
        larger += [_row("a", 1 + index, own, base_s) for index, own in enumerate(seconds)]
        groups = tuple((place,) for place in range(n))
        rows += [row.model_copy(update={"batch_size": 2, "groups": groups}) for row in larger]
        batches = decide(rows, CostRecord())[0].batches
        assert batches is not None
        [one] = [one for one in batches.best if one.batch_size == 2]
        found.add(one.pays, one.speedup, best if one.k == NUM_ARMS else 1.0)
    return found.shares()


@dataclass(frozen=True)
class Recommended:
    """Of experiments in which `recommend` chose among plain decoding at two precisions and eight (draft, K)
    at each: the share that speculates, the share that calls something slower that is not, the mean error of
    the speedup told, and how often the interval of a ratio between the two sweeps held the truth."""

    speculated: float
    called_slower: float
    bias: float
    covered: float


def recommendation(n: int, speedup: float, num_experiments: int, seed: int = 0) -> Recommended:
    """Every (draft, K) has the same true speedup and both precisions the same speed. Prompts differ in length
    and, alike in all (draft, K), in speedup; every time that was measured has noise of its own."""
    rng = np.random.default_rng([seed, n])
    speculated, slower, covered, errors = 0, 0, 0, []
    for _ in range(num_experiments):
        base_s, arms_s = _arms(rng, "shared", n, 1.0)
        plain, measured = [], []
        for half, precision in enumerate(("fp32", "bf16")):
            alone = _runs(base_s * log_normal(rng, n, 0.05))
            option = Option(precision, None, 0, None, {}, over={precision: [alone]})
            in_sweep = base_s * log_normal(rng, n, 0.05)
            rows = [_row(None, 0, in_sweep, in_sweep)]
            for k, own_s in enumerate(arms_s[8 * half : 8 * half + 8], 1):
                rows.append(_row("a", k, own_s / speedup, in_sweep))
            config = SpecDecodeConfig.model_construct(precision=precision, draft_precision=None)
            sweep = SpecDecodeResult.model_construct(config=config, rows=tuple(rows))
            row = PrecisionRow.model_construct(precision=precision, status="ok", metrics={}, runs=alone)
            measured += measured_options(sweep, RecommendConfig(), row, option, 16)
            plain.append(option)
        chosen = choose(plain, measured, "fp32", 1.0)
        speculated += chosen.speedup is not None
        equals = [one for one in measured if not one.problems] if chosen.speedup else plain
        slower += any(one is not chosen.option and one not in chosen.tied for one in equals)
        if chosen.speedup is not None:
            errors.append(chosen.speedup.value / speedup - 1)
        covered += holds(measured[0].ratio(measured[8]), 1.0)
    shares = [count / num_experiments for count in (speculated, slower, covered)]
    return Recommended(shares[0], shares[1], float(np.mean(errors)) if errors else 0.0, shares[2])


@dataclass(frozen=True)
class Compared:
    """Of comparisons of two measurements: the share in which any row is called slower, in which a limit of no
    loss at all fails the build, and in which the interval of a row's ratio holds the truth."""

    called_slower: float
    failed: float
    covered: float


def comparison(
    n: int, num_rows: int, num_rounds: int, slowdown: float, *, num_experiments: int, seed: int = 0
) -> Compared:
    """B takes `slowdown` times as long as A, prompts differ by 5 % from side to side, and every process is
    slower or faster than another by 2 % in all prompts alike. With rounds both sides are measured in turn;
    with one, apart by processes of the same speed."""
    rng = np.random.default_rng([seed, n, num_rows, num_rounds])
    pair = Pair(is_greedy=False, tokenizer_problem=None, same_work=False)
    slower, failed, covered = 0, 0, 0
    process = 0.02 if num_rounds > 1 else 0.0
    for _ in range(num_experiments):
        base_s = log_normal(rng, n, 0.3)
        rows = []
        for index in range(num_rows):
            sides = []
            for factor in (1.0, slowdown):
                paces = factor * np.exp(process * rng.standard_normal(num_rounds))
                rounds = [_runs(pace * base_s * log_normal(rng, n, 0.05)) for pace in paces]
                items: dict[tuple[int, ...], Rounds] = {
                    (place,): [(one[place],) for one in rounds] for place in range(n)
                }
                sides.append(Measured("ok", items=items))
            name = RowName(source="precision", text="", precision=str(index))
            rows.append(compare_rows(name, sides[0], sides[1], pair))
        found = held_together(rows)
        ratios = [row.ratios["throughput_tok_s"] for row in found]
        slower += any(ratio.standing == "worse" for ratio in ratios)
        record = Comparison(a=Side(folder="a"), b=Side(folder="b"), rows=found, rounds=2)
        failed += bool(regressions_of(record, Limits(slowdown=0.0)))
        covered += holds(ratios[0].ratio, 1 / slowdown)
    return Compared(*(count / num_experiments for count in (slower, failed, covered)))


@dataclass(frozen=True)
class InRounds:
    """Of experiments with three precisions of one speed: the share in which the verdict tells any apart, and
    in which the interval of a ratio of two of them holds the truth."""

    told_apart: float
    covered: float


def precisions(n: int, num_rounds: int, process: float, num_experiments: int, seed: int = 0) -> InRounds:
    """Processes differ by `process` in all prompts alike, prompts by 3 % from process to process."""
    rng = np.random.default_rng([seed, n, num_rounds])
    told, covered = 0, 0
    for _ in range(num_experiments):
        base_s, rows = log_normal(rng, n, 0.3), []
        for name in ("fp32", "fp16", "bf16"):
            paces = np.exp(process * rng.standard_normal(num_rounds))
            rounds = [_runs(pace * base_s * log_normal(rng, n, 0.03)) for pace in paces]
            metrics = {"throughput_tok_s": Figure(value=1 / sum(run.emissions[0][0] for run in rounds[0]))}
            metrics["peak_ram_gb"] = Figure(value=1.0)
            rows.append(
                PrecisionRow.model_construct(
                    precision=name,
                    status="ok",
                    metrics=metrics,
                    quality=Quality(not_measured="simulated"),
                    runs=rounds[0],
                    more_runs=tuple(rounds[1:]),
                    raw=PrecisionRaw(),
                )
            )
        verdict, _ = decide_precision(rows, "fp32", 0.01, "fp32")
        told += len(verdict.indistinguishable) < 3
        covered += holds(ratio_of_rows(rows[1], rows[2], process_noise(rows)), 1.0)
    return InRounds(told / num_experiments, covered / num_experiments)
