"""From a sweep's records to its result. Pure: the same records give the same numbers.

The items of every figure and of its interval are prompts at batch 1, and groups of prompts that were decoded
at once above.
"""

from __future__ import annotations

from collections.abc import Sequence

from bitdraft import formats
from bitdraft.config import CAPABILITIES
from bitdraft.metrics.acceptance import acceptance_by_position, realised_k, speculation_figures, step_tokens
from bitdraft.metrics.memory import memory_figures
from bitdraft.metrics.speed import (
    bandwidth_utilisation,
    clusters_of,
    decode_bytes,
    decode_speed_ratio,
    item_figures,
    ratio_over,
    speculation_bytes,
    speed_figures,
    speed_ratio,
)
from bitdraft.schema.findings import Finding, reason
from bitdraft.schema.records import Figure, Generation, Step
from bitdraft.schema.spec_decode import (
    Configuration,
    CostRecord,
    DraftPlan,
    LosslessCheck,
    Predicted,
    ReplayCheck,
    ReplayMismatch,
    ReplaySummary,
    SpecDecodeRow,
)
from bitdraft.servers.turns import NUM_TURNS, halves
from bitdraft.spec_decode.records import BASELINE, Records
from bitdraft.spec_decode.replay import Chain, expected, replay_all, steps_of
from bitdraft.spec_decode.theory import (
    attribute_gap,
    cost_record,
    leviathan_speedup,
    plan_draft,
    replay_speedup,
)
from bitdraft.stats.intervals import noise_of_turns, ratio_of_rates, with_noise

Items = list[tuple[tuple[int, ...], tuple[Generation, ...]]]


def build_rows(records: Records) -> tuple[SpecDecodeRow, ...]:
    """The baseline and every (draft, K) that was asked for; then the same for every batch size that was
    tried, without what the sweep has lost. A row that did not finish says why."""
    if records.config.plan:
        return ()
    asked = records.config.configurations(records.labels)
    rows = [_row(records, Configuration(*BASELINE))] if records.prompts else []
    rows += [_row(records, Configuration(draft, k)) for draft, k in asked]
    for size in records.sizes():
        kept = [one for one in asked if Configuration(*one) not in records.failures]
        rows += [_row(records, Configuration(draft, k, size)) for draft, k in (BASELINE, *kept)]
    return tuple(rows)


def with_noise_of_turns(rows: Sequence[SpecDecodeRow], records: Records) -> tuple[SpecDecodeRow, ...]:
    """Of engines that ran one at a time: speedups whose intervals hold what differs from start to start, told
    by the ratios to the baseline of each turn."""
    baselines = records.baselines()
    ratios = []
    for row in rows:
        if row.draft is not None and len(row.runs) == len(baselines):
            parts = [half for half in halves(len(baselines)) if half]
            own = [(row.runs[half.start : half.stop], baselines[half.start : half.stop]) for half in parts]
            ratios.append([speed_ratio(runs, base).value for runs, base in own])
    noise = noise_of_turns(ratios)
    widened = []
    for row in rows:
        found = {
            name: with_noise(row.metrics[name], noise, 1 / NUM_TURNS)[0]
            for name in ("speedup", "decode_speedup")
            if name in row.metrics
        }
        widened.append(row.model_copy(update={"metrics": row.metrics | found}))
    return tuple(widened)


def _row(records: Records, own: Configuration) -> SpecDecodeRow:
    items = records.items(own)
    backend = records.config.backend
    failure = _failure(records, own, items)
    if failure is not None:
        return SpecDecodeRow(
            **own._asdict(),
            backend=backend,
            status=failure[0],
            reason=failure[1],
            detail=records.detail or None,
        )
    runs = tuple(run for _, group in items for run in group)
    row = SpecDecodeRow(
        **own._asdict(),
        backend=backend,
        status="ok",
        metrics=_metrics(records, own, items),
        lossless=_lossless(records, own, items),
        runs=runs,
        groups=tuple(indices for indices, _ in items) if own.batch_size > 1 else (),
    )
    if own.batch_size > 1 or own.draft is None:
        return row
    return row.model_copy(update=_of_steps(records, own.draft, own.k, list(runs)))


def _failure(records: Records, own: Configuration, items: Items) -> tuple[str, str] | None:
    """A (draft, K)'s own failure, or, where it ran nothing, that of the whole batch. A batch that ended early
    keeps the groups that it finished; a prompt that a (draft, K) did not finish takes it out."""
    found = records.failures.get(own)
    if own.batch_size == 1:
        if found is None and len(items) < max(1, len(records.prompts)):
            return "failed", "did not run to its end"
        return found
    if own.draft is None or found is None:
        found = None if items else records.failures.get(Configuration(None, 0, own.batch_size), found)
        return found or (None if items else ("failed", "did not run to its end"))
    return found


def _metrics(records: Records, own: Configuration, items: Items) -> dict[str, Figure]:
    if own.batch_size == 1:
        return _metrics_alone(records, own.draft, own.k, [run for _, (run,) in items])
    groups = [group for _, group in items]
    metrics = item_figures(groups)
    alone = records.runs(own.draft, own.k)
    metrics |= ratio_over(
        "over_batch_1", groups, [[(alone[index],) for index in indices] for indices, _ in items]
    )
    if own.draft is not None:
        base = dict(records.items(Configuration(None, 0, own.batch_size)))
        metrics |= ratio_over("speedup", groups, [[base[indices]] for indices, _ in items])
        metrics |= ratio_over(
            "decode_speedup", groups, [[base[indices]] for indices, _ in items], after_first=True
        )
        metrics |= speculation_figures(groups, own.k, drafts_too=False)
    return metrics


def _metrics_alone(records: Records, draft: str | None, k: int, runs: list[Generation]) -> dict[str, Figure]:
    baselines = records.baselines()
    metrics = speed_figures(runs)
    if draft is not None:
        metrics |= speculation_figures([(run,) for run in runs], k)
        items = [(run,) for run in runs]
        metrics |= ratio_over("speedup", items, [[(run,)] for run in baselines])
        decode_speedup = decode_speed_ratio(runs, baselines)
        if decode_speedup is not None:
            metrics["decode_speedup"] = decode_speedup
    utilisation = _utilisation(records, draft, runs)
    if utilisation is not None:
        metrics["mbu"] = utilisation
    return metrics | memory_figures(records.memory.get(draft))


def _utilisation(records: Records, draft: str | None, runs: list[Generation]) -> Figure | None:
    kv, target = records.prompts[0].kv_bytes, records.target.streamed_bytes
    copy_bytes_s = records.environment.copy_bytes_s
    if "" not in kv or target is None or copy_bytes_s is None:
        return None
    if draft is None:
        streamed = [decode_bytes(run, target, kv[""]) for run in runs]
    else:
        own_bytes = records.drafts[draft].streamed_bytes if draft in records.drafts else None
        own = None if own_bytes is None or draft not in kv else (own_bytes, kv[draft])
        streamed = [speculation_bytes(run, (target, kv[""]), own) for run in runs]
    return bandwidth_utilisation(runs, streamed, copy_bytes_s)


def _lossless(records: Records, own: Configuration, items: Items) -> LosslessCheck | None:
    """Greedy runs only: whether the token ids are those of K = 0 at batch 1, and where not."""
    if records.config.temperature > 0 or (own.draft is None and own.batch_size == 1):
        return None
    texts = records.outputs()
    same = [
        run.token_ids == texts[index]
        for indices, group in items
        for index, run in zip(indices, group, strict=True)
    ]
    found = records.divergences.get((own.draft, own.k), ()) if own.batch_size == 1 else ()
    return LosslessCheck(identical=sum(same), num_prompts=len(same), divergences=tuple(found))


def _of_steps(records: Records, draft: str, k: int, runs: list[Generation]) -> dict[str, object]:
    """What is counted by step, and held against the replay."""
    by_k, truncated = realised_k(runs)
    found: dict[str, object] = {
        "acceptance_by_position": tuple(acceptance_by_position(runs, k)),
        "realised_k": by_k,
        "num_truncated_steps": truncated,
    }
    chains = records.chains(draft)
    if chains:
        found["replay_check"] = check_replay(records, draft, k, runs, chains)
        found["predicted"] = _predicted(records, draft, k, runs, chains)
    return found


def check_replay(
    records: Records, draft: str, k: int, runs: Sequence[Generation], chains: Sequence[Chain]
) -> ReplayCheck:
    """Greedy: are the measured steps those of the replay, wherever the text is the baseline's? Sampling: are
    tokens per step those expected, by the interval of their ratio over prompts?"""
    if records.config.temperature > 0:
        return _check_expectation(records, k, runs, chains)
    mismatches, num_compared = [], 0
    for index, (run, chain, output) in enumerate(zip(runs, chains, records.outputs(), strict=True)):
        if run.token_ids != output:
            continue
        num_compared += 1
        replayed = steps_of(chain, k)
        if not _same_steps(records, run.steps, replayed):
            mismatches.append(_mismatch(records, draft, index, run, replayed))
    return ReplayCheck(
        agrees=not mismatches if num_compared else None,
        num_compared=num_compared,
        num_identical=num_compared - len(mismatches),
        mismatches=tuple(mismatches),
    )


def _check_expectation(
    records: Records, k: int, runs: Sequence[Generation], chains: Sequence[Chain]
) -> ReplayCheck:
    predicted = [expected([chain], k) for chain in chains]
    columns = (
        [step_tokens(run) for run in runs],
        [len(run.steps) for run in runs],
        [one.num_tokens for one in predicted],
        [one.num_steps for one in predicted],
    )
    if not all(sum(column) > 0 for column in columns):
        return ReplayCheck()  # nothing was verified
    ratio = ratio_of_rates(*columns, clusters=clusters_of(runs))
    agrees = None
    if ratio.low is not None and ratio.high is not None:
        # twice the interval: a sweep has many rows, and one in twenty may miss a 95 % interval
        low, high = 2 * ratio.low - ratio.value, 2 * ratio.high - ratio.value
        agrees = low <= 1 <= high
    return ReplayCheck(agrees=agrees, measured_over_expected=ratio)


def _same_steps(records: Records, measured: Sequence[Step], replayed: Sequence[Step]) -> bool:
    """An engine without `exact_steps` (transformers) ends a draft at EOS where EOS ends a text, and doesn't
    say whose token a last EOS was: there the kept tokens of all steps but the last can agree."""
    if CAPABILITIES[records.config.backend].exact_steps or records.config.ignore_eos:
        return list(measured) == list(replayed)
    kept, expected_kept = ([step.num_accepted for step in steps] for steps in (measured, replayed))
    return len(kept) == len(expected_kept) and kept[:-1] == expected_kept[:-1]


def _mismatch(
    records: Records, draft: str, index: int, run: Generation, replayed: Sequence[Step]
) -> ReplayMismatch:
    """The first step that differs, the draft's lead there, and whether that is small enough for a tie."""
    pairs = list(zip(run.steps, replayed, strict=False))
    step = next((i for i, (one, other) in enumerate(pairs) if one != other), len(pairs))
    start = records.first + sum(kept.num_accepted + 1 for kept in run.steps[:step])
    measured, replay = (side[step] if step < len(side) else None for side in (run.steps, replayed))
    leads = records.prompts[index].agreement[draft].leads
    lead = tie = None
    if leads and measured and replay:
        lead = leads[start + min(measured.num_accepted, replay.num_accepted)]
        precision = records.config.draft_precision or records.config.precision
        tie = lead < formats.find(precision).tie_lead
    return ReplayMismatch(
        prompt=index, step=step, measured=measured, replayed=replay, draft_lead=lead, rounding_tie=tie
    )


def _predicted(
    records: Records, draft: str, k: int, runs: list[Generation], chains: list[Chain]
) -> Predicted:
    """Speedups after the prefill by formula and by replay, and where a step's time goes; nothing where no
    step was made."""
    costs = records.costs()
    expectation = expected(chains, k)
    if costs is None or draft not in costs.draft_s or not expectation.num_steps:
        return Predicted()
    draft_cost, verify_cost = costs.draft_cost(draft), costs.verify_cost(k)
    return Predicted(
        leviathan=leviathan_speedup(records.alpha(draft), k, draft_cost, verify_cost),
        replay=replay_speedup(expectation, draft, costs),
        step=attribute_gap(runs, expectation, draft, costs),
    )


def replay_record(records: Records) -> dict[str, dict[int, ReplaySummary]]:
    """By draft, the figures of every K from 1 to 32."""
    found = {label: records.chains(label) for label in records.labels}
    return {label: replay_all(chains) for label, chains in found.items() if chains}


def costs_record(records: Records) -> CostRecord:
    """Empty where no costs were measured."""
    samples = records.cost_samples()
    return cost_record(samples, records.labels) if samples else CostRecord()


def plan_record(records: Records) -> dict[str, DraftPlan]:
    """The predictions of every draft over the K that were asked for, in a sweep over those between them too;
    none where no step would be made."""
    costs, plan = records.costs(), {}
    asked = records.config.k
    ks = asked if records.config.plan else range(asked[0], asked[-1] + 1)
    for label in records.labels:
        chains = records.chains(label)
        if costs is None or not chains or label not in costs.draft_s:
            continue
        expectations = {k: expected(chains, k) for k in ks}
        if not all(one.num_steps for one in expectations.values()):
            continue
        prefill_s = (
            sum(prompt.prefill_s for prompt in records.prompts),
            sum(prompt.draft_prefill_s.get(label, 0.0) for prompt in records.prompts),
        )
        plan[label] = plan_draft(expectations, label, records.alpha(label), costs, prefill_s)
    return plan


def smaller_k_hints(records: Records) -> list[Finding]:
    """A K below or between those that were asked for, where the replay predicts more than at any of them."""
    costs, ks, hints = records.costs(), records.config.k, []
    for label in records.labels:
        chains = records.chains(label) if costs is not None else []
        if costs is None or not chains or label not in costs.draft_s:
            continue
        found = {k: expected(chains, k) for k in range(1, ks[-1] + 1)}
        if not all(one.num_steps for one in found.values()):
            continue
        speedups = {k: replay_speedup(one, label, costs) for k, one in found.items()}
        best = max(speedups, key=lambda k: speedups[k])
        asked = max(speedups[k] for k in ks)
        if best not in ks and speedups[best] > 1.01 * asked:
            hints.append(reason("spec.other_k", label, k=best, speedup=speedups[best], asked=asked))
    return hints
