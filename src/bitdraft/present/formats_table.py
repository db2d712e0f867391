"""The table that people publish of formats, with the names of llama.cpp's `llama-perplexity`: what each loses
against the reference, on the same tokens, beside what it brings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from bitdraft.metrics.memory import memory_name
from bitdraft.present.table import Cell, Column, Table, Value, csv_text, percent
from bitdraft.schema.precision import PrecisionRaw, PrecisionResult, PrecisionRow, Quality
from bitdraft.schema.records import Figure

FLOOR = "rounding alone"
_NOTE = (
    "KLD: Kullback-Leibler divergence of the next token's distribution from the reference's, in nats; the "
    f"last row, {FLOOR}, is the reference beside itself through forwards of another shape."
)
_OF_TRUE = "Change of the true token's probability."


_COLUMNS = (
    Column("Size GiB", "size_gib", 3, hint="Of all weights."),
    Column("Bits / weight", "bits_per_weight", 2, hint="Over all weights, embeddings and norms included."),
    Column("PPL", "ppl", 4, rank=2),
    Column("PPL ratio", "ppl_ratio", 5, rank=1, hint="PPL over the reference's, paired on the same tokens."),
    Column("Mean KLD", "mean_kld", significant=3),
    Column("Median", "median_kld", rank=5, significant=3),
    Column("99 %", "kld_99", rank=4, significant=3),
    Column("99.9 %", "kld_99.9", rank=6, significant=3),
    Column("Maximum", "maximum_kld", rank=7, significant=3),
    Column("RMS Δp %", "rms_delta_p", None, percent, rank=8, hint=_OF_TRUE, significant=3),
    Column("Same top p %", "same_top_p", 2, percent, rank=3, hint="Same most probable token."),
    Column("Tok/s", "throughput_tok_s", 1),
    Column("TTFT ms", "ttft_ms", 1, rank=10),
    Column("", "memory", 2, rank=9),
    Column("MBU", "mbu", 3, rank=11, hint="Memory-bandwidth utilisation."),
    Column("J / token", "joules_per_token", 3, rank=12),
)
_OF_QUALITY = {
    "mean_kld": "kl_divergence",
    "median_kld": "kl_median",
    "kld_99": "kl_p99",
    "kld_99.9": "kl_p999",
    "maximum_kld": "kl_max",
    "rms_delta_p": "delta_p_rms",
    "same_top_p": "top1_agreement",
}


def has_formats(result: PrecisionResult) -> bool:
    """Whether any divergence was measured."""
    return any(row.quality.kl_divergence is not None for row in result.rows)


def formats_table(result: PrecisionResult) -> Table:
    """A row a format that was measured, in the order of their sizes; then the floor."""
    rows = sorted(
        (row for row in result.rows if row.status in ("ok", "overflow") and row.metrics),
        key=lambda row: -(row.raw.weight_bytes or 0),
    )
    memory = memory_name(row.metrics for row in rows)
    figures = [_figures(row, memory) for row in rows]
    names: list[Value] = [row.precision for row in rows]
    if result.floor is not None:
        names.append(FLOOR)
        figures.append(_of_quality(result.floor))
    kept = [column for column in _COLUMNS if any(own.get(column.key) is not None for own in figures)]
    largest_gib = max((row.raw.weight_bytes or 0) / 2**30 for row in rows)
    shown = [_named(column, memory, largest_gib) for column in kept]
    lines = [
        [Cell(name, "quiet" if name == FLOOR else ""), *(Cell(own.get(column.key)) for column in kept)]
        for name, own in zip(names, figures, strict=True)
    ]
    return Table("Formats", [Column("Format", "format"), *shown], lines, _NOTE)


def _named(column: Column, memory: str, largest_gib: float) -> Column:
    """The memory that was measured, and sizes that are small in MiB."""
    if column.key == "size_gib" and largest_gib < 1:
        return replace(column, title="Size MiB", digits=1, scale=_mib)
    if column.key != "memory":
        return column
    title = "VRAM GiB" if memory == "peak_vram_gb" else "RAM GiB"
    return Column(title, memory, column.digits, rank=column.rank, hint="Peak memory of decoding.")


def _mib(gib: float) -> float:
    return 1024 * gib


def _figures(row: PrecisionRow, memory: str) -> dict[str, Value]:
    own: dict[str, Value] = dict(row.metrics)
    return {**own, **_of_quality(row.quality), "memory": row.metrics.get(memory), **sizes_of(row.raw)}


def sizes_of(raw: PrecisionRaw) -> dict[str, Value]:
    """GiB and bits of a weight, where weights were counted."""
    if not raw.weight_bytes or not raw.num_parameters:
        return {}
    return {
        "size_gib": raw.weight_bytes / 2**30,
        "bits_per_weight": 8 * raw.weight_bytes / raw.num_parameters,
    }


def _of_quality(quality: Quality) -> dict[str, Value]:
    found: dict[str, Value] = {name: getattr(quality, own) for name, own in _OF_QUALITY.items()}
    if quality.delta_ln_ppl is not None:
        found["ppl_ratio"] = _ratio(quality.delta_ln_ppl)
    return found


def _ratio(change: Figure) -> Figure:
    """PPL over PPL, of the difference of their logarithms."""
    ends = {
        name: None if (value := getattr(change, name)) is None else math.exp(min(value, 690.0))
        for name in ("value", "low", "high")
    }
    return Figure.model_validate(ends | {"n": change.n})


def formats_csv(result: PrecisionResult) -> str:
    """The same as CSV, in the stored units: shares, not percent."""
    table = formats_table(result)
    keys = [column.key for column in table.columns]
    rows: Sequence[Sequence[Cell]] = table.rows
    return csv_text([dict(zip(keys, (cell.value for cell in row), strict=True)) for row in rows])
