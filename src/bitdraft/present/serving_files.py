"""What a result of running servers leaves in a folder: serving.json, .csv, .md and the chart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bitdraft.present.charts.serving import chart
from bitdraft.present.files import conclusions, machine_line, write_charts, write_texts
from bitdraft.present.sentences import Language, with_sentences
from bitdraft.present.serving_table import serving_table
from bitdraft.present.table import Value, csv_text, interval_hint, markdown
from bitdraft.schema.io import prepare_output, to_json
from bitdraft.schema.serving import Certificate, ServingResult

NAME = "serving"


def csv_of(result: ServingResult) -> str:
    """A line a server and load: every figure with its interval and n."""
    lines: list[dict[str, Value]] = []
    for row in result.rows:
        lines.append(
            {
                "server": row.server,
                "concurrency": row.load or None,
                "rate_req_s": None if row.load else result.config.rate,
                "k": row.k,
                "status": row.status,
                "reason": row.reason,
                "num_failed": row.num_failed,
                **row.metrics,
            }
        )
    return csv_text(lines)


def markdown_text(result: ServingResult) -> str:
    table = serving_table(result)
    lines = [
        *conclusions(result, f"Servers of {result.model.name}"),
        *markdown(table),
        "",
        f"{interval_hint(table).capitalize()}.",
        "",
        *(
            f"{one.name}: {one.engine} {one.version or '(version unknown)'}, read as {one.adapter}."
            for one in result.servers
        ),
        "",
        *_sent_from(result),
    ]
    return "\n".join(lines) + "\n"


def _sent_from(result: ServingResult) -> list[str]:
    """Which text, and which machine; of other tools' files, which."""
    if result.imported_from:
        return [f"Read from {', '.join(result.imported_from)}."]
    text = f"{result.text.dataset} (sha256 {result.text.sha256[:12]})"
    client = machine_line(result.environment).replace("Machine:", "Client:")
    return [f"Text: {text}, {result.config.num_prompts} prompts a load.", client]


def publish(result: ServingResult, folder: Path | None) -> tuple[ServingResult, list[str]]:
    """Give the result its sentences, and write its files; their names."""
    found = with_sentences(result)
    if folder is None:
        return found, []
    texts = {"json": to_json(found), "csv": csv_of(found), "md": markdown_text(found)}
    return found, [*write_texts(folder, NAME, texts), *draw(found, folder)]


def draw(
    result: ServingResult, folder: Path, formats: Sequence[str] = ("png",), language: Language = "en"
) -> list[str]:
    """The chart, from the result alone; none where nothing was measured."""
    if not any(row.metrics for row in result.rows):
        return []
    return write_charts(folder, {NAME: chart(with_sentences(result, language))}, formats, language)


def publish_certificate(found: Certificate, folder: Path | None) -> Certificate:
    """Give it its sentences, and write certificate.json and .md."""
    said = with_sentences(found)
    if folder is not None:
        prepare_output(folder)
        lines = conclusions(said, f"Certificate of {said.model.name}")
        lines += [f"{one.name}: {one.engine} {one.version or ''}".rstrip() for one in said.servers]
        write_texts(folder, "certificate", {"json": to_json(said), "md": "\n".join(lines) + "\n"})
    return said
