"""What a spec_decode result leaves in a folder: JSON, CSV, Markdown and charts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from bitdraft.present.charts import schedule, sweep
from bitdraft.present.charts.anatomy import anatomy
from bitdraft.present.charts.batches import batch_chart
from bitdraft.present.files import conclusions, machine_line, write_charts, write_texts
from bitdraft.present.pairs_table import pairs_csv, pairs_table
from bitdraft.present.schedule_table import schedule_csv, schedule_table
from bitdraft.present.sentences import Language, with_sentences
from bitdraft.present.sweep_table import VERSUS_1, lossless_text, plan_table, sweep_table
from bitdraft.present.table import Value, csv_text, interval_hint, markdown
from bitdraft.schema.io import to_json
from bitdraft.schema.spec_decode import SpecDecodeResult, SpecDecodeRow


def file_stem(result: SpecDecodeResult) -> str:
    """A plan, and what is synthetic, stands beside a sweep of the same text, not in its place."""
    return f"spec_decode_{'plan_' if result.config.plan else ''}{_dataset(result)}"


def _dataset(result: SpecDecodeResult) -> str:
    """Its name as part of a file's."""
    name = re.sub(r"[^\w.-]+", "_", result.text.dataset)
    return name if result.config.synthetic_acceptance is None else f"synthetic_{name}"


def csv_of(result: SpecDecodeResult) -> str:
    """A line for the baseline and one for every (draft, K), larger batches last: every metric with its
    interval and n; or a line a prediction."""
    lines: list[dict[str, Value]]
    if result.config.plan:
        lines = [
            {"draft": draft, "k": k, **point.model_dump()}
            for draft, entry in result.plan.items()
            for k, point in entry.by_k.items()
        ]
    else:
        lines = [_record(row) for row in result.rows]
    acceptance = result.config.synthetic_acceptance
    if acceptance is not None:
        lines = [{"synthetic_acceptance": acceptance, **line} for line in lines]
    return csv_text(lines)


def _record(row: SpecDecodeRow) -> dict[str, Value]:
    names: dict[str, Value] = {"draft": row.draft, "k": row.k, "batch_size": row.batch_size}
    names |= {name: getattr(row, name) for name in ("backend", "status", "reason")}
    predicted = {f"predicted_{key}": getattr(row.predicted, key) for key in ("leviathan", "replay")}
    return names | row.metrics | {"same_ids": lossless_text(row)} | predicted


def markdown_text(result: SpecDecodeResult) -> str:
    lines = [
        *conclusions(result, f"Speculative decoding of {sweep.subject(result)}"),
        *(markdown(plan_table(result)) if result.config.plan else _table_lines(result)),
        *_schedule_lines(result),
        *_pair_lines(result),
        "",
        f"Text: {result.text.dataset} (sha256 {result.text.sha256[:12]}), "
        f"{len(result.text.prompt_ids)} prompts, {sweep.new_tokens(result.config)} new tokens each. "
        f"Run by the {sweep.how_run(result)}.",
    ]
    if result.environment.torch is not None:
        lines.append(machine_line(result.environment))
    return "\n".join(lines) + "\n"


def _schedule_lines(result: SpecDecodeResult) -> list[str]:
    if not result.schedule:
        return []
    table = schedule_table(result)
    return ["", f"## {table.title}", "", *markdown(table), "", table.note]


def _pair_lines(result: SpecDecodeResult) -> list[str]:
    if not result.pairs:
        return []
    table = pairs_table(result)
    return ["", f"## {table.title}", "", *markdown(table), "", table.note]


def _table_lines(result: SpecDecodeResult) -> list[str]:
    table = sweep_table(result, [row for row in result.rows if row.batch_size == 1], "Every draft and K")
    lines = [*markdown(table), "", f"In bold what is recommended, and tied with it; {interval_hint(table)}."]
    if result.batches:
        batches = sweep_table(result, result.batches, "Several prompts at once")
        lines += ["", "## Several prompts at once", "", *markdown(batches), "", VERSUS_1]
    return lines


def publish(result: SpecDecodeResult, folder: Path | None) -> tuple[SpecDecodeResult, list[str]]:
    """Give the result its sentences; write the JSON, CSV, Markdown and the charts. Returns it with the names
    of its files."""
    found = with_sentences(result)
    if folder is None:
        return found, []
    texts = {"json": to_json(found), "csv": csv_of(found), "md": markdown_text(found)}
    names = write_texts(folder, file_stem(found), texts)
    if found.pairs:
        names += write_texts(folder, f"{file_stem(found)}_pairs", {"csv": pairs_csv(found)})
    if found.schedule:
        names += write_texts(folder, f"{file_stem(found)}_schedule", {"csv": schedule_csv(found)})
    return found, [*names, *draw(found, folder)]


def draw(
    result: SpecDecodeResult, folder: Path, formats: Sequence[str] = ("png",), language: Language = "en"
) -> list[str]:
    """The charts of a result, from it alone; none where nothing was measured. Their files' names."""
    name, found = _dataset(result), with_sentences(result, language)
    charts = {}
    if found.config.plan and found.plan:
        charts[f"speculation_plan_{name}"] = sweep.plan(found)
    if found.schedule:
        charts[f"speculation_schedule_{name}"] = schedule.chart(found)
    if found.baseline is not None:
        charts[f"speculative_comparison_{name}"] = sweep.comparison(found)
        charts[f"speculation_anatomy_{name}"] = anatomy(found)
        if any(row.status == "ok" for row in found.batches):
            charts[f"speculation_batches_{name}"] = batch_chart(found)
    return write_charts(
        folder, {key: chart for key, chart in charts.items() if chart.panels}, formats, language
    )
