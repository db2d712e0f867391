"""From the results of one folder to its part of the page. A result that breaks what its kind promises is a
warning, and the others are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from bitdraft.config.commands import command_of
from bitdraft.errors import one_line
from bitdraft.present.charts.precision import quality_is_skipped
from bitdraft.present.page import precision_section, raw_section, recommendation_section, sweep_section
from bitdraft.present.page.discover import Folder, Found, unreadable
from bitdraft.present.page.model import Block, Cell, Chart, Code, Facts, Items, Section, Table, Text
from bitdraft.present.page.tables import table
from bitdraft.schema.io import AnyResult
from bitdraft.schema.precision import PrecisionResult
from bitdraft.schema.recommendation import Recommendation
from bitdraft.schema.spec_decode import SpecDecodeResult


@dataclass(frozen=True)
class Verdict:
    title: str
    summary: str
    reasons: Sequence[str]
    is_leading: bool = False


@dataclass(frozen=True)
class View:
    """All that the page says of one result."""

    title: str
    result: AnyResult
    verdict: Verdict
    main: Section
    raw: Sequence[Table]
    protocol: Sequence[tuple[str, str]]
    reproduce: Sequence[Block]


@dataclass(frozen=True)
class Run:
    """One folder. `warnings` are (result, text), with no result for those of files that cannot be shown;
    `unfinished` is said of runs that were not ended."""

    label: str
    folder: str
    title: str
    views: Sequence[View]
    sections: Sequence[Section]
    warnings: Sequence[tuple[str, str]]
    unfinished: Sequence[str] = ()

    @property
    def verdicts(self) -> list[Verdict]:
        """First of all what is not finished."""
        missing = [Verdict("Not finished", text, ()) for text in self.unfinished]
        return [*missing, *self._of_results()]

    def _of_results(self) -> list[Verdict]:
        """A recommendation's plans were steps on its way, so that they have no verdict beside it; and its
        sweeps know nothing of its limits."""
        if not any(isinstance(view.result, Recommendation) for view in self.views):
            return [view.verdict for view in self.views]
        found = []
        for view in self.views:
            if not isinstance(view.result, SpecDecodeResult):
                found.append(view.verdict)
            elif not view.result.config.plan:
                found.append(replace(view.verdict, title=f"{view.verdict.title}, by speed alone"))
        return found

    @property
    def notes(self) -> list[str]:
        """Of files that cannot be shown, and runs that are not finished."""
        return [*self.unfinished, *self.unreadable]

    @property
    def unreadable(self) -> list[str]:
        """Of files that cannot be shown alone."""
        return [text for title, text in self.warnings if not title]


def build_run(folder: Folder) -> Run:
    titles = _titles(folder.found)
    views, warnings = [], [("", text) for text in folder.warnings]
    for found, title in zip(folder.found, titles, strict=True):
        try:
            view = _view(found, title)
            _check_drawable(view.main)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            problem = f"it is damaged ({type(error).__name__}: {one_line(error)})"
            warnings.append(("", unreadable(found.where, problem)))
            continue
        views.append(view)
        warnings += [(title, text) for text in found.result.warnings]
    sections = _sections(views, warnings)
    title = _run_title(folder, views)
    return Run(folder.label, str(folder.path), title, views, sections, warnings, folder.unfinished)


def _check_drawable(section: Section) -> None:
    """Every chart's JSON is made now, so that a number that is none is found here."""
    for block in section.blocks:
        if isinstance(block, Chart):
            _ = block.json
    for part in section.parts:
        _check_drawable(part)


def base_title(result: AnyResult) -> str:
    if isinstance(result, Recommendation):
        return "Recommendation"
    if isinstance(result, PrecisionResult):
        return "Precision" if not quality_is_skipped(result.rows) else "Precision, random weights"
    what = "Plan of speculation" if result.config.plan else "Speculation"
    title = f"{what} on {result.text.dataset}, {result.config.precision}"
    if result.config.random_weights:
        title += ", random weights"
    acceptance = result.config.synthetic_acceptance
    return title if acceptance is None else f"{title}, synthetic acceptance {acceptance:g}"


def _titles(found: Sequence[Found]) -> list[str]:
    """With the subfolder where two would be alike, or with the file; a result without what a title needs has
    its file's."""
    titles = []
    for entry in found:
        try:
            titles.append(base_title(entry.result))
        except (LookupError, TypeError, ValueError):
            titles.append(entry.where)
    folders = [PurePosixPath(entry.where).parent.as_posix() for entry in found]
    folders = ["top folder" if name == "." else name for name in folders]
    longer = [f"{title} ({name})" for title, name in zip(titles, folders, strict=True)]
    return [
        title if titles.count(title) == 1 else long if longer.count(long) == 1 else f"{title} ({entry.where})"
        for title, long, entry in zip(titles, longer, found, strict=True)
    ]


def _run_title(folder: Folder, views: Sequence[View]) -> str:
    """`org/model on this machine`; of two, both, of more the folder."""
    names = dict.fromkeys(view.result.model.name for view in views if view.result.model.name)
    machines = dict.fromkeys(machine for view in views if (machine := machine_of(view.result)))
    if not 1 <= len(names) <= 2:
        return folder.label
    return " and ".join(names) + (f" on {' and '.join(machines)}" if machines else "")


def machine_of(result: AnyResult) -> str:
    """ "" where it is unknown."""
    return result.environment.hardware


def _view(found: Found, title: str) -> View:
    result = found.result
    verdict = Verdict(
        title,
        result.summary or "No verdict.",
        result.reasons,
        isinstance(result, Recommendation),
    )
    main, raw = _content(result, title)
    return View(title, result, verdict, main, raw, _protocol(result), _reproduce(found))


def _content(result: AnyResult, title: str) -> tuple[Section, Sequence[Table]]:
    if isinstance(result, Recommendation):
        return recommendation_section.section(result, title), []
    if isinstance(result, PrecisionResult):
        return precision_section.section(result, title), raw_section.precision_tables(result)
    return sweep_section.section(result, title), raw_section.sweep_tables(result)


def _protocol(result: AnyResult) -> list[tuple[str, str]]:
    """What was asked of the model, on which text, and how its perplexity was counted."""
    text: dict[str, Any] = result.text.model_dump(exclude={"prompt_ids", "prompt_tokens"})
    lengths = result.text.prompt_tokens
    if result.text.prompt_ids:
        text["prompts"] = len(result.text.prompt_ids)
    if lengths:
        text["prompt_tokens"] = " to ".join(str(end) for end in dict.fromkeys((min(lengths), max(lengths))))
    pairs = raw_section.flat(text)
    if isinstance(result, PrecisionResult):
        cards = [row.quality.protocol for row in result.rows if row.quality.protocol is not None]
        pairs += raw_section.flat(cards[0].model_dump(), "PPL ") if cards else []
    names = ("max_new_tokens", "ignore_eos", "temperature", "top_k", "top_p", "backend", "execution", "seed")
    pairs += raw_section.flat({name: getattr(result.config, name, None) for name in names})
    drafts = result.drafts if isinstance(result, SpecDecodeResult) else {}
    for name, model in {"model": result.model, **drafts}.items():
        pairs += raw_section.flat({key: getattr(model, key) for key in _OF_A_MODEL}, f"{name}: ")
    return pairs


_OF_A_MODEL = ("name", "revision", "architecture", "num_parameters", "stored_dtype", "precision", "execution")


def _reproduce(found: Found) -> list[Block]:
    result, environment = found.result, found.result.environment
    blocks: list[Block] = [
        Code(
            found.where, command_of(result.kind, result.config.model_dump(mode="json", exclude={"data_root"}))
        )
    ]
    names = ("bitdraft", "git_commit", "python", "torch", "transformers", "time_utc")
    versions = [
        f"{name.replace('_', ' ')} {getattr(environment, name)}"
        for name in names
        if getattr(environment, name)
    ]
    if versions:
        blocks.append(Text(f"Measured with {', '.join(versions)}.", is_note=True))
    return blocks


def _sections(views: Sequence[View], warnings: Sequence[tuple[str, str]]) -> list[Section]:
    """What each result shows, then what all of them have in common."""
    sections = [view.main for view in views]
    environment = environment_blocks([(view.title, view.result.environment.model_dump()) for view in views])
    if environment:
        sections.append(Section("Environment", environment))
    protocols = [Facts(view.title, view.protocol) for view in views if view.protocol]
    if protocols:
        sections.append(Section("Protocols", protocols))
    sections.append(Section(WARNINGS, [_warning_items(warnings)]))
    raw = [replace(own, title=f"{own.title}: {view.title}") for view in views for own in view.raw]
    if raw:
        sections.append(Section("Raw numbers", [Text(_RAW, is_note=True), *raw]))
    commands = [block for view in views for block in view.reproduce]
    if commands:
        sections.append(Section("How to reproduce", [Text(_COMMANDS, is_note=True), *commands]))
    return sections


WARNINGS = "Warnings"
_RAW = "Every figure with the ends of its 95 % interval, its number of items and the items' median."
_COMMANDS = (
    "Settings that are not written have their default. Data from local files need --data-root as well, and "
    "--output chooses where results go."
)


def environment_blocks(environments: Sequence[tuple[str, dict[str, Any]]]) -> list[Block]:
    """What all results share once; a table of what differs."""
    there = [
        (title, dict(raw_section.flat(environment))) for title, environment in environments if environment
    ]
    if not there:
        return []
    names = list(dict.fromkeys(name for _, values in there for name in values))
    differing = [name for name in names if len({values.get(name, "–") for _, values in there}) > 1]
    common = [(name, there[0][1][name]) for name in names if name not in differing]
    blocks: list[Block] = [Facts("All results", common)] if common else []
    if differing:
        lines = [[Cell(name), *(Cell(values.get(name, "–")) for _, values in there)] for name in differing]
        blocks.append(table("What differs", ["", *(title for title, _ in there)], lines))
    return blocks


def _warning_items(warnings: Sequence[tuple[str, str]]) -> Block:
    if not warnings:
        return Text("None.", is_note=True)
    return Items([f"{title}: {text}" if title else text for title, text in warnings], "warning")
