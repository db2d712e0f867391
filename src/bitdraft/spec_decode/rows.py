"""From a sweep's raw events to a result. Pure: the same raw records give the same numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bitdraft.metrics.acceptance import acceptance_by_position, realised_k, speculation_figures, step_tokens
from bitdraft.metrics.memory import GIB
from bitdraft.metrics.speed import (
    bandwidth_utilisation,
    decode_bytes,
    decode_speed_ratio,
    speculation_bytes,
    speed_figures,
    speed_ratio,
)
from bitdraft.schema.records import Figure, Generation, Step
from bitdraft.schema.results import SpecDecodeResult, SpecDecodeRow
from bitdraft.spec_decode.records import Records
from bitdraft.spec_decode.replay import Chain, expected, replay_all, steps_of
from bitdraft.spec_decode.theory import (
    attribute_gap,
    cost_record,
    leviathan_speedup,
    plan_draft,
    replay_speedup,
)
from bitdraft.stats.intervals import ratio_of_rates

# A lead of the draft's argmax, in logits, that two shapes of a forward can round away
LEAD_OF_A_TIE = {"fp32": 1e-3, "fp16": 0.1, "bf16": 0.5}


def baseline_record(records: Records) -> dict[str, Any]:
    generations = records.baselines()
    metrics = speed_figures(generations, records.config.seed)
    if records.models and all(event.get("kv_bytes") for event in records.prompts):
        weights = records.models["target"]["streamed_bytes"]
        kv = records.prompts[0]["kv_bytes"][""]
        streamed = [decode_bytes(g, weights, kv) for g in generations]
        _add_mbu(metrics, generations, streamed, records)
    metrics |= _memory(records.memory.get(None))
    return {
        "metrics": {name: figure.model_dump() for name, figure in metrics.items()},
        "raw": {"generations": [generation.model_dump(mode="json") for generation in generations]},
    }


def _memory(peaks: Mapping[str, int] | None) -> dict[str, Figure]:
    return {f"{name}_gb": Figure(value=num_bytes / GIB) for name, num_bytes in (peaks or {}).items()}


def _add_mbu(
    metrics: dict[str, Figure], generations: list[Generation], streamed: list[float], records: Records
) -> None:
    copy_bytes_s = records.environment["ceilings"]["copy_gb_s"] * 1e9
    figure = bandwidth_utilisation(generations, streamed, copy_bytes_s, records.config.seed)
    if figure is not None:
        metrics["mbu"] = figure


def build_rows(records: Records) -> tuple[SpecDecodeRow, ...]:
    """A row for every (draft, K) that was asked for; one that did not finish says why."""
    return tuple(_row(records, label, k) for label, k in records.config.arms(records.labels))


def _row(records: Records, draft: str, k: int) -> SpecDecodeRow:
    backend = records.config.backend
    generations = records.generations(draft, k)
    failure = records.failures.get((draft, k))
    if failure is None and not (generations and len(generations) == len(records.prompts)):
        failure = ("failed", "did not run to its end")
    if failure is not None:
        raw = {"detail": records.traceback} if records.traceback else {}
        return SpecDecodeRow(draft=draft, k=k, backend=backend, status=failure[0], reason=failure[1], raw=raw)
    by_k, truncated = realised_k(generations)
    row = SpecDecodeRow(
        draft=draft,
        k=k,
        backend=backend,
        status="ok",
        metrics=_metrics(records, draft, k, generations),
        acceptance_by_position=acceptance_by_position(generations, k),
        realised_k=by_k,
        num_truncated_steps=truncated,
        lossless=_lossless(records, draft, k, generations),
        raw={"generations": without_known_text(generations, records.baselines())},
    )
    chains = records.chains(draft)
    if not chains:
        return row
    return row.model_copy(
        update={
            "replay_check": check_replay(records, row, generations, chains),
            "predicted": _predicted(records, row, generations, chains),
        }
    )


def without_known_text(
    generations: Sequence[Generation], baselines: Sequence[Generation]
) -> list[dict[str, Any]]:
    """Token ids are kept where they differ from the baseline's, which has them already."""
    records = [generation.model_dump(mode="json") for generation in generations]
    for record, generation, baseline in zip(records, generations, baselines, strict=True):
        if generation.token_ids == baseline.token_ids:
            del record["token_ids"]
    return records


def other_precision(sweep: SpecDecodeResult) -> str | None:
    """The drafts', where it is not the target's."""
    own = sweep.config.get("draft_precision")
    return None if own in (None, sweep.config["precision"]) else str(own)


def baseline_runs(result: SpecDecodeResult) -> list[Generation]:
    """K = 0's, of a result; none where no prompt was finished."""
    return [Generation.model_validate(run) for run in result.baseline.get("raw", {}).get("generations", [])]


def with_known_text(record: Mapping[str, Any], baseline: Generation) -> Generation:
    """One of `without_known_text`'s records as the run that it was."""
    return Generation.model_validate({"token_ids": baseline.token_ids} | dict(record))


def _metrics(records: Records, draft: str, k: int, generations: list[Generation]) -> dict[str, Figure]:
    seed, baselines = records.config.seed, records.baselines()
    metrics = speed_figures(generations, seed) | speculation_figures(generations, k, seed)
    metrics["speedup"] = speed_ratio(generations, baselines, seed)
    decode_speedup = decode_speed_ratio(generations, baselines, seed)
    if decode_speedup is not None:
        metrics["decode_speedup"] = decode_speedup
    kv = records.prompts[0].get("kv_bytes")
    if kv and records.models:
        target = (records.models["target"]["streamed_bytes"], kv[""])
        sizes = records.models["drafts"].get(draft)
        own = None if sizes is None else (sizes["streamed_bytes"], kv[draft])
        _add_mbu(metrics, generations, [speculation_bytes(g, target, own) for g in generations], records)
    return metrics | _memory(records.memory.get(draft))


def _lossless(
    records: Records, draft: str, k: int, generations: Sequence[Generation]
) -> dict[str, Any] | None:
    """Greedy runs only: whether the token ids are those of K = 0, and where not."""
    if records.config.temperature > 0:
        return None
    pairs = zip(generations, records.baselines(), strict=True)
    identical = sum(run.token_ids == baseline.token_ids for run, baseline in pairs)
    found = records.divergences.get((draft, k), [])
    return {
        "identical": identical,
        "num_prompts": len(generations),
        "divergences": [entry.model_dump() | {"kind": entry.kind} for entry in found],
    }


def check_replay(
    records: Records, row: SpecDecodeRow, generations: Sequence[Generation], chains: Sequence[Chain]
) -> dict[str, Any]:
    """Greedy: are the measured steps those of the replay, wherever the text is K = 0's? Sampling: are
    tokens per step those expected, by the interval of their ratio over prompts?"""
    if records.config.temperature > 0:
        tokens = [step_tokens(g) for g in generations]
        steps = [len(g.steps) for g in generations]
        predicted = [expected([chain], row.k) for chain in chains]
        ratio = ratio_of_rates(
            tokens,
            steps,
            [e.num_tokens for e in predicted],
            [e.num_steps for e in predicted],
            records.config.seed,
        )
        agrees = None
        if ratio.low is not None and ratio.high is not None:
            # twice the interval: a sweep has many rows, and one in twenty may miss a 95 % interval
            low, high = 2 * ratio.low - ratio.value, 2 * ratio.high - ratio.value
            agrees = low <= 1 <= high
        return {"measured_over_expected": ratio.model_dump(), "agrees": agrees}
    mismatches, num_compared = [], 0
    for place, (run, chain, output) in enumerate(zip(generations, chains, records.outputs(), strict=True)):
        if list(run.token_ids) != list(output):
            continue
        num_compared += 1
        replayed = steps_of(chain, row.k)
        if not _same_steps(records, run.steps, replayed):
            mismatches.append(_mismatch(records, row.draft, place, run, replayed))
    return {
        "num_compared": num_compared,
        "num_identical": num_compared - len(mismatches),
        "mismatches": mismatches,
        "agrees": not mismatches,
    }


def _same_steps(records: Records, measured: Sequence[Step], replayed: Sequence[Step]) -> bool:
    """transformers ends a draft at EOS where EOS ends a text, and doesn't say whose token a last EOS was:
    there the kept tokens of all steps but the last can agree."""
    if records.config.backend == "native" or records.config.ignore_eos:
        return list(measured) == list(replayed)
    kept, expected_kept = ([step.num_accepted for step in steps] for steps in (measured, replayed))
    return len(kept) == len(expected_kept) and kept[:-1] == expected_kept[:-1]


def _mismatch(
    records: Records, draft: str, place: int, run: Generation, replayed: Sequence[Any]
) -> dict[str, Any]:
    """The first step that differs, the draft's lead there, and whether that is small enough for a tie."""
    pairs = list(zip(run.steps, replayed, strict=False))
    step = next((i for i, (one, other) in enumerate(pairs) if one != other), len(pairs))
    start = records.first + sum(kept.num_accepted + 1 for kept in run.steps[:step])
    measured, replay = (list(side[step]) if step < len(side) else None for side in (run.steps, replayed))
    record = {"prompt": place, "step": step, "measured": measured, "replayed": replay}
    leads = records.prompts[place]["agreement"][draft].get("leads")
    if leads and measured and replay:
        lead = leads[start + min(measured[1], replay[1])]
        precision = records.config.draft_precision or records.config.precision
        record |= {"draft_lead": lead, "rounding_tie": lead < LEAD_OF_A_TIE[precision]}
    return record


def _predicted(
    records: Records, row: SpecDecodeRow, generations: list[Generation], chains: list[Chain]
) -> dict[str, Any]:
    """Speedups after the prefill by formula and by replay, and where a step's time goes."""
    costs = records.costs()
    if costs is None or row.draft not in costs.draft_s:
        return {}
    draft_cost, verify_cost = costs.draft_cost(row.draft), costs.verify_cost(row.k)
    expectation = expected(chains, row.k)
    return {
        "leviathan": leviathan_speedup(records.alpha(row.draft), row.k, draft_cost, verify_cost),
        "replay": replay_speedup(expectation, row.draft, costs),
        "step": attribute_gap(generations, expectation, row.draft, costs),
    }


def replay_record(records: Records) -> dict[str, dict[str, Any]]:
    """By draft, the figures of every K from 1 to 32."""
    found = {label: records.chains(label) for label in records.labels}
    return {label: replay_all(chains) for label, chains in found.items() if chains}


def costs_record(records: Records) -> dict[str, Any]:
    samples = [event["costs"] for event in records.prompts if event.get("costs")]
    return cost_record(samples, records.labels, records.config.seed) if samples else {}


def plan_record(records: Records) -> dict[str, Any]:
    """The predictions of every draft over the K that were asked for."""
    costs, plan = records.costs(), {}
    for label in records.labels:
        chains = records.chains(label)
        if costs is None or not chains or label not in costs.draft_s:
            continue
        prefill_s = (
            sum(event["prefill_s"] for event in records.prompts),
            sum(event["draft_prefill_s"][label] for event in records.prompts),
        )
        expectations = {k: expected(chains, k) for k in records.config.k}
        plan[label] = plan_draft(expectations, label, records.alpha(label), costs, prefill_s)
    return plan


def smaller_k_hints(records: Records) -> list[str]:
    """A K below or between those that were asked for, where the replay predicts more than at any of them."""
    costs, ks, hints = records.costs(), records.config.k, []
    for label in records.labels:
        chains = records.chains(label) if costs is not None else []
        if costs is None or not chains or label not in costs.draft_s:
            continue
        speedups = {k: replay_speedup(expected(chains, k), label, costs) for k in range(1, ks[-1] + 1)}
        best = max(speedups, key=lambda k: speedups[k])
        asked = max(speedups[k] for k in ks)
        if best not in ks and speedups[best] > 1.01 * asked:
            hints.append(
                f"{label}: K = {best}, which was not asked for, is predicted to be faster than any that was "
                f"({speedups[best]:.2f}× against {asked:.2f}× after the prefill)."
            )
    return hints
