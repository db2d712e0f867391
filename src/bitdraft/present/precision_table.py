"""The rows of a precision result as a table."""

from __future__ import annotations

from bitdraft.metrics.memory import memory_name
from bitdraft.metrics.quality import ppl_increase
from bitdraft.present.charts.precision import quality_is_skipped
from bitdraft.present.table import Cell, Column, Mark, Table, best_of, percent
from bitdraft.schema.findings import of_code
from bitdraft.schema.precision import PrecisionResult, PrecisionRow
from bitdraft.schema.records import Figure

_HINTS = {
    "throughput_tok_s": "New tokens over seconds of a request, pooled over prompts.",
    "speedup": "Throughput over the reference's, paired by prompt.",
    "tpot_ms": "Time per output token: decoding after the first token, over its tokens.",
    "ttft_ms": "Time to first token: prefill and the first token.",
    "ppl": "Perplexity: the exponential of the mean negative log-likelihood a token.",
    "delta_ln_ppl": "Change of perplexity against the reference, paired on the same tokens.",
    "kl_divergence": "Mean KL divergence of the next-token distribution from the reference's.",
    "top1_agreement": "How often the most probable token is the reference's.",
    "mbu": "Memory-bandwidth utilisation: streamed bytes a second over the measured copy bandwidth.",
}


def _ppl_percent(delta: float) -> float:
    return percent(ppl_increase(delta))


def precision_table(result: PrecisionResult) -> Table:
    """A row a precision. The best of a column, with what is tied with it, is marked."""
    rows = result.rows
    memory = memory_name(row.metrics for row in rows)
    gib = "VRAM GiB" if memory == "peak_vram_gb" else "RAM GiB"
    columns = [
        Column("Tok/s", "throughput_tok_s", 1, hint=_HINTS["throughput_tok_s"]),
        Column("Speed ×", "speedup", 2, hint=_HINTS["speedup"]),
        Column("TPOT ms", "tpot_ms", 2, hint=_HINTS["tpot_ms"], rank=3),
        Column("TTFT ms", "ttft_ms", 1, hint=_HINTS["ttft_ms"], rank=2),
        Column("PPL", "ppl", 2, hint=_HINTS["ppl"], rank=1),
        Column("ΔPPL %", "delta_ln_ppl", 3, _ppl_percent, signed=True, hint=_HINTS["delta_ln_ppl"]),
        Column(gib, memory, 2, hint="Peak memory of decoding, in GiB."),
        Column("KL nats", "kl_divergence", 6, hint=_HINTS["kl_divergence"], rank=5),
        Column("Top-1 %", "top1_agreement", 2, percent, hint=_HINTS["top1_agreement"], rank=6),
        Column("MBU", "mbu", 3, hint=_HINTS["mbu"], rank=4),
    ]
    if quality_is_skipped(rows):
        of_quality = ("ppl", "delta_ln_ppl", "kl_divergence", "top1_agreement")
        columns = [column for column in columns if column.key not in of_quality]
    is_judged = not of_code(result.findings, "precision.too_drifted")
    speedups = {entry.precision: entry.speedup for entry in result.verdict.comparisons if is_judged}
    figures = [_figures(row) | _paired(row, speedups) for row in rows]
    columns = [column for column in columns if any(column.key in own for own in figures)]
    higher_is_better = {memory: False}
    if is_judged:
        higher_is_better |= {"throughput_tok_s": True, "tpot_ms": False, "ttft_ms": False}
    marks = {
        key: best_of([own.get(key) for own in figures], higher) for key, higher in higher_is_better.items()
    }
    lines, has_failed = [], any(row.status != "ok" for row in rows)
    for index, (row, own) in enumerate(zip(rows, figures, strict=True)):
        names = [Cell(row.precision, "good" if row.precision == result.verdict.precision else "")]
        if has_failed:
            names += [Cell(row.status, "" if row.status == "ok" else "bad"), Cell(row.reason)]
        cells = [Cell(own.get(c.key), _mark(c.key, own, index in marks.get(c.key, ()))) for c in columns]
        lines.append([*names, *cells])
    first = [Column("Precision", "precision")]
    first += [Column("Status", "status"), Column("Reason", "reason", rank=9)] if has_failed else []
    return Table("Precisions", [*first, *columns], lines)


def _mark(key: str, figures: dict[str, Figure], is_best: bool) -> Mark:
    """The paired change is worse or better only where its interval says so."""
    figure = figures.get(key)
    if is_best:
        return "best"
    if key == "delta_ln_ppl" and figure is not None and figure.low is not None and figure.low > 0:
        return "bad"
    return ""


def _figures(row: PrecisionRow) -> dict[str, Figure]:
    return {**row.metrics, **row.quality.figures()}


def _paired(row: PrecisionRow, speedups: dict[str, Figure]) -> dict[str, Figure]:
    return {"speedup": speedups[row.precision]} if row.precision in speedups else {}
