"""How the measurements are fitted into a time limit. Pure: seconds are estimated from what was timed.

A pilot (the reference precision, one prompt) says what a process, a prompt token and a new token take. The
precisions get what a plan and a sweep at one of them leave, or a share of all where that is more. Text to
score is cut first, then prompts, never below five, which an interval needs, then the rounds of processes;
then precisions are left out, fp16 first (bf16 has fp32's range, and is more often a CPU's own arithmetic),
the reference last. The same prompts serve every later stage, so that all speeds are of one work. A first plan
comes before all sweeps; plans at further precisions only where a sweep still fits behind them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bitdraft import formats
from bitdraft.config import Precision, RecommendConfig
from bitdraft.schema.findings import Finding, skipped
from bitdraft.schema.precision import PrecisionRow
from bitdraft.schema.records import Figure
from bitdraft.stats.intervals import FEWEST_ITEMS

# of the time, at least for the precisions
PRECISION_SHARE = 0.4
LEAST_SCORED, LEAST_COMPARED = 2048, 0
MOST_SCORED = 65_536
PILOT_TOKENS, PILOT_SCORED = 16, 512
# a sliding window with half its length as stride reads each token twice; a comparison, by two models
READS_SCORED, READS_COMPARED = 2, 2
PROCESSES_OF_A_SWEEP = 3.5
# of the time before a pilot's model loads; most of it measures the machine
SHARE_OF_A_START = 0.3


@dataclass(frozen=True)
class Pace:
    """Seconds of a process (start, loading, warm-up), of a token of a prompt, of a new token, and of what
    comes once before all precisions (the machine's description and ceilings)."""

    process_s: float
    read_s: float
    write_s: float
    once_s: float = 0.0

    def run_s(self, prompt_tokens: float, new_tokens: int) -> float:
        return self.read_s * prompt_tokens + self.write_s * new_tokens


def pace_of(row: PrecisionRow, prompt_tokens: int, before_s: float, loaded_s: float) -> Pace:
    """From a pilot's only row, the time until its model began to load, and the time from then on."""
    read_s = row.metrics["ttft_ms"].value / 1000 / prompt_tokens
    tpot = row.metrics.get("tpot_ms", Figure(value=0.0))
    pace = Pace(0.0, read_s, tpot.value / 1000)
    # measured and warm-up run
    known_s = 2 * pace.run_s(prompt_tokens, PILOT_TOKENS) + READS_SCORED * PILOT_SCORED * read_s
    process_s = SHARE_OF_A_START * before_s + max(loaded_s - known_s, 0.5)
    return Pace(process_s, read_s, pace.write_s, (1 - SHARE_OF_A_START) * before_s)


@dataclass(frozen=True)
class Work:
    """What the precision module is to do."""

    precisions: tuple[Precision, ...]
    num_prompts: int
    scored: int
    compared: int
    rounds: int = 1

    def seconds(self, pace: Pace, prompt_tokens: float, new_tokens: int) -> float:
        tokens = READS_SCORED * self.scored + READS_COMPARED * self.compared
        runs_s = (self.num_prompts + 1) * pace.run_s(prompt_tokens, new_tokens)
        each_s = pace.read_s * tokens + self.rounds * (pace.process_s + runs_s)
        return pace.once_s + len(self.precisions) * each_s


def fit_precisions(  # noqa: PLR0917
    work: Work, pace: Pace, prompt_tokens: float, config: RecommendConfig, reference: str, within_s: float
) -> tuple[Work, list[Finding]]:
    """The part of the work that fits, and what was cut. At least the reference is measured."""

    def fits(part: Work) -> bool:
        return part.seconds(pace, prompt_tokens, config.max_new_tokens) <= within_s

    others = formats.by_worth([name for name in work.precisions if name != reference])
    first: tuple[Precision, ...] = tuple(name for name in work.precisions if name == reference)
    best = Work(first, min(FEWEST_ITEMS, work.num_prompts), min(LEAST_SCORED, work.scored), LEAST_COMPARED)
    for num_others in range(len(others), -1, -1):
        kept = tuple(name for name in work.precisions if name in (*first, *others[:num_others]))
        found = _most(replace(work, precisions=kept), fits)
        if found is not None:
            best = found
            break
    return best, _cuts(work, best)


def _most(work: Work, fits: Callable[[Work], bool]) -> Work | None:
    """The largest part with all its precisions."""
    scored = sorted({work.scored, *(s for s in (16_384, 8192, 4096, LEAST_SCORED) if s < work.scored)})
    compared = sorted({work.compared, *(c for c in (4096, 1024, LEAST_COMPARED) if c < work.compared)})
    prompts = range(work.num_prompts, min(FEWEST_ITEMS, work.num_prompts) - 1, -1)
    rounds = dict.fromkeys((work.rounds, 1))
    for parts in itertools.product(rounds, prompts, reversed(scored), reversed(compared)):
        num_rounds, num_prompts, num_scored, num_compared = parts
        part = Work(work.precisions, num_prompts, num_scored, num_compared, num_rounds)
        if fits(part):
            return part
    return None


def _cuts(asked: Work, kept: Work) -> list[Finding]:
    cuts = [skipped("budget.precision", name) for name in asked.precisions if name not in kept.precisions]
    for code, own, wanted in (
        ("budget.prompts", kept.num_prompts, asked.num_prompts),
        ("budget.scored", kept.scored, asked.scored),
        ("budget.compared", kept.compared, asked.compared),
        ("budget.rounds", kept.rounds, asked.rounds),
    ):
        if own < wanted:
            cuts.append(skipped(code, kept=own, asked=wanted))
    return cuts


def plan_seconds(num_prompts: int, plain_s: float, process_s: float) -> float:
    """Of a plan: text, costs and agreement."""
    return process_s + 2 * num_prompts * plain_s


def sweep_seconds(speedups: Sequence[float], num_prompts: int, plain_s: float, process_s: float) -> float:
    """Of a sweep of arms with these predicted speedups. Peak memory takes processes of its own; costs and
    agreement take about as long as K = 0."""
    runs_s = sum(plain_s / speedup for speedup in speedups)
    return PROCESSES_OF_A_SWEEP * process_s + (num_prompts + 1) * (2 * plain_s + runs_s)


def fit_sweep(
    speedups: Sequence[float], num_prompts: int, plain_s: float, process_s: float, within_s: float
) -> int:
    """How many of the arms, best first, fit with all prompts."""
    for num_arms in range(len(speedups), 0, -1):
        if sweep_seconds(speedups[:num_arms], num_prompts, plain_s, process_s) <= within_s:
            return num_arms
    return 0
