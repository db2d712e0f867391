"""From the results of one folder to its part of the page. A result that breaks what its kind promises is a
warning, and the others are shown."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from bitdraft.config.commands import command_of
from bitdraft.errors import one_line
from bitdraft.present.charts.precision import quality_is_skipped
from bitdraft.present.page import (
    precision_section,
    raw_section,
    recommendation_section,
    serving_section,
    sweep_section,
)
from bitdraft.present.page.discover import Folder, Found, unreadable
from bitdraft.present.page.hero import hero_of
from bitdraft.present.page.model import Block, Chart, Code, Facts, Grid, Hero, Items, Section, Text
from bitdraft.present.sentences import Language, with_sentences
from bitdraft.present.table import Cell, Column, Table
from bitdraft.present.translate import translated
from bitdraft.present.words import machine_text
from bitdraft.schema.io import AnyResult
from bitdraft.schema.precision import PrecisionResult
from bitdraft.schema.recommendation import Recommendation
from bitdraft.schema.serving import ServingResult
from bitdraft.schema.spec_decode import SpecDecodeResult


@dataclass(frozen=True)
class View:
    """All that the page says of one result."""

    title: str
    result: AnyResult
    main: Section
    raw: Sequence[Table]
    protocol: Sequence[tuple[str, str]]
    command: Code


@dataclass(frozen=True)
class Run:
    """One folder. `hero` is its first screen; `warnings` are (result, text), with no result for those of
    files that cannot be shown; `unfinished` is said of runs that were not ended."""

    label: str
    title: str
    when: str
    views: Sequence[View]
    hero: Hero | None
    sections: Sequence[Section]
    warnings: Sequence[tuple[str, str]]
    unfinished: Sequence[str] = ()

    @property
    def notes(self) -> list[str]:
        """Of files that cannot be shown, and runs that are not finished."""
        return [*self.unfinished, *self.unreadable]

    @property
    def unreadable(self) -> list[str]:
        """Of files that cannot be shown alone."""
        return [text for title, text in self.warnings if not title]


def build_run(folder: Folder, language: Language = "en") -> Run:
    """Every result's section, and in front the first screen."""
    if language != "en":  # English is what the files say
        said = [replace(found, result=with_sentences(found.result, language)) for found in folder.found]
        folder = replace(folder, found=tuple(said))
    titles = [_title_in(language, title) for title in _titles(folder.found)]
    is_search = any(isinstance(found.result, Recommendation) for found in folder.found)
    views, warnings = [], [("", text) for text in folder.warnings]
    for found, title in zip(folder.found, titles, strict=True):
        try:
            views.append(_view(found, title, is_search))
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            problem = f"it is damaged ({type(error).__name__}: {one_line(error)})"
            warnings.append(("", unreadable(found.where, problem)))
            continue
        warnings += [(title, text) for text in _own_warnings(found.result, is_search)]
    hero = hero_of([view.result for view in views], views[0].command.text, language) if views else None
    views = [_without_chart(view, hero) for view in views]
    when = next(
        (
            str(v.result.environment.time_utc)[:16].replace("T", " ")
            for v in views
            if v.result.environment.time_utc
        ),
        "",
    )
    return Run(
        folder.label,
        _run_title(folder, views),
        f"{when} UTC" if when else "",
        views,
        hero,
        _sections(views, warnings),
        warnings,
        folder.unfinished,
    )


def _without_chart(view: View, hero: Hero | None) -> View:
    """What the first screen shows is not shown again."""
    shown = hero.chart.spec if hero is not None and hero.chart is not None else None
    kept = [block for block in view.main.blocks if not (isinstance(block, Chart) and block.spec == shown)]
    return replace(view, main=replace(view.main, blocks=kept))


def _title_in(language: Language, title: str) -> str:
    """Of a result: what it is, and of what."""
    what, on, rest = title.partition(" on ")
    return title if language == "en" else f"{translated(what, language)}{'：' if on else ''}{rest}"


def _own_warnings(result: AnyResult, is_search: bool) -> list[str]:
    """A recommendation repeats those of its steps."""
    return [] if is_search and not isinstance(result, Recommendation) else result.warnings


def base_title(result: AnyResult) -> str:
    if isinstance(result, Recommendation):
        return "Recommendation"
    if isinstance(result, PrecisionResult):
        return "Precision" if not quality_is_skipped(result.rows) else "Precision, random weights"
    if isinstance(result, ServingResult):
        what = "by" if result.imported_from else "on"
        return f"Servers {what} {result.text.dataset}"
    what = PLAN if result.config.plan else "Speculation"
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
    return machine_text(result.environment) if result.environment.hardware else ""


def _view(found: Found, title: str, is_search: bool) -> View:
    result = found.result
    main, raw = _content(result, title, is_search)
    config = result.config.model_dump(mode="json", exclude={"data_root"})
    text = command_of(result.kind, config)
    if isinstance(result, ServingResult) and result.imported_from:
        named = (one.partition("=") for one in result.imported_from)
        text = shlex.join(["bitdraft", "import", *(f"{name}=path/to/{file}" for name, _, file in named)])
    command = Code(f"{title} ({found.where})", text)
    return View(title, result, main, raw, _protocol(result), command)


def _content(result: AnyResult, title: str, is_search: bool) -> tuple[Section, Sequence[Table]]:
    """What a plan was for has been measured since, where there is a recommendation."""
    if isinstance(result, Recommendation):
        return recommendation_section.section(result, title), []
    if isinstance(result, PrecisionResult):
        found, raw = precision_section.section(result, title), raw_section.precision_tables(result)
    elif isinstance(result, ServingResult):
        found, raw = serving_section.section(result, title), raw_section.serving_tables(result)
    else:
        found = sweep_section.section(result, title, is_step=is_search)
        raw = raw_section.sweep_tables(result)
        found = replace(found, is_folded=is_search and result.config.plan)
    said = [Text(result.summary)] if result.summary else []
    reasons = [Items(result.reasons)] if result.reasons and not is_search else []
    return replace(found, blocks=[*said, *reasons, *found.blocks]), raw


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


def _sections(views: Sequence[View], warnings: Sequence[tuple[str, str]]) -> list[Section]:
    """What each result shows, then what all of them have in common."""
    many = len(warnings) > MOST_WARNINGS
    sections = [Section(WARNINGS, [_warning_items(warnings)], is_folded=many)] if warnings else []
    sections += [view.main for view in views]
    environment = environment_blocks([(view.title, view.result.environment.model_dump()) for view in views])
    if environment:
        sections.append(Section("Environment", environment, is_folded=True))
    protocols = [(view.title, dict(view.protocol)) for view in views if view.protocol]
    if protocols:
        sections.append(Section("Protocols", _shared_and_differing(protocols), is_folded=True))
    raw = [replace(own, title=f"{own.title}: {view.title}") for view in views for own in view.raw]
    if raw:
        blocks: list[Block] = [Text(_RAW, is_note=True), *map(Grid, raw)]
        sections.append(Section("Raw numbers", blocks, is_folded=True))
    if views:
        commands: list[Block] = [Text(_COMMANDS, is_note=True), *(view.command for view in views)]
        sections.append(Section("How to reproduce", commands, is_folded=True))
    return sections


PLAN = "Plan of speculation"
WARNINGS, MOST_WARNINGS = "Warnings", 4
_RAW = "Every figure with the ends of its 95 % interval, its number of items and the items' median."
_COMMANDS = (
    "Settings that are not written have their default. `path/to/…` stands for where a model or text lies on "
    "your machine; data from local files need --data-root as well, and --output chooses where results go."
)


def environment_blocks(environments: Sequence[tuple[str, dict[str, Any]]]) -> list[Block]:
    """What all results share once; a table of what differs."""
    return _shared_and_differing([(title, dict(raw_section.flat(env))) for title, env in environments if env])


def _shared_and_differing(records: Sequence[tuple[str, dict[str, str]]]) -> list[Block]:
    if not records:
        return []
    names = list(dict.fromkeys(name for _, values in records for name in values))
    differing = [name for name in names if len({values.get(name) for _, values in records}) > 1]
    common = [(name, records[0][1][name]) for name in names if name not in differing]
    blocks: list[Block] = [Facts("All results", common)] if common else []
    if differing:
        lines = [[Cell(name), *(Cell(values.get(name)) for _, values in records)] for name in differing]
        columns = [Column(""), *(Column(title) for title, _ in records)]
        blocks.append(Grid(Table("What differs", columns, lines)))
    return blocks


def _warning_items(warnings: Sequence[tuple[str, str]]) -> Block:
    return Items([f"{title}: {text}" if title else text for title, text in warnings], "warning")
