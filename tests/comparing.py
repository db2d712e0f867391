"""Result files made by hand, in which every ratio is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bitdraft import compare_results
from bitdraft.compare.measured import Measurement
from bitdraft.metrics.acceptance import speculation_figures
from bitdraft.metrics.speed import speed_figures
from bitdraft.schema.comparison import Comparison, RowComparison
from bitdraft.schema.io import to_json
from bitdraft.schema.precision import PrecisionRaw, PrecisionResult, PrecisionRow, ProtocolCard, Quality
from bitdraft.schema.recommendation import Recommendation
from bitdraft.schema.records import Figure, Generation, ScoreBlocks, Step
from bitdraft.schema.spec_decode import LosslessCheck, SpecDecodeResult, SpecDecodeRow

TOKENS = 9
SHA = "0" * 64
MACHINE = {
    "time_utc": "2026-01-01T00:00:00+00:00",
    "cpu": "a processor",
    "num_cores": 2,
    "num_threads": 2,
    "device": "cpu",
    "torch": "2.13.0",
    "ceilings": {"copy_gb_s": 10.0},
}
CARD = {
    "protocol": "sliding",
    "window": 64,
    "stride": 32,
    "normaliser": "tokens",
    "truncated": False,
    "num_scored_tokens": 2560,
}
Factors = float | Callable[[int], float]


def factor(factors: Factors, place: int) -> float:
    return factors if isinstance(factors, float) else factors(place)


def run(
    place: int, token_s: float = 0.01, first_s: float = 0.1, *, ids: int = 0, step: int = 0
) -> Generation:
    """Prompt `place` is slower by a tenth than the one before. With `step`, that many tokens an emission,
    all but one of them drafted."""
    slow, size = 1 + 0.1 * place, step or 1
    counts = [1] + [size] * ((TOKENS - 1) // size)
    times = [slow * (first_s + token_s * size * i) for i in range(len(counts))]
    return Generation(
        prompt_tokens=10 + place,
        submit_s=0.0,
        emissions=tuple(zip(times, counts, strict=True)),
        steps=(Step(size - 1, size - 1),) * (len(counts) - 1) if step else (),
        token_ids=tuple(range(ids, ids + TOKENS)),
        finish_reason="length",
    )


def runs(
    factors: Factors = 1.0, first: Factors | None = None, *, num_prompts: int = 10, **changes: Any
) -> list[Generation]:
    """Every time of prompt i times `factors` (of i); `first` is that of the first token alone."""
    found = []
    for place in range(num_prompts):
        own = factor(factors, place)
        start = own if first is None else factor(first, place)
        found.append(run(place, 0.01 * own, 0.1 * start, **changes))
    return found


def text(num_prompts: int = 10, **changes: Any) -> dict[str, Any]:
    record = {
        "dataset": "stdlib",
        "sha256": SHA,
        "prompt_ids": [f"p{place}" for place in range(num_prompts)],
        "prompt_tokens": [10 + place for place in range(num_prompts)],
    }
    return record | changes


def precision_row(
    precision: str,
    generations: Sequence[Generation],
    *,
    log_prob: Callable[[int], float] | None = lambda block: -500.0 - block,
    calibration_s: float = 1e-3,
    card: Mapping[str, Any] | None = None,
    gib: float = 1.0,
    lengths: Sequence[int] = (256,) * 10,
) -> PrecisionRow:
    """Scored in ten blocks."""
    quality, blocks = Quality(not_measured="random weights"), None
    if log_prob is not None:
        blocks = ScoreBlocks(num_tokens=tuple(lengths), log_prob=tuple(log_prob(i) for i in range(10)))
        quality = Quality(protocol=ProtocolCard(**{**CARD, **(card or {})}))
    metrics = speed_figures(generations) | {"peak_ram_gb": Figure(value=gib)}
    return PrecisionRow(
        precision=precision,
        status="ok",
        metrics=metrics,
        quality=quality,
        runs=tuple(generations),
        raw=PrecisionRaw(calibration_s=(calibration_s,) * 3, score_blocks=blocks),
    )


def failed_row(precision: str, status: str = "oom", reason: str = "out of memory") -> PrecisionRow:
    return PrecisionRow.model_validate({"precision": precision, "status": status, "reason": reason})


def precision_result(*rows: PrecisionRow, **changes: Any) -> PrecisionResult:
    """`changes` of `config`, `environment`, `model` and `text` are added to what is there."""
    num_prompts = next((len(row.runs) for row in rows if row.runs), 10)
    config = {"max_new_tokens": TOKENS, "num_prompts": num_prompts, "ppl_protocol": "sliding"}
    fields: dict[str, Any] = {
        "config": config | changes.get("config", {}),
        "environment": MACHINE | changes.get("environment", {}),
        "model": {"name": "a model", "vocab_size": 300} | changes.get("model", {}),
        "text": text(num_prompts, **changes.get("text", {})),
    }
    return PrecisionResult(rows=rows, **fields)


def sweep_row(
    draft: str, k: int, generations: Sequence[Generation], lossless: LosslessCheck | None = None
) -> SpecDecodeRow:
    items = [(run,) for run in generations]
    metrics = speed_figures(generations) | speculation_figures(items, k)
    return SpecDecodeRow(
        draft=draft, k=k, status="ok", metrics=metrics, lossless=lossless, runs=tuple(generations)
    )


def failed_sweep_row(draft: str, k: int) -> SpecDecodeRow:
    return SpecDecodeRow(draft=draft, k=k, status="oom", reason="out of memory")


def batch_row(size: int, draft: str | None, k: int, generations: Sequence[Generation]) -> SpecDecodeRow:
    """Groups of consecutive prompts; a group takes as long as its slowest row."""
    groups = tuple(tuple(range(start, start + size)) for start in range(0, len(generations) - size + 1, size))
    runs = tuple(generations[place] for group in groups for place in group)
    return SpecDecodeRow(batch_size=size, draft=draft, k=k, status="ok", runs=runs, groups=groups)


def sweep(plain: Sequence[Generation], *rows: SpecDecodeRow, **changes: Any) -> SpecDecodeResult:
    """`batches` among the changes are rows behind the sweep's."""
    baseline = []
    if plain:
        own = speed_figures(plain)
        baseline = [SpecDecodeRow(draft=None, k=0, status="ok", metrics=own, runs=tuple(plain))]
    config = {"max_new_tokens": TOKENS, "num_prompts": len(plain) or 10, "precision": "fp32"}
    fields: dict[str, Any] = {
        "config": config | changes.get("config", {}),
        "environment": MACHINE | changes.get("environment", {}),
        "model": {"name": "a model", "vocab_size": 300} | changes.get("model", {}),
        "drafts": {row.draft: {"name": row.draft} for row in rows},
        "text": text(len(plain), **changes.get("text", {})),
    }
    return SpecDecodeResult(rows=(*baseline, *rows, *changes.get("batches", ())), **fields)


def save_to(folder: Path, **results: Measurement | Recommendation) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, result in results.items():
        (folder / f"{name}.json").write_text(to_json(result), encoding="utf-8")
    return folder


def compare_in(
    folder: Path, a: PrecisionResult | SpecDecodeResult, b: PrecisionResult | SpecDecodeResult
) -> Comparison:
    """Two results of one kind, from their files."""
    name = "precision" if isinstance(a, PrecisionResult) else "spec_decode_stdlib"
    sides = (save_to(folder / side, **{name: result}) for side, result in (("a", a), ("b", b)))
    return compare_results(*sides)


def row_of(comparison: Comparison, short: str) -> RowComparison:
    return next(row for row in comparison.rows if row.name.short == short)
