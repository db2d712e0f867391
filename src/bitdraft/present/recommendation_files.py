"""What a recommendation leaves in a folder: JSON and Markdown; and the cells of its table."""

from __future__ import annotations

from pathlib import Path

from bitdraft.present.sentences import with_sentences
from bitdraft.present.tables import machine_line
from bitdraft.present.words import times_text
from bitdraft.schema.io import to_json, write_atomically
from bitdraft.schema.naming import draft_name
from bitdraft.schema.recommendation import Contender, Recommendation
from bitdraft.schema.records import Figure

FILE_STEM = "recommendation"
# of each standing, what a table says
STANDINGS = {
    "chosen": "chosen",
    "ahead": "ahead",
    "indistinguishable": "same speed",
    "slower": "slower",
    "open": "open",
    "predicted": "predicted",
    "out": "out",
}
TITLES = ("", "Precision", "Draft", "Tok/s", "Speedup", "TTFT ms", "GiB", "ΔPPL %", "Pareto")
LANGUAGES = {"transformers": "python", "vllm": "bash", "native": "python"}
SNIPPET_TITLES = {"transformers": "transformers", "vllm": "vLLM", "native": "bitdraft, in Python"}
SPEEDS = (
    "Speedup: over plain decoding at that precision, measured in turn with it; tokens/s of drafts are the "
    "precision's own times the speedup."
)


def publish(result: Recommendation, folder: Path | None) -> tuple[Recommendation, list[str]]:
    """Give the result its sentences; write recommendation.json and .md. Returns it with the names of its
    files."""
    found = with_sentences(result)
    if folder is None:
        return found, []
    texts = {"json": to_json(found), "md": markdown_text(found)}
    for ending, text in texts.items():
        write_atomically(folder / f"{FILE_STEM}.{ending}", text)
    return found, [f"{FILE_STEM}.{ending}" for ending in texts]


def cells(row: Contender, *, with_intervals: bool = True) -> tuple[str, ...]:
    """Texts under `TITLES`."""
    figures = [row.throughput_tok_s, row.speedup]
    if not with_intervals:
        figures = [figure and Figure(value=figure.value) for figure in figures]
    throughput, speedup_figure = figures
    speedup = "" if speedup_figure is None else times_text(speedup_figure)
    if row.predicted_speedup is not None:
        speedup = f"{row.predicted_speedup:.2f}×"
    return (
        STANDINGS[row.standing],
        row.precision,
        "plain" if row.draft is None else draft_name(row.draft, row.k, row.draft_precision),
        _text(throughput, 1),
        speedup,
        _text(row.ttft_ms, 1),
        "" if row.peak_memory_gb is None else f"{row.peak_memory_gb:.2f}",
        _percent(row.ppl_change),
        "✓" if row.is_pareto else "",
    )


def _text(figure: Figure | None, digits: int) -> str:
    if figure is None:
        return ""
    value = f"{figure.value:.{digits}f}"
    if figure.low is None or figure.high is None:
        return value
    return f"{value} [{figure.low:.{digits}f}, {figure.high:.{digits}f}]"


def _percent(change: Figure | None) -> str:
    if change is None:
        return ""
    ends = [100 * end for end in (change.value, change.low, change.high) if end is not None]
    value, *interval = (f"{end:+.3f}" for end in ends)
    return f"{value} [{', '.join(interval)}]" if interval else value


def shown(result: Recommendation) -> list[Contender]:
    """For a table: what was measured or failed, and of each draft that was only predicted its best K."""
    rows, seen = [], set()
    for row in result.contenders:
        if row.standing == "predicted":
            key = (row.precision, row.draft, row.draft_precision)
            if key in seen:
                continue
            seen.add(key)
        rows.append(row)
    return rows


def markdown_text(result: Recommendation) -> str:
    lines = [
        f"# What to deploy: {result.config.model}".replace("\n", " "),
        "",
        result.summary,
        "",
        *(f"- {reason}" for reason in result.reasons),
        *(f"- Skipped {text}." for text in result.skipped),
        *(f"- Warning: {text}" for text in result.warnings),
        "",
        "| " + " | ".join(TITLES) + " |",
        "| --- | --- | --- |" + " ---: |" * (len(TITLES) - 3),
        *("| " + " | ".join(cell.replace("|", "\\|") for cell in cells(row)) + " |" for row in shown(result)),
        "",
        f"{SPEEDS} ΔPPL: against the reference. "
        "Pareto: by value nothing measured is better in one of speed, quality, memory and no worse in all. "
        "95 % intervals in brackets.",
        "",
    ]
    for name, text in result.snippets.items():
        lines += [f"## {SNIPPET_TITLES[name]}", "", f"```{LANGUAGES[name]}", text.rstrip(), "```", ""]
    if result.stages:
        seconds = sum(stage.seconds for stage in result.stages)
        lines += [f"Measured in {seconds:.0f} s: {_stages(result)}."]
    if result.environment.torch is not None:
        lines.append(machine_line(result.environment))
    return "\n".join(lines) + "\n"


def _stages(result: Recommendation) -> str:
    return "; ".join(f"{stage.stage} ({stage.what}) {stage.seconds:.0f} s" for stage in result.stages)
