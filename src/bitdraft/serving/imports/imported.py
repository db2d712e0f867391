"""From files of other load generators to a result: which tool wrote them, what they are paired by, what may
be said of them. They were measured one after another, so that nothing is judged: a ratio holds what the
machine did in between."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bitdraft.config import make_config
from bitdraft.config.serving import MOST_AT_ONCE, ServeBenchConfig
from bitdraft.errors import UserError, one_line
from bitdraft.schema.environment import ModelRecord, TextRecord
from bitdraft.schema.findings import Finding, Value, answer, warning
from bitdraft.schema.serving import ServerRecord, ServingResult, ServingRow
from bitdraft.serving.analysis import Records, Window, build_rows
from bitdraft.serving.imports import aiperf, guidellm, llama_speed_bench, vllm_bench
from bitdraft.serving.imports.base import Imported, Unreadable
from bitdraft.serving.verdict import failures_of, warnings_of
from bitdraft.serving.workload import UNNAMED

_FIELD = "FILE"
_TOOLS: Sequence[tuple[Callable[[Sequence[Any]], bool], Callable[[Sequence[Any], str], Imported]]] = (
    (aiperf.is_one, aiperf.read),
    (guidellm.is_one, guidellm.read),
    (llama_speed_bench.is_one, llama_speed_bench.read),
    (vllm_bench.is_one, vllm_bench.read),
)
NAMES = (aiperf.TOOL, guidellm.TOOL, llama_speed_bench.TOOL, vllm_bench.TOOL)


def import_results(files: Sequence[str | Path]) -> ServingResult:
    """A result of these files, FILE or NAME=FILE, the baseline's first. Raises `UserError` for a file that
    can't be read, or that is of other prompts than the first."""
    named = [_named(str(one)) for one in files]
    names = [name for name, _ in named]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(_FIELD, twice, "two servers have this name", "Tell them apart: NAME=FILE")
    found = {name: _read(path, name) for name, path in named}
    records = Records()
    for name, one in found.items():
        for run in one.runs:
            own = records.requests.setdefault((name, run.load), {})
            if own:
                problem = f"holds two runs at concurrency {run.load or 'of a rate'}"
                raise UserError(_FIELD, name, problem, "Name a file of one of them")
            own |= {request.prompt: request for request in run.requests}
            if run.counts is not None:
                records.windows[name, run.load] = Window(run.counts, None, len(run.requests), False)
    records.timeline = "none" if any(one.timeline == "none" for one in found.values()) else "whole"
    config = _config(names, found)
    _refuse_other_prompts(records, config)
    rows = [_without_gaps(row, found[row.server]) for row in build_rows(records, config)]
    first = next(iter(found.values()))
    return ServingResult(
        config=config,
        model=ModelRecord(name=first.model or UNNAMED),
        text=TextRecord(dataset=first.tool),
        servers=tuple(
            ServerRecord(name=name, engine=one.engine or "generic", adapter=one.tool)
            for name, one in found.items()
        ),
        rows=tuple(rows),
        requests=tuple(records.in_order()),
        findings=tuple(_findings(rows, found, config, records)),
        imported_from=tuple(f"{name}={path.name}" for name, path in named),
    )


def _named(entry: str) -> tuple[str, Path]:
    name, equals, file = entry.partition("=")
    if equals and not Path(entry).exists():
        if not name.strip() or not file.strip():
            raise UserError(_FIELD, entry, "is no NAME=FILE", "Name a file, or NAME=FILE")
        return name.strip(), Path(file).expanduser()
    path = Path(entry).expanduser()
    return path.stem.replace("=", "-"), path


def _read(path: Path, name: str) -> Imported:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if not text.strip():
            raise UserError(_FIELD, path, "is empty", f"Name a file of {', '.join(NAMES)}")
        entries = _entries(text)
    except UnicodeDecodeError as error:
        problem = f"is no text in UTF-8 (byte {error.start + 1})"
        raise UserError(_FIELD, path, problem, f"Name a file of {', '.join(NAMES)}") from error
    except OSError as error:
        raise UserError(_FIELD, path, one_line(error), "Name a file that can be read") from error
    except ValueError as error:
        raise UserError(_FIELD, path, str(error), f"Name a whole file of {', '.join(NAMES)}") from error
    for is_one, read in _TOOLS:
        if is_one(entries):
            try:
                return read(entries, name)
            except Unreadable as error:
                raise UserError(_FIELD, path, str(error), "Measure again, or name another file") from error
            except ValidationError as error:
                first = error.errors()[0]["msg"].removeprefix("Value error, ")
                problem = f"has a request that cannot be ({first})"
                raise UserError(_FIELD, path, problem, "Name another file") from error
            except KeyError as error:
                problem = f"is damaged: it has an entry without {error.args[0]}"
                raise UserError(_FIELD, path, problem, "Name another file") from error
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                problem = "is damaged: an entry is of another form than this tool writes"
                remedy = "Name another file (--debug shows where it was met)"
                raise UserError(_FIELD, path, problem, remedy) from error
    first = entries[0]
    keys = ", ".join(list(first)[:5]) if isinstance(first, dict) else "no object"
    problem = f"is of no tool that is known, by what its first entry has ({keys or 'nothing'})"
    raise UserError(_FIELD, path, problem, f"Name a file of {', '.join(NAMES)}, with single requests")


def _entries(text: str) -> list[Any]:
    """An object, or one a line. Raises `ValueError` that says where it is neither."""
    try:
        return [json.loads(text)]
    except json.JSONDecodeError as error:
        whole = error
    lines = [line for line in text.splitlines() if line.strip()]
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError as error:
            if not found:
                place = f"line {whole.lineno}, column {whole.colno}"
                raise ValueError(f"is neither JSON nor JSON Lines (JSON ends at {place})") from error
            what = "the last one is cut off" if number == len(lines) else "it is damaged"
            raise ValueError(f"line {number} of its JSON Lines is none: {what}") from error
    return found


def _config(names: Sequence[str], found: dict[str, Imported]) -> ServeBenchConfig:
    runs = [run for one in found.values() for run in one.runs]
    rates = {run.rate for run in runs if not run.load}
    if rates and (len(rates) > 1 or any(run.load for run in runs)):
        problem = "are of several rates, or of rates and concurrencies"
        raise UserError(_FIELD, ", ".join(names), problem, "Import those of one rate at a time")
    longest = max((r.completion_tokens or 1 for run in runs for r in run.requests), default=1)
    settings: dict[str, Any] = {
        "servers": tuple(f"{name}=http://imported" for name in names),
        "num_prompts": max(len(run.requests) for run in runs),
        "max_new_tokens": max(longest, 2),
    }
    if rates:
        settings["rate"] = rates.pop()
    else:
        settings["concurrency"] = tuple({min(run.load, MOST_AT_ONCE) for run in runs})
    return make_config(ServeBenchConfig, settings)


def _without_gaps(row: ServingRow, one: Imported) -> ServingRow:
    """Between a first and a last piece there is no gap to tell of."""
    if one.knows_gaps:
        return row
    kept = {name: figure for name, figure in row.metrics.items() if not name.startswith("itl_")}
    return row.model_copy(update={"metrics": kept})


def _refuse_other_prompts(records: Records, config: ServeBenchConfig) -> None:
    """Requests are paired by their places, which must be those of the same prompts."""
    for load in config.loads:
        base = records.requests.get((config.baseline, load), {})
        for name in config.urls:
            for place, request in records.requests.get((name, load), {}).items():
                lengths = request.prompt_tokens, base[place].prompt_tokens if place in base else None
                if None not in lengths and lengths[0] != lengths[1]:
                    problem = (
                        f"is of other prompts than {config.baseline}: request {place} has {lengths[0]} "
                        f"tokens, and there {lengths[1]}"
                    )
                    raise UserError(_FIELD, name, problem, "Import each by itself")


def _findings(
    rows: Sequence[ServingRow], found: dict[str, Imported], config: ServeBenchConfig, records: Records
) -> list[Finding]:
    total = len(records.in_order())
    tools = tuple(dict.fromkeys(one.tool for one in found.values()))
    answers = [answer("import.read", n=total, tools=tools)]
    for row in rows:
        if "speedup" in row.metrics:
            figures: dict[str, Value] = {"speedup": row.metrics["speedup"], "baseline": config.baseline}
            answers.append(answer("import.ratio", row.server, load=row.load, **figures))
    if len(answers) > 1:
        answers.append(answer("import.apart"))
    answers += failures_of(rows)
    notes = [warning(code, name) for name, one in found.items() for code in one.notes]
    notes += _not_paired(records, config, found)
    # how tokens were drawn is in none of these files
    more = [one for one in warnings_of(records, rows, config) if one.code != "serving.texts"]
    return [*answers, *notes, *more]


def _not_paired(records: Records, config: ServeBenchConfig, found: Mapping[str, Imported]) -> list[Finding]:
    """Loads and requests that only one of two files has, and prompts whose lengths nobody tells."""
    notes = []
    base = found[config.baseline]
    for name, one in found.items():
        if name == config.baseline:
            continue
        loads = [tuple(run.load for run in side.runs) for side in (one, base)]
        common = set(loads[0]) & set(loads[1])
        if not common:
            notes.append(
                warning("import.no_common_load", name, baseline=config.baseline, own=loads[0], base=loads[1])
            )
        for load in sorted(common):
            own, other = records.requests[name, load], records.requests[config.baseline, load]
            if len(own) != len(other):
                figures: dict[str, Value] = {"own": len(own), "base": len(other), "baseline": config.baseline}
                notes.append(warning("import.lengths", name, load=load, **figures))
            both = [one for one in (*own.values(), *other.values()) if one.error is None]
            if any(request.prompt_tokens is None for request in both):
                notes.append(warning("import.by_place", name, load=load, baseline=config.baseline))
    return notes
