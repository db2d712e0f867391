"""From the raw events of larger batches to their rows. Pure. The items of every figure and of its interval
are groups of prompts that were decoded at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bitdraft.metrics.acceptance import step_tokens
from bitdraft.metrics.speed import batch_seconds, decode_span, request_seconds
from bitdraft.schema.records import Figure, Generation, Status
from bitdraft.schema.results import BatchRow
from bitdraft.spec_decode.records import Records
from bitdraft.spec_decode.rows import without_known_text
from bitdraft.stats.intervals import ratio_of_rates, ratio_of_sums

PLAIN = "–"
"""The draft of K = 0, in rows and tables"""


@dataclass(frozen=True)
class Group:
    """Places of its prompts, and their runs by one arm."""

    prompts: tuple[int, ...]
    runs: tuple[Generation, ...]

    @property
    def num_tokens(self) -> int:
        return sum(len(run.token_ids) for run in self.runs)

    @property
    def seconds(self) -> float:
        return batch_seconds(self.runs)


def groups_by(records: Records, batch_size: int, draft: str | None, k: int) -> list[Group]:
    """What an arm ran at a batch size, in the order of the prompts."""
    return [
        Group(tuple(event["prompts"]), tuple(Generation.model_validate(g) for g in run["generations"]))
        for event in records.batches
        if event["batch_size"] == batch_size
        for run in event["runs"]
        if (run["draft"], run["k"]) == (draft, k)
    ]


def build_batch_rows(records: Records) -> tuple[BatchRow, ...]:
    """For every batch size that was tried: a row for K = 0 and one for every (draft, K) that the sweep
    finished."""
    tried = {event["batch_size"] for event in records.batches} | {
        size for size, _, _ in records.batch_failures
    }
    arms: list[tuple[str | None, int]] = [(None, 0)]
    arms += [arm for arm in records.config.arms(records.labels) if arm not in records.failures]
    return tuple(_row(records, size, draft, k) for size in sorted(tried) for draft, k in arms)


def early_ends(records: Records) -> list[str]:
    """Batch sizes that ended after some of their groups, in words."""
    found = []
    for (size, draft, _), (_, reason) in records.batch_failures.items():
        num_groups = sum(event["batch_size"] == size for event in records.batches)
        if draft is None and num_groups:
            total = len(records.prompts) // size
            found.append(f"Batch {size} ended after {num_groups} of {total} groups: {reason}.")
    return found


def _row(records: Records, size: int, draft: str | None, k: int) -> BatchRow:
    groups = groups_by(records, size, draft, k)
    failure = _failure(records, size, draft, k, groups)
    if failure is not None:
        return BatchRow(batch_size=size, draft=draft or PLAIN, k=k, status=failure[0], reason=failure[1])
    baselines = records.baselines()
    raw = [
        {
            "prompts": list(group.prompts),
            "generations": without_known_text(group.runs, [baselines[place] for place in group.prompts]),
        }
        for group in groups
    ]
    return BatchRow(
        batch_size=size,
        draft=draft or PLAIN,
        k=k,
        status="ok",
        metrics=_metrics(records, size, draft, k, groups),
        lossless=_lossless(records, groups, baselines),
        raw={"groups": raw},
    )


def _failure(
    records: Records, size: int, draft: str | None, k: int, groups: Sequence[Group]
) -> tuple[Status, str] | None:
    """An arm's own failure, or, where it ran no group, that of the whole batch. A batch that ended early
    keeps the groups that it finished."""
    own = records.batch_failures.get((size, draft, k)) if draft is not None else None
    if own is not None or groups:
        return own
    return records.batch_failures.get((size, None, 0), ("failed", "did not run to its end"))


def _metrics(
    records: Records, size: int, draft: str | None, k: int, groups: Sequence[Group]
) -> dict[str, Figure]:
    seed = records.config.seed
    tokens, seconds = [group.num_tokens for group in groups], [group.seconds for group in groups]
    metrics = {"throughput_tok_s": ratio_of_sums(tokens, seconds, seed)}
    spans = _sums(groups, lambda run: (1000 * decode_span(run)[0], decode_span(run)[1]))
    if spans:
        span_ms, span_tokens = zip(*spans, strict=True)
        metrics["tpot_ms"] = ratio_of_sums(span_ms, span_tokens, seed)
    alone = records.baselines() if draft is None else records.generations(draft, k)
    same = [[alone[place] for place in group.prompts] for group in groups]
    metrics["over_batch_1"] = ratio_of_rates(
        tokens,
        seconds,
        [sum(len(run.token_ids) for run in runs) for runs in same],
        [sum(request_seconds(run) for run in runs) for runs in same],
        seed,
    )
    if draft is not None:
        metrics |= _speedups(groups, groups_by(records, size, None, 0), seed)
        metrics |= _acceptance(groups, k, seed)
    return metrics


def _speedups(groups: Sequence[Group], base: Sequence[Group], seed: int) -> dict[str, Figure]:
    """Over K = 0 at the same batch size, groups paired: of whole requests, and of what comes after the first
    tokens."""
    found = {}
    whole = [[(group.num_tokens, group.seconds) for group in side] for side in (groups, base)]
    after = [[_after_first(group) for group in side] for side in (groups, base)]
    for name, (own, other) in (("speedup", whole), ("decode_speedup", after)):
        if all(seconds > 0 for _, seconds in (*own, *other)):
            work, seconds = zip(*own, strict=True)
            base_work, base_seconds = zip(*other, strict=True)
            found[name] = ratio_of_rates(work, seconds, base_work, base_seconds, seed)
    return found


def _after_first(group: Group) -> tuple[int, float]:
    """(tokens, seconds) behind the first emission of the group, in which every row has a part."""
    first_s = min(run.emissions[0][0] for run in group.runs)
    last_s = max(run.emissions[-1][0] for run in group.runs)
    return group.num_tokens - sum(run.emissions[0][1] for run in group.runs), last_s - first_s


def _acceptance(groups: Sequence[Group], k: int, seed: int) -> dict[str, Figure]:
    steps = _sums(groups, lambda run: (step_tokens(run), len(run.steps)))
    if not steps:
        return {}
    tokens, num_steps = zip(*steps, strict=True)
    return {
        "tokens_per_step": ratio_of_sums(tokens, num_steps, seed),
        "acceptance_rate": ratio_of_sums(tokens, num_steps, seed, lambda tau: (tau - 1) / k),
    }


def _sums(
    groups: Sequence[Group], parts: Callable[[Generation], tuple[float, int]]
) -> list[tuple[float, int]]:
    """Numerator and denominator summed over the rows of each group; groups without any are left out."""
    found = []
    for group in groups:
        pairs = [parts(run) for run in group.runs]
        found.append((sum(top for top, _ in pairs), sum(bottom for _, bottom in pairs)))
    return [(top, bottom) for top, bottom in found if bottom > 0]


def _lossless(
    records: Records, groups: Sequence[Group], baselines: Sequence[Generation]
) -> dict[str, Any] | None:
    """Greedy runs only: how many have the token ids of K = 0 at batch 1."""
    if records.config.temperature > 0:
        return None
    same = [
        run.token_ids == baselines[place].token_ids
        for group in groups
        for place, run in zip(group.prompts, group.runs, strict=True)
    ]
    return {"identical": sum(same), "num_prompts": len(same)}
