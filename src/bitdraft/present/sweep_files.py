"""What a spec_decode result leaves in a folder: JSON, CSV, Markdown and charts; and its table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from bitdraft.present.charts import sweep
from bitdraft.present.charts.anatomy import anatomy
from bitdraft.present.charts.batches import batch_chart
from bitdraft.present.sentences import with_sentences
from bitdraft.present.sweep_table import VERSUS_1, columns, lossless_text, markdown_lines
from bitdraft.present.tables import NO_DRAFT, csv_of, flat_figures, interval_hint, machine_line
from bitdraft.schema.io import to_json, write_atomically
from bitdraft.schema.spec_decode import PlanPoint, SpecDecodeResult, SpecDecodeRow


def file_stem(result: SpecDecodeResult) -> str:
    """A plan, and what is synthetic, stands beside a sweep of the same text, not in its place."""
    return f"spec_decode_{'plan_' if result.config.plan else ''}{_dataset(result)}"


def _dataset(result: SpecDecodeResult) -> str:
    """Its name as part of a file's."""
    name = re.sub(r"[^\w.-]+", "_", result.text.dataset)
    return name if result.config.synthetic_acceptance is None else f"synthetic_{name}"


def csv_text(result: SpecDecodeResult) -> str:
    """A line for the baseline and one for every (draft, K), larger batches last: every metric with its
    interval and n; or a line a prediction."""
    if result.config.plan:
        lines = [
            {"draft": draft, "k": k, **point.model_dump()}
            for draft, entry in result.plan.items()
            for k, point in entry.by_k.items()
        ]
    else:
        lines = [_flat(row) for row in result.rows]
    acceptance = result.config.synthetic_acceptance
    if acceptance is not None:
        lines = [{"synthetic_acceptance": acceptance} | line for line in lines]
    return csv_of(lines)


def _flat(row: SpecDecodeRow) -> dict[str, Any]:
    names: dict[str, Any] = {"draft": row.draft or NO_DRAFT, "k": row.k, "batch_size": row.batch_size}
    names |= {name: getattr(row, name) for name in ("backend", "status", "reason")}
    predicted = {f"predicted_{key}": getattr(row.predicted, key) for key in ("leviathan", "replay")}
    lossless = lossless_text(row) if row.k or row.batch_size > 1 else ""
    return names | flat_figures(row.metrics) | {"lossless": lossless} | predicted


def markdown_text(result: SpecDecodeResult) -> str:
    lines = [
        f"# Speculative decoding of {sweep.subject(result)}".replace("\n", " "),
        "",
        result.summary,
        "",
        *(f"- {reason}" for reason in result.reasons),
        *(f"- Warning: {warning}" for warning in result.warnings),
        "",
        *(_plan_lines(result) if result.config.plan else _table_lines(result)),
        "",
        f"Text: {result.text.dataset} (sha256 {result.text.sha256[:12]}), "
        f"{len(result.text.prompt_ids)} prompts, {sweep.new_tokens(result.config)} new tokens each. "
        f"Run by the {sweep.how_run(result)}.",
    ]
    if result.environment.torch is not None:
        lines.append(machine_line(result.environment))
    return "\n".join(lines) + "\n"


def _table_lines(result: SpecDecodeResult) -> list[str]:
    rows = [row for row in result.rows if row.batch_size == 1]
    lines = markdown_lines(rows)
    lines += ["", f"Best value of a column in bold; {interval_hint(columns(rows), rows)}."]
    if result.batches:
        lines += ["", "## Several prompts at once", "", *markdown_lines(result.batches), "", VERSUS_1]
    return lines


def _plan_lines(result: SpecDecodeResult) -> list[str]:
    lines = [
        "| Draft | K | Predicted speedup | Leviathan, without prefills | Tokens/step |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for draft, entry in result.plan.items():
        for k, point in entry.by_k.items():
            mark = "**" if k == entry.best_k.replay else ""
            lines.append(
                f"| {draft} | {k} | {mark}{point.replay_end_to_end:.2f}{mark} | {leviathan_text(point)} | "
                f"{point.tokens_per_step:.2f} |"
            )
    return lines


def leviathan_text(point: PlanPoint) -> str:
    """A dash where the formula says nothing."""
    return "–" if point.leviathan is None else f"{point.leviathan:.2f}"


def publish(result: SpecDecodeResult, folder: Path | None) -> tuple[SpecDecodeResult, list[str]]:
    """Give the result its sentences; write the JSON, CSV, Markdown and the charts, each whole or not at all.
    Returns it with the names of its files."""
    found = with_sentences(result)
    if folder is None:
        return found, []
    stem = file_stem(found)
    texts = {"json": to_json(found), "csv": csv_text(found), "md": markdown_text(found)}
    for ending, text in texts.items():
        write_atomically(folder / f"{stem}.{ending}", text)
    return found, [*(f"{stem}.{ending}" for ending in texts), *(path.name for path in draw(found, folder))]


def draw(result: SpecDecodeResult, folder: Path) -> list[Path]:
    """The charts of a result, from it alone; none where nothing was measured. Their paths."""
    name = _dataset(result)
    pictures = {}
    if result.plan:
        pictures[f"speculation_plan_{name}.png"] = sweep.plan
    if result.baseline is not None:
        pictures[f"speculative_comparison_{name}.png"] = sweep.comparison
        pictures[f"speculation_anatomy_{name}.png"] = anatomy
        if any(row.status == "ok" for row in result.batches):
            pictures[f"speculation_batches_{name}.png"] = batch_chart
    rendered = {file_name: render(result) for file_name, render in pictures.items()}
    for file_name, picture in rendered.items():
        write_atomically(folder / file_name, picture)
    return [folder / file_name for file_name in pictures]
