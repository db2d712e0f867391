"""The report: one HTML file that needs nothing but itself."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import itertools
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bitdraft
from bitdraft.config.cache import cache_folder
from bitdraft.errors import UserError
from bitdraft.present.charts.style import DARK, LIGHT, vega_config
from bitdraft.present.page import overview
from bitdraft.present.page.discover import read_folders
from bitdraft.present.page.model import Block, Section, script_json
from bitdraft.present.page.run import PLAN, WARNINGS, Run, build_run
from bitdraft.present.sentences import Language
from bitdraft.present.table import Table
from bitdraft.present.translate import translated
from bitdraft.schema.io import prepare_output, write_atomically

if TYPE_CHECKING:
    from jinja2 import Environment

DEFAULT_NAME = "report.html"
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Written:
    """A report, and what is said of files that it could not show and runs that are not finished."""

    path: Path
    notes: Sequence[str]


def write_report(
    dirs: str | Path | Sequence[str | Path], output: str | Path | None = None, *, lang: Language = "en"
) -> Path:
    """Write one page of all results in one or more folders, by default as report.html in the first.

    It is in English, or in Chinese (`lang="zh"`).

    Files that cannot be shown are named on the page and in a Python warning. Raises `UserError` where
    none can.
    """
    written = make_report(dirs, output, lang)
    for text in written.notes:
        warnings.warn(text, stacklevel=2)
    return written.path


def make_report(
    dirs: str | Path | Sequence[str | Path], output: str | Path | None = None, language: Language = "en"
) -> Written:
    """The page, and what is said of files that it could not show."""
    folders = [dirs] if isinstance(dirs, str | Path) else list(dirs)
    runs = [build_run(folder, language) for folder in read_folders([Path(folder) for folder in folders])]
    if not any(run.views for run in runs):
        problem = f"no result file can be shown ({runs[0].warnings[0][1].rstrip('.')})"
        raise UserError("DIR", folders[0], problem, "Measure again or name another folder")
    target = Path(output) if output is not None else Path(folders[0]) / DEFAULT_NAME
    if target.is_dir():
        raise UserError("output", target, "is a folder", f"Name a file, as {target / DEFAULT_NAME}")
    html = render(runs, language)
    try:
        prepare_output(target.parent)
    except UserError as error:
        remedy = "Choose another file with --output"
        raise UserError("output", target, "its folder cannot be written", remedy) from error
    # a name may hold half of a character pair, which no encoding has
    write_atomically(target, html.encode("utf-8", "replace"))
    return Written(target, [f"{run.label}: {text}" for run in runs for text in run.notes])


@functools.cache
def _vega() -> str:
    """Vega-Embed with Vega-Lite and Vega, as the browser will see them. Bundling takes seconds, so that the
    bundle of a version is kept."""
    kept = cache_folder() / f"vega-{version('vl-convert-python')}.js"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        # another's file would be a script of theirs in all our pages
        if os.name != "posix" or kept.stat().st_uid == os.getuid():
            return _script(kept.read_text(encoding="utf-8"))
    import vl_convert

    found = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    with contextlib.suppress(OSError, UserError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, found)
    return _script(found)


def _script(text: str) -> str:
    """Line ends as a browser reads them, which its hash is taken of; nothing in it may end its element."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.replace("</script", "<\\/script")


@dataclass(frozen=True)
class Entry:
    """A line of the table of contents."""

    title: str
    anchor: str
    children: Sequence[Entry] = ()


def render(runs: Sequence[Run], language: Language = "en") -> str:
    """The page. The same results give the same page."""
    scripts = (_vega(), _script(_read("page.js")))
    numbers = itertools.count(1)
    placed = [(run, f"run-{index}", _anchored(run, f"run-{index}")) for index, run in enumerate(runs, 1)]
    several = len(runs) > 1
    values: dict[str, Any] = {
        "title": f"{len(runs)} runs side by side" if several else runs[0].title,
        "language": language,
        "version": bitdraft.__version__,
        "policy": content_policy(scripts),
        "style": _read("style.css"),
        "scripts": scripts,
        "themes": script_json(
            {name: _theme(colours) for name, colours in (("light", LIGHT), ("dark", DARK))}
        ),
        "overview": overview.section(runs) if several else None,
        "contents": _contents(placed),
        "runs": placed,
        "new_id": lambda what: f"{what}-{next(numbers)}",
    }
    environment = _environment()
    environment.filters["t"] = lambda text: translated(text, language)
    return environment.get_template("page.html").render(values)


def _theme(colours: Mapping[str, str]) -> dict[str, Any]:
    """Of charts in the page, whose paper is the page's."""
    return vega_config(colours) | {"background": "transparent", "padding": 2}


def _anchored(run: Run, anchor: str) -> list[tuple[str, Section]]:
    return [
        (f"{anchor}-{'warnings' if section.title == WARNINGS else index}", section)
        for index, section in enumerate(run.sections, 1)
    ]


def _contents(placed: Sequence[tuple[Run, str, Sequence[tuple[str, Section]]]]) -> list[Entry]:
    """Sections of a single run; else the overview, and the sections below each run."""
    below = [
        [Entry(section.title, own) for own, section in sections if not _is_step(section)]
        for _, _, sections in placed
    ]
    if len(placed) == 1:
        return below[0]
    runs = [
        Entry(run.label, anchor, children) for (run, anchor, _), children in zip(placed, below, strict=True)
    ]
    return [Entry("Side by side", "overview"), *runs]


def _is_step(section: Section) -> bool:
    """A plan on the way to a recommendation: folded, and not worth a line on top."""
    return section.is_folded and section.title.startswith(PLAN)


def content_policy(scripts: Sequence[str]) -> str:
    """Nothing is loaded, and no script runs but these."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _read(name: str) -> str:
    return (_HERE / "templates" / name).read_text(encoding="utf-8")


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["groupby_runs"] = _neighbours
    return environment


def table_html(table: Table) -> str:
    """A table alone, as HTML."""
    environment = _environment()
    environment.filters["t"] = str
    return str(environment.get_template("blocks.html").module.table(table))  # type: ignore[attr-defined]


def _neighbours(blocks: Sequence[Block]) -> list[tuple[str, list[Block]]]:
    """Blocks of one kind that follow each other: charts stand in a grid, cards in another."""
    return [(kind, list(group)) for kind, group in itertools.groupby(blocks, key=lambda block: block.kind)]
