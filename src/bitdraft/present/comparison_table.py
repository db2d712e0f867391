"""A comparison as tables: one a file, and what else is not the same."""

from __future__ import annotations

from itertools import groupby

from bitdraft.present.table import Cell, Column, Mark, Table
from bitdraft.schema.comparison import Comparison, Ratio, RowComparison, RowName

HINT = "B over A; ▲ significantly better, ▼ worse, ~ by no more than the machine itself changed"
ENDS = "in brackets the 95 % interval over prompts (PPL: over blocks of text)"
_MARKS: dict[str, Mark] = {"better": "better", "worse": "worse", "drift": "drift"}


def _change(ratio: float) -> float:
    return 100 * (ratio - 1)


# those that a narrow terminal has no room for go first by their rank; what hardly ever changes, as a change
COLUMNS = (
    Column("Tok/s ×", "throughput_tok_s", 3),
    Column("Speedup ×", "speedup", 3, rank=1),
    Column("PPL %", "ppl", 3, _change, signed=True, rank=2),
    Column("TTFT ×", "ttft_ms", 3, rank=3),
    Column("TPOT ×", "tpot_ms", 3, rank=4),
    Column("Tok/step ×", "tokens_per_step", 3, rank=5),
    Column("VRAM ×", "peak_vram_gb", 3, rank=6),
    Column("RAM ×", "peak_ram_gb", 3, rank=7),
    Column("Bits/byte %", "bits_per_byte", 3, _change, signed=True, rank=8),
)


def comparison_tables(comparison: Comparison) -> list[Table]:
    """The rows of each file, with the metrics that any of them has; every ratio is B over A."""
    tables = []
    for source, group in groupby(comparison.rows, key=lambda row: row.name.source):
        rows = list(group)
        columns = [column for column in COLUMNS if any(column.key in row.ratios for row in rows)]
        has_status = any(_status(row) != "ok" for row in rows)
        lines = []
        for row in rows:
            status = [Cell(_status(row), "" if _status(row) == "ok" else "bad")] if has_status else []
            cells = [_cell(row.ratios.get(column.key)) for column in columns]
            same = "" if row.same_ids is None else "{} of {}".format(*row.same_ids)
            lines.append([Cell(row.name.short), *status, *cells, Cell(same)])
        first = [Column("Row"), *([Column("Status")] if has_status else [])]
        tables.append(
            Table(_title(rows[0].name, source), [*first, *columns, Column("Same ids", rank=9)], lines)
        )
    return tables


def _cell(ratio: Ratio | None) -> Cell:
    return Cell() if ratio is None else Cell(ratio.ratio, _MARKS.get(ratio.standing, ""))


def _title(name: RowName, source: str) -> str:
    return f"{source} · {name.text}" if name.k is None else f"{source} · {name.text} · {name.precision}"


def _status(row: RowComparison) -> str:
    """`ok`, or both where they differ."""
    return row.status_a if row.status_a == row.status_b else f"{row.status_a} → {row.status_b}"


def differences_table(comparison: Comparison) -> Table | None:
    """Settings, machine, versions and models that are not the same; with the files that it is true of, where
    those are not all."""
    num_files = len({row.name.source for row in comparison.rows})
    lines = []
    for entry in comparison.differences:
        is_general = len(entry.sources) in (0, num_files)
        name = entry.key if is_general else f"{entry.key} ({', '.join(entry.sources)})"
        a, b = ("" if value is None else str(value) for value in (entry.a, entry.b))
        lines.append([Cell(name), Cell(a), Cell(b)])
    columns = [Column("Setting"), Column("A"), Column("B")]
    return Table("What else is not the same", columns, lines) if lines else None
