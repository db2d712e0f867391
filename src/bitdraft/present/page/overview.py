"""Several folders side by side. Runs on different machines or models are not paired, so that no ratio between
them is given: intervals stand beside one another."""

from __future__ import annotations

from collections.abc import Sequence

from bitdraft.metrics.memory import memory_name
from bitdraft.present.charts import overview as charts
from bitdraft.present.page.model import Block, Chart, Grid, Section, Text
from bitdraft.present.page.run import Run, View, machine_of
from bitdraft.present.table import Cell, Column, Table
from bitdraft.schema.precision import PrecisionResult
from bitdraft.schema.spec_decode import SpecDecodeResult, SpecDecodeRow

_WORDS = (
    "Each folder was measured on its own: nothing is paired between them, so compare intervals, and only "
    "where text and settings are the same (see the protocols)."
)


def section(runs: Sequence[Run]) -> Section:
    """Verdicts, charts where there is something to compare, tables."""
    precisions, sweeps = _precisions(runs), _sweeps(runs)
    sized = [(list(runs).index(run), f"{run.label}: {view.title}", row) for run, view, row in sweeps]
    panels = [charts.precisions(precisions), charts.speculation(sized)]
    blocks: list[Block] = [Text(_WORDS, is_note=True), Grid(_verdicts(runs))]
    blocks += [Chart.of(panel) for panel in panels if panel is not None]
    blocks += [Grid(table) for table in (_precision_table(precisions), _sweep_table(sweeps)) if table.rows]
    return Section("Side by side", blocks)


def _verdicts(runs: Sequence[Run]) -> Table:
    lines = [
        [
            Cell(run.label),
            Cell(view.result.model.name),
            Cell(machine_of(view.result)),
            Cell(view.title),
            Cell(view.result.summary or "No verdict."),
        ]
        for run in runs
        for view in run.views
    ]
    titles = ("Folder", "Model", "Machine", "Result", "Verdict")
    return Table("Verdicts", [Column(title) for title in titles], lines)


def _precisions(runs: Sequence[Run]) -> list[tuple[str, PrecisionResult]]:
    """With the title behind the folder where a folder has several."""
    found = []
    for run in runs:
        own = [(view, view.result) for view in run.views if isinstance(view.result, PrecisionResult)]
        for view, result in own:
            found.append((run.label if len(own) == 1 else f"{run.label}: {view.title}", result))
    return found


def best_row(result: SpecDecodeResult) -> SpecDecodeRow | None:
    """The fastest by value."""
    finished = [row for row in result.sweep if row.status == "ok" and "speedup" in row.metrics]
    return max(finished, key=lambda row: row.metrics["throughput_tok_s"].value, default=None)


def _sweeps(runs: Sequence[Run]) -> list[tuple[Run, View, SpecDecodeRow]]:
    found = []
    for run in runs:
        for view in run.views:
            if isinstance(view.result, SpecDecodeResult) and not view.result.config.plan:
                row = best_row(view.result)
                if row is not None:
                    found.append((run, view, row))
    return found


def _precision_table(results: Sequence[tuple[str, PrecisionResult]]) -> Table:
    lines = []
    for label, result in results:
        memory = memory_name(row.metrics for row in result.rows)
        for row in result.rows:
            keys = ("throughput_tok_s", "tpot_ms", "ttft_ms", "ppl", memory)
            lines.append([Cell(label), Cell(row.precision), *(Cell(row.metrics.get(key)) for key in keys)])
    columns = [
        Column("Folder"),
        Column("Precision"),
        Column("Tok/s", digits=1),
        Column("TPOT ms", digits=2),
        Column("TTFT ms", digits=1),
        Column("PPL", digits=3),
        Column("Peak memory GiB", digits=2),
    ]
    return Table("Precision", columns, lines)


def _sweep_table(sweeps: Sequence[tuple[Run, View, SpecDecodeRow]]) -> Table:
    keys = ("throughput_tok_s", "speedup", "acceptance_rate", "tokens_per_step")
    lines = [
        [
            Cell(run.label),
            Cell(view.title),
            Cell(f"{row.draft}, K = {row.k}"),
            *(Cell(row.metrics.get(key)) for key in keys),
        ]
        for run, view, row in sweeps
    ]
    columns = [
        Column("Folder"),
        Column("Sweep"),
        Column("Fastest"),
        Column("Tok/s", digits=1),
        Column("Speedup", digits=2),
        Column("Accept", digits=3),
        Column("Tok/step", digits=2),
    ]
    return Table("Speculation", columns, lines)
