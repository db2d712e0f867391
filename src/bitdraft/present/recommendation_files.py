"""What a recommendation leaves in a folder: JSON, CSV and Markdown; and its table."""

from __future__ import annotations

from pathlib import Path

from bitdraft.present.files import conclusions, machine_line, write_texts
from bitdraft.present.sentences import with_sentences
from bitdraft.present.table import Cell, Column, Mark, Table, Value, csv_text, markdown, percent
from bitdraft.present.words import STANDINGS
from bitdraft.schema.io import to_json
from bitdraft.schema.recommendation import Contender, Recommendation

FILE_STEM = "recommendation"
LANGUAGES = {"transformers": "python", "vllm": "bash", "llama.cpp": "bash", "native": "python"}
SNIPPET_TITLES = {
    "transformers": "transformers",
    "vllm": "vLLM",
    "llama.cpp": "llama.cpp",
    "native": "bitdraft, in Python",
}
SPEEDS = (
    "Speedup: over plain decoding at that precision, measured in turn with it; tokens/s of drafts are the "
    "precision's own times the speedup."
)
_MARKS: dict[str, Mark] = {
    "chosen": "good",
    "indistinguishable": "tied",
    "out": "quiet",
    "predicted": "quiet",
}


def publish(result: Recommendation, folder: Path | None) -> tuple[Recommendation, list[str]]:
    """Give the result its sentences; write recommendation.json, .csv and .md. Returns it with the names of
    its files."""
    found = with_sentences(result)
    if folder is None:
        return found, []
    texts = {"json": to_json(found), "csv": _csv(found), "md": markdown_text(found)}
    return found, write_texts(folder, FILE_STEM, texts)


def _csv(result: Recommendation) -> str:
    """A line a way to run the model."""
    names = (
        "precision",
        "draft",
        "k",
        "draft_precision",
        "standing",
        "reason",
        "throughput_tok_s",
        "speedup",
    )
    more = ("predicted_speedup", "ttft_ms", "ppl_change", "is_pareto")
    return csv_text(
        [
            {name: getattr(one, name) for name in (*names, *more)} | {result.memory_name: one.peak_memory_gb}
            for one in result.contenders
        ]
    )


def recommendation_table(result: Recommendation, rows: list[Contender] | None = None) -> Table:
    """A row a way to run the model, those that were measured first."""
    memory = "VRAM GiB" if result.memory_name == "peak_vram_gb" else "RAM GiB"
    columns = [
        Column("", "standing", hint="What the verdict says of it."),
        Column("Precision", "precision"),
        Column("Draft", "draft"),
        Column("K", "k"),
        Column("Tok/s", "throughput_tok_s", 1, hint="New tokens over seconds of a request."),
        Column("Speedup", "speedup", 2, hint=SPEEDS),
        Column("Predicted", "predicted_speedup", 2, hint="By replay and costs, before measuring.", rank=3),
        Column("TTFT ms", "ttft_ms", 1, hint="Time to first token.", rank=4),
        Column(memory, result.memory_name, 2, hint="Peak memory of decoding.", rank=1),
        Column("ΔPPL %", "ppl_change", 3, percent, signed=True, hint="Against the reference.", rank=2),
        Column(
            "Pareto",
            "is_pareto",
            hint="By value nothing is better in one of speed, quality, memory and no worse in all.",
            rank=5,
        ),
    ]
    lines = [_cells(contender) for contender in rows or shown(result)]
    kept = [i for i in range(len(columns)) if i < 3 or any(row[i].value not in (None, "") for row in lines)]
    title = f"What to deploy of {result.model.name or result.config.model}"
    return Table(title, [columns[i] for i in kept], [[row[i] for i in kept] for row in lines])


def _cells(contender: Contender) -> list[Cell]:
    mark = _MARKS.get(contender.standing, "")
    first, *others = _values(contender)
    return [Cell(first, "best" if contender.standing == "chosen" else mark), *(Cell(v, mark) for v in others)]


def _values(c: Contender) -> list[Value]:
    draft = "plain decoding" if c.draft is None else c.draft
    standing = STANDINGS[c.standing]
    return [
        standing,
        c.precision,
        f"{draft} ({c.draft_precision})" if c.draft_precision else draft,
        c.k or None,
        c.throughput_tok_s,
        c.speedup,
        c.predicted_speedup,
        c.ttft_ms,
        c.peak_memory_gb,
        c.ppl_change,
        "✓" if c.is_pareto else "",
    ]


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
        *conclusions(result, f"What to deploy: {result.model.name or result.config.model}"),
        *(markdown(recommendation_table(result)) if result.contenders else []),
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
        stages = "; ".join(f"{stage.stage} ({stage.what}) {stage.seconds:.0f} s" for stage in result.stages)
        lines += [f"Measured in {seconds:.0f} s: {stages}."]
    if result.environment.torch is not None:
        lines.append(machine_line(result.environment))
    return "\n".join(lines) + "\n"
