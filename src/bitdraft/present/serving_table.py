"""The rows of running servers as a table."""

from __future__ import annotations

from bitdraft.present.table import Cell, Column, Table, percent
from bitdraft.schema.serving import ServingResult

_COLUMNS = (
    Column("Tok/s", "throughput_tok_s", 1, hint="Of a request: new tokens over its seconds, pooled."),
    Column("Speedup", "speedup", 2, hint="Throughput over the baseline's, paired by prompt."),
    Column("TPOT ms", "tpot_ms", 2, rank=2, hint="Time per output token behind the first piece of text."),
    Column("TTFT ms", "ttft_ms", 1, rank=1, hint="Time to the first piece of text."),
    Column("Gap 95 % ms", "itl_p95_ms", 1, rank=7, hint="Between pieces of text; median over requests."),
    Column("Gap 99 % ms", "itl_p99_ms", 1, rank=8, hint="Between pieces of text; median over requests."),
    Column("Server tok/s", "output_tok_s", 1, rank=3, hint="Of all requests together."),
    Column("Tok/step", "tokens_per_step", 2, rank=5, hint="1 + accepted / steps."),
    Column("Acc. %", "acceptance_rate", 1, percent, rank=4, hint="(tokens per step − 1) / K."),
    Column("Kept %", "draft_acceptance", 1, percent, rank=6, hint="Accepted of all drafted tokens."),
    Column("Good req/s", "goodput_req_s", 2, rank=9, hint="Requests within the limits a second."),
    Column("Good %", "goodput_share", 1, percent, rank=10, hint="Share of all requests."),
)


def serving_table(result: ServingResult) -> Table:
    """A row a server and load."""
    kept = [c for c in _COLUMNS if any(c.key in row.metrics for row in result.rows)]
    has_k = any(row.k is not None for row in result.rows)
    some_failed = any(row.num_failed for row in result.rows)
    has_failed = any(row.status != "ok" for row in result.rows)
    first = [Column("Server", "server"), Column("Load", "concurrency", hint="Requests in flight.")]
    first += [Column("K", "k")] if has_k else []
    first += [Column("Failed", "num_failed")] if some_failed else []
    first += [Column("Reason", "reason", rank=11)] if has_failed else []
    rows = []
    for row in result.rows:
        is_best = result.verdict.best.get(str(row.load)) == row.server
        load = row.load or f"{result.config.rate:g}/s"
        cells = [Cell(row.server, "good" if is_best else ""), Cell(load)]
        cells += [Cell(row.k)] if has_k else []
        cells += [Cell(row.num_failed, "bad" if row.num_failed else "")] if some_failed else []
        cells += [Cell(row.reason)] if has_failed else []
        rows.append([*cells, *(Cell(row.metrics.get(column.key)) for column in kept)])
    sizes = [row.load for row in result.rows]
    groups = frozenset(place for place in range(1, len(sizes)) if sizes[place] != sizes[place - 1])
    return Table("Servers", [*first, *kept], rows, groups=groups)


def positions_table(result: ServingResult) -> Table:
    """Acceptance by position of each server and load that tells it."""
    rows = [row for row in result.rows if row.acceptance_by_position]
    most = max((len(row.acceptance_by_position) for row in rows), default=0)
    columns = [Column("Server"), Column("Load"), Column("Steps")]
    columns += [Column(f"Position {place} %", digits=1, scale=percent) for place in range(1, most + 1)]
    lines = []
    for row in rows:
        shares: list[float | None] = [one.share for one in row.acceptance_by_position]
        shares += [None] * (most - len(shares))
        steps = int(row.acceptance_by_position[0].n or 0)
        lines.append([Cell(row.server), Cell(row.load), Cell(steps), *map(Cell, shares)])
    note = "Share of all steps that kept the token at this position, and all before it."
    return Table("Acceptance by position", columns, lines, note)
