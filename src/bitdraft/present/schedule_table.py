"""The K schedule as a table: the best K by batch size and context, and what it brings."""

from __future__ import annotations

from bitdraft.present.table import Cell, Column, Table, Value, csv_text
from bitdraft.schema.spec_decode import Schedule, ScheduleChoice, SpecDecodeResult

NOTE = (
    "K = 0: speculation is not shown to pay there. Speedup: the best (draft, K)'s, predicted from tokens per "
    "step by replay and from steps timed at that batch size and context; intervals hold for all that were "
    "looked at."
)


def schedule_table(result: SpecDecodeResult) -> Table:
    """A row a context and batch size."""
    has_drafts = len({one.draft for one in result.schedule.choices}) > 1
    columns = [
        Column("Context", "context"),
        Column("Batch", "batch_size"),
        *([Column("Draft", "draft")] if has_drafts else []),
        Column("K", "k"),
        Column("Speedup", "speedup", 2),
        Column("Best K by value", "best_k", rank=1),
    ]
    choices, rows = in_order(result.schedule), []
    for one in choices:
        names = [Cell(one.context), Cell(one.batch_size), *([Cell(one.draft)] if has_drafts else [])]
        speedup = Cell(one.speedup, "best" if one.pays else "")
        rows.append([*names, Cell(one.k), speedup, Cell(one.best_k)])
    groups = {i for i, one in enumerate(choices) if not i or one.context != choices[i - 1].context}
    return Table("K by batch size and context", columns, rows, NOTE, groups=frozenset(groups))


def in_order(schedule: Schedule) -> list[ScheduleChoice]:
    """By context, then by batch size."""
    return sorted(schedule.choices, key=lambda one: (one.context, one.batch_size))


def schedule_csv(result: SpecDecodeResult) -> str:
    """A line for every (draft, K) at every batch size and context; `is_chosen` where it is the schedule's."""
    chosen = {(one.batch_size, one.context, one.draft, one.k) for one in result.schedule.choices}
    lines: list[dict[str, Value]] = []
    for point in result.schedule.points:
        own = (point.batch_size, point.context, point.draft, point.k)
        names: dict[str, Value] = dict(zip(("batch_size", "context", "draft", "k"), own, strict=True))
        times: dict[str, Value] = {"plain_ms": point.plain_ms, "step_ms": point.step_ms}
        lines.append(names | times | {"speedup": point.speedup, "is_chosen": int(own in chosen)})
    return csv_text(lines)
