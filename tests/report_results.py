"""Small results of every kind with numbers made by hand, for the tests of the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from bitdraft.schema.findings import Finding
from bitdraft.schema.io import to_json
from bitdraft.schema.precision import PrecisionResult, PrecisionRow, Quality
from bitdraft.schema.recommendation import Contender, Recommendation
from bitdraft.schema.records import Divergence, Figure, Generation
from bitdraft.schema.spec_decode import DraftPlan, LosslessCheck, SpecDecodeResult, SpecDecodeRow

MARKUP = "<img src=x onerror=alert(1)>"
KS = (2, 3, 4)
ENVIRONMENT: dict[str, Any] = {
    "time_utc": "2026-01-02T03:04:05+00:00",
    "bitdraft": "0.1.0",
    "git_commit": "abc",
    "python": "3.11",
    "torch": "2.9",
    "transformers": "5.17",
    "cpu": "A processor",
    "ram_gb": 16.0,
    "device": "cpu",
    "ceilings": {"copy_gb_s": 20.0, "matmul_tflop_s": {"fp32": 0.4}},
}
TEXT: dict[str, Any] = {
    "dataset": "stdlib",
    "source": "standard library",
    "sha256": "0" * 64,
    "prompt_ids": [f"p{i}" for i in range(6)],
    "prompt_tokens": [20, 30, 30, 30, 30, 30],
}


def figure(value: float, wide: float | None = 0.1, n: int = 6) -> Figure:
    """With an interval of ± `wide` times the value."""
    if wide is None:
        return Figure(value=value, n=n)
    return Figure(value=value, low=value * (1 - wide), high=value * (1 + wide), n=n)


def said(
    summary: str, reasons: Sequence[str] = (), warnings: Sequence[str] = (), skipped: Sequence[str] = ()
) -> tuple[Finding, ...]:
    """Findings with sentences of their own."""
    found = {"answer": [summary], "reason": reasons, "warning": warnings, "skipped": skipped}
    return tuple(
        Finding(code="earlier.text", severity=severity, text=text)
        for severity, texts in found.items()
        for text in texts
    )


def precision_row(precision: str, speed: float, delta: float | None = None, gib: float = 1.0) -> PrecisionRow:
    quality: dict[str, Any] = {"protocol": {"protocol": "sliding", "window": 64, "truncated": False}}
    if delta is not None:
        change = Figure(value=delta, low=delta - 1e-3, high=delta + 1e-3, n=50)
        quality |= {
            "delta_ln_ppl": change,
            "kl_divergence": figure(2e-4),
            "top1_agreement": figure(0.98, 0.01),
            "delta_p_rms": figure(0.004),
        }
    metrics = {
        "throughput_tok_s": figure(speed),
        "tpot_ms": figure(1000 / speed),
        "ttft_ms": figure(20.0),
        "ppl": figure(30.0),
        "peak_ram_gb": figure(gib, None, 1),
        "mbu": figure(0.5),
    }
    return PrecisionRow(precision=precision, status="ok", metrics=metrics, quality=Quality(**quality))


def precision_result(name: str = "org/model", speed: float = 100.0, **changes: Any) -> PrecisionResult:
    """fp32, an fp16 that overflows, and a bf16 of twice the speed."""
    rows = (
        precision_row("fp32", speed),
        PrecisionRow(precision="fp16", status="overflow", reason="non-finite numbers from layer.3"),
        precision_row("bf16", 2 * speed, 0.002, gib=0.5),
    )
    comparison = {
        "precision": "bf16",
        "reference": "fp32",
        "speedup": figure(2.0, 0.05).model_dump(),
        "ppl_change": {"value": 0.002, "low": 0.001, "high": 0.003},
    }
    config = {"model": name, "num_prompts": 6, "max_new_tokens": 100, "backend": "native"}
    fields: dict[str, Any] = {
        "config": config | {"ppl_protocol": "sliding", "precisions": ["fp32", "fp16", "bf16"]},
        "environment": ENVIRONMENT,
        "model": {"name": name, "stored_dtype": "fp32"},
        "text": TEXT,
        "rows": rows,
        "verdict": {"precision": "bf16", "comparisons": [comparison], "max_ppl_increase": 0.005},
        "findings": said("Use bf16.", ["fp16 is out: overflow."], ["The machine's speed changed."]),
    }
    return PrecisionResult(**fields | changes)


def sweep_row(draft: str, k: int, speedup: float, wide: float | None = 0.1) -> SpecDecodeRow:
    step = {"draft_ms": 0.5 * k, "verify_ms": 2.0, "host_ms": 0.1, "draft_predicted_ms": 0.4 * k}
    step |= {"verify_predicted_ms": 1.9, "draft_gap_ms": 0.1 * k, "verify_gap_ms": 0.1, "host_gap_ms": 0.1}
    positions = [{"position": i, "n": 100, "share": 0.8 / i, "conditional": 0.7} for i in range(1, k + 1)]
    fields: dict[str, Any] = {
        "draft": draft,
        "k": k,
        "backend": "native",
        "status": "ok",
        "metrics": {
            "throughput_tok_s": figure(100 * speedup, wide),
            "speedup": figure(speedup, wide),
            "decode_speedup": figure(speedup, wide),
            "acceptance_rate": figure(1 / k, wide),
            "tokens_per_step": figure(2.0, wide),
            "tpot_ms": figure(10 / speedup, wide),
            "peak_ram_gb": figure(1.0, None, 1),
        },
        "acceptance_by_position": positions,
        "realised_k": {"0": 3, str(k): 97},
        "num_truncated_steps": 2,
        "lossless": {"identical": 6, "num_prompts": 6, "divergences": []},
        "replay_check": {"agrees": True, "num_compared": 6, "num_identical": 6, "mismatches": []},
        "predicted": {"leviathan": speedup + 0.1, "replay": speedup + 0.05, "step": step},
    }
    return SpecDecodeRow(**fields)


def divergence() -> LosslessCheck:
    found = Divergence(prompt=3, position=7, logit_gap=0.01, control_precision="fp32", control_agrees=True)
    return LosslessCheck(identical=5, num_prompts=6, divergences=(found,))


def batch_rows() -> tuple[SpecDecodeRow, ...]:
    """K = 0 and draft a at two sizes; at the larger one the draft failed."""
    rows = []
    for size, speedup in ((4, 1.2), (8, 0.9)):
        same = LosslessCheck(identical=4, num_prompts=4)
        plain = {"throughput_tok_s": figure(100.0 * size, n=1, wide=None), "tpot_ms": figure(3.0)}
        shared: dict[str, Any] = {"batch_size": size, "status": "ok", "lossless": same}
        rows.append(SpecDecodeRow(draft=None, k=0, metrics=plain, **shared))
        own = {"throughput_tok_s": figure(100 * size * speedup), "speedup": figure(speedup)}
        rows.append(SpecDecodeRow(draft="a", k=3, metrics=own, **shared))
    return (*rows, SpecDecodeRow(batch_size=16, draft=None, k=0, status="oom", reason="no room"))


def run() -> Generation:
    return Generation(
        prompt_tokens=9, submit_s=0, emissions=((0.1, 1), (0.2, 1)), token_ids=(1, 2), finish_reason="length"
    )


def sweep_result(name: str = "org/model", draft: str = "a", **changes: Any) -> SpecDecodeResult:
    """Two drafts over K = 2, 3, 4, `draft` at K = 3 the fastest; prompt lookup failed at 4."""
    baseline = {"throughput_tok_s": figure(100.0), "tpot_ms": figure(10.0), "peak_ram_gb": figure(0.9, None)}
    rows = [SpecDecodeRow(draft=None, k=0, status="ok", metrics=baseline, runs=(run(),))]
    rows += [sweep_row(draft, k, speedup) for k, speedup in zip(KS, (1.4, 1.6, 1.5), strict=True)]
    rows += [sweep_row("ngram", k, 0.9) for k in KS[:2]]
    rows.append(SpecDecodeRow(draft="ngram", k=4, backend="native", status="failed", reason="a reason"))
    replay = {str(k): {"acceptance_rate": 1 / k, "tokens_per_step": 2.0} for k in range(1, 33)}
    config = {"model": name, "k": list(KS), "plan": False, "temperature": 0.0, "ignore_eos": True}
    config |= {"max_new_tokens": 100, "precision": "fp32", "draft_precision": None, "backend": "native"}
    forward = {"1": figure(2.0).model_dump(), "3": figure(2.2).model_dump(), "5": figure(2.4).model_dump()}
    fields: dict[str, Any] = {
        "config": config,
        "environment": ENVIRONMENT | {"time_utc": "2026-01-02T04:04:05+00:00"},
        "model": {"name": name, "execution": "static"},
        "drafts": {draft: {"name": "org/draft"}, "ngram": {"name": "prompt lookup"}},
        "text": TEXT,
        "rows": tuple(rows),
        "replay": {draft: replay},
        "costs": {
            "target_forward_ms": forward,
            "draft_forward_ms": {draft: figure(0.2).model_dump()},
            "draft_cost": {draft: 0.1},
            "verify_cost": {"0": 1.0, "2": 1.1, "4": 1.2},
        },
        "verdict": {"speculate": True},
        "findings": said(f"Speculate with {draft}, K = 3.", ["Lossless."], ["The speedup varies widely."]),
    }
    return SpecDecodeResult(**fields | changes)


def plan_result(name: str = "org/model") -> SpecDecodeResult:
    by_k = {
        str(k): {"leviathan": 1.1, "replay": 1.3, "replay_end_to_end": 1 + k / 10, "tokens_per_step": 2.0}
        for k in KS
    }
    entry = {"alpha": 0.7, "by_k": by_k, "best_k": {"leviathan": 2, "replay": 4}}
    sweep = sweep_result(name)
    return sweep.model_copy(
        update={
            "config": sweep.config.model_copy(update={"plan": True}),
            "rows": (),
            "plan": {"a": DraftPlan.model_validate(entry)},
            "findings": said("Speculate with a, K = 4: predicted 1.40×."),
        }
    )


def recommendation(name: str = "org/model") -> Recommendation:
    change = Figure(value=0.002, low=0.001, high=0.003, n=50)
    fast = Contender(
        precision="bf16",
        draft="a",
        k=3,
        standing="chosen",
        throughput_tok_s=figure(320.0),
        speedup=figure(1.6),
        ttft_ms=figure(20.0),
        peak_memory_gb=0.6,
        ppl_change=change,
        is_pareto=True,
    )
    others = (
        fast.model_copy(
            update={
                "k": 4,
                "standing": "indistinguishable",
                "throughput_tok_s": figure(310.0),
                "is_pareto": False,
            }
        ),
        Contender(
            precision="fp32",
            draft=None,
            k=0,
            standing="slower",
            throughput_tok_s=figure(100.0),
            peak_memory_gb=1.0,
            is_pareto=True,
        ),
        Contender(precision="fp32", draft="b", k=5, standing="predicted", predicted_speedup=1.2),
        Contender(precision="fp16", draft=None, k=0, standing="out", problems=said("overflow")),
    )
    choice = {"precision": "bf16", "speculate": True, "draft": "a", "k": 3, "draft_precision": "bf16"}
    fields: dict[str, Any] = {
        "config": {"model": name, "num_prompts": 6},
        "environment": ENVIRONMENT,
        "model": {"name": name},
        "text": TEXT,
        "choice": choice,
        "findings": said(
            "Deploy bf16 with a, K = 3.",
            ["It is the fastest within the limits."],
            ["A warning of the recommendation."],
            ["vLLM was not measured."],
        ),
        "limits": {"max_ppl_increase": 0.005},
        "contenders": (fast, *others),
        "stages": ({"stage": "precision", "what": "three precisions", "seconds": 12.0},),
        "snippets": {"transformers": "model = load('<here>')  # & there", "native": "bitdraft spec-decode"},
    }
    return Recommendation(**fields)


def save(folder: Path, **results: BaseModel) -> Path:
    """Results by the name of their file (`precision`, …); `__` stands for a subfolder."""
    for name, result in results.items():
        path = folder / f"{name.replace('__', '/')}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(to_json(result), encoding="utf-8")
    return folder
