"""What is exported of a result: target, draft, K, how many tokens a step gives at each K, and K by batch
size. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import bitdraft
from bitdraft.config import NGRAM
from bitdraft.errors import UserError
from bitdraft.schema.serving import ServingResult, ServingRow
from bitdraft.schema.spec_decode import PositionAcceptance, Schedule, SpecDecodeResult

_FIELD, _HERE = "result", "the result"
ROUNDING = 0.005
"""Shares of a mean below this are no difference"""


@dataclass(frozen=True)
class Setting:
    """`tokens_per_step` by K counts the target's own token; `rates` at this K are shares of steps that kept
    the first, the second, … token and all before it, empty where they are unknown. `by_batch_size` is K from
    each batch size on, 0 for plain decoding; empty without a schedule. `measured` says how, in a line;
    `doubts` what its reader should know before using it."""

    target: str
    draft: str
    k: int
    tokens_per_step: dict[int, float]
    rates: tuple[float, ...] = ()
    by_batch_size: dict[int, int] = field(default_factory=dict)
    measured: str = ""
    engine: str | None = None
    doubts: tuple[str, ...] = ()

    @property
    def notes(self) -> list[str]:
        """`measured`, the doubts, and why the mean and the rates differ, where they do."""
        found = [f"{self.draft}, K = {self.k}: {self.measured}", *self.doubts]
        by_rates = 1 + sum(self.rates)
        if self.rates and abs(by_rates - self.length) > ROUNDING * self.length:
            found.append(
                f"Tokens per step: {self.length:.2f} over all, {by_rates:.2f} by the rates, which leave "
                "out the steps at an answer's end that draft fewer than K. Engines that take rates give "
                "the second, those that take a mean the first."
            )
        return found

    @property
    def is_lookup(self) -> bool:
        """Prompt lookup, which has no checkpoint."""
        return self.draft == NGRAM

    @property
    def length(self) -> float:
        """Tokens a step at this K, the target's own among them."""
        return self.tokens_per_step[self.k]


def setting_of_sweep(
    result: SpecDecodeResult, draft: str | None, k: int | None, context: int | None = None
) -> Setting:
    """Of a sweep, plan or schedule: what its verdict recommends, unless a draft or K is named. Raises
    `UserError` where nothing is recommended, or what is named was not measured."""
    labels = list(result.replay) or result.labels
    if not labels:
        raise UserError(_FIELD, _HERE, "holds no acceptance", "Measure a sweep or a plan")
    if k is not None and k < 1:
        raise UserError("k", k, "is plain decoding, which has no settings", "Name a K of at least 1")
    is_shown = result.verdict.speculate is True
    by_verdict = _best_of(result.schedule) if result.schedule else result.verdict.draft if is_shown else None
    label = draft or by_verdict
    if label is None and k is None:
        problem = f"recommends no draft ({result.summary or 'nothing is shown to pay'})"
        raise UserError(_FIELD, _HERE, problem, "Name one: --draft LABEL --k K")
    label = label or labels[0]
    if label not in labels:
        raise UserError("draft", label, "was not measured", f"Choose from {', '.join(labels)}")
    lengths = {own: one.tokens_per_step for own, one in result.replay.get(label, {}).items()}
    positions = {own: one.acceptance_by_position for own, one in result.replay.get(label, {}).items()}
    for row in result.sweep:
        if row.draft == label and "tokens_per_step" in row.metrics and row.k not in lengths:
            lengths[row.k] = row.metrics["tokens_per_step"].value
            positions[row.k] = row.acceptance_by_position
    by_size = {} if k is not None else k_by_batch_size(result.schedule, label, context)
    if by_size and not any(by_size.values()) and context is None and k is None:
        problem = f"speculation with {label} is not shown to pay at all of its contexts at any batch size"
        shown = ", ".join(map(str, result.schedule.contexts))
        raise UserError(_FIELD, _HERE, problem, f"Name --context (of {shown}), or --k")
    chosen = k or max(by_size.values(), default=0) or result.verdict.k or _best_k(result, label)
    if chosen is None or chosen not in lengths:
        known = ", ".join(map(str, sorted(lengths))) or "none"
        raise UserError("k", chosen or "none", "was not measured", f"Choose from {known}")
    record = result.drafts.get(label)
    how = "greedy" if result.config.temperature == 0 else f"temperature {result.config.temperature:g}"
    return Setting(
        target=_place(result.model.name or result.config.model),
        draft=NGRAM if record is None or record.name == "prompt lookup" else _place(record.name or label),
        k=chosen,
        tokens_per_step=lengths,
        rates=rates_of(positions[chosen]),
        by_batch_size=by_size,
        measured=f"{result.text.dataset}, {len(result.text.prompt_ids)} prompts, {how}, "
        f"{result.config.precision}, bitdraft {result.environment.bitdraft or ''}".strip(),
        doubts=_doubts_of_sweep(result, label, chosen),
    )


def _doubts_of_sweep(result: SpecDecodeResult, label: str, k: int) -> tuple[str, ...]:
    """Where it is not what the verdict recommends: a schedule says itself where it pays."""
    verdict = result.verdict
    if result.schedule and _best_of(result.schedule) == label:
        return ()
    if verdict.speculate is True and (verdict.draft, verdict.k) == (label, k):
        return ()
    return (f"This is not what the verdict recommends: {result.summary or 'nothing is shown to pay.'}",)


def setting_of_servers(result: ServingResult, server: str | None, k: int | None, draft: str) -> Setting:
    """Of running servers: the one that is named, or the one that is shown to pay. Its draft is no part of
    what a server tells."""
    rows = [row for row in result.rows if row.k and "tokens_per_step" in row.metrics]
    row = _row_of_server(result, rows, server, k)
    assert row.k is not None
    alike = [one for one in rows if _without_k(one) == _without_k(row)]
    lengths = {one.k: one.metrics["tokens_per_step"].value for one in (*reversed(alike), row) if one.k}
    return Setting(
        target=_place(result.model.name or ""),
        draft=_place(draft),
        k=row.k,
        tokens_per_step=lengths,
        rates=rates_of(row.acceptance_by_position),
        measured=f"{result.text.dataset}, {result.config.num_prompts} prompts, {row.server}",
        engine=next((one.engine for one in result.servers if one.name == row.server), None),
        doubts=()
        if row.server == result.best
        else (f"This is not what the verdict recommends: {result.summary}",),
    )


def _without_k(row: ServingRow) -> str:
    """What servers that were declared together are called: `spec` of spec-k1, spec-k2, …"""
    return row.server.removesuffix(f"-k{row.k}")


def _row_of_server(
    result: ServingResult, rows: Sequence[ServingRow], server: str | None, k: int | None
) -> ServingRow:
    """At its smallest load."""
    told = ", ".join(dict.fromkeys(f"{row.server} (K = {row.k})" for row in rows))
    if not told:
        problem = "holds no server that tells its acceptance and K"
        remedy = "Measure with --speculative-tokens NAME=K, on an engine that tells its acceptance"
        raise UserError(_FIELD, _HERE, problem, remedy)
    if server is not None and server not in {row.server for row in rows}:
        is_there = any(row.server == server for row in result.rows)
        problem = "tells no acceptance, or no K" if is_there else "was not measured"
        raise UserError("server", server, problem, f"Choose from {told}")
    if server is None and k is None:
        server = result.best
        if server not in {row.server for row in rows}:
            problem = f"recommends none that speculates ({result.summary})"
            raise UserError(_FIELD, _HERE, problem, f"Name one: --server NAME (of {told})")
    found = [row for row in rows if server in (None, row.server) and k in (None, row.k)]
    if not found:
        raise UserError("k", k, "was not measured", f"Choose from {told}")
    return found[0]


def rates_of(positions: Sequence[PositionAcceptance]) -> tuple[float, ...]:
    """Shares of steps that kept a token and all before it: none larger than the one before, as engines ask
    (steps near a request's end draft fewer, which can make it seem so)."""
    shares = [one.share for one in positions]
    if any(share is None for share in shares):
        return ()
    return tuple(accumulate((float(share or 0) for share in shares), min))


def k_by_batch_size(schedule: Schedule, draft: str, context: int | None = None) -> dict[int, int]:
    """K from each batch size on: at one context, or over all of them that whose least speedup is the largest,
    and 0 where at any of them nothing is shown to pay."""
    if context is not None and context not in schedule.contexts:
        known = ", ".join(map(str, schedule.contexts)) or "none"
        raise UserError("context", context, "is not in the schedule", f"Choose from {known}")
    found = {}
    for size in schedule.batch_sizes:
        there = [one for one in schedule.choices if one.batch_size == size]
        there = [one for one in there if context in (None, one.context)]
        points = [p for p in schedule.points if p.batch_size == size and p.draft == draft]
        points = [p for p in points if context in (None, p.context)]
        ks = sorted({point.k for point in points})
        least = {k: min(p.speedup.value for p in points if p.k == k) for k in ks}
        best = max(ks, key=lambda k: least[k], default=0)
        found[size] = best if best and least[best] > 1 and all(one.pays for one in there) else 0
    return found


def _best_of(schedule: Schedule) -> str | None:
    paying = [one for one in schedule.choices if one.pays]
    return max(paying, key=lambda one: one.speedup.value).draft if paying else None


def _best_k(result: SpecDecodeResult, label: str) -> int | None:
    plan = result.plan.get(label)
    if plan is not None:
        return plan.best_k.replay
    rows = [row for row in result.sweep if row.draft == label and row.status == "ok"]
    return max(rows, key=lambda row: row.metrics["throughput_tok_s"].value).k if rows else None


def _place(name: str) -> str:
    """Embedded models have a name in bitdraft alone; for others they are folders."""
    if not name.startswith("demo/"):
        return name
    return str(Path(bitdraft.__file__).parent / name)


def is_file(name: str) -> bool:
    """A GGUF file by its name."""
    return Path(name).suffix.lower() == ".gguf"
