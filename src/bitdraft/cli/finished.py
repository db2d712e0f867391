"""How a measuring command shows its result: a table, what it says, and where the rest lies."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from bitdraft.config.base import Config
from bitdraft.config.running import RunOptions
from bitdraft.errors import UserError
from bitdraft.runs.conduct import folder_of
from bitdraft.schema.manifest import read_manifest

Show = Callable[..., None]
"""A function of `present.terminal`"""


@dataclass(frozen=True)
class Showing:
    """With all details, or the verdict alone."""

    verbose: bool
    quiet: bool
    language: Literal["en", "zh"] = "en"

    def console(self) -> Console:
        """For progress: silent where the verdict alone is wanted."""
        return Console(quiet=self.quiet)

    def named(self, model: str | None, default: str = "demo/target") -> str:
        """The model that was named, or the embedded one, which is said first."""
        if model is None and not self.quiet:
            text = f"No model was named: this measures {default}, an embedded one (see: bitdraft models)."
            Console().print(text, style="yellow", highlight=False)
        return model or default

    def of(self, name: str) -> Callable[[Any], None]:
        """Shows a result by a function of `present.terminal`."""
        return functools.partial(self._show, name)

    def _show(self, name: str, result: Any) -> None:
        from bitdraft.present import terminal

        if self.quiet:
            from bitdraft.present.sentences import with_sentences

            said = with_sentences(result, self.language) if self.language != "en" else result
            why = [] if said.best is not None else terminal.failures(said)[:1]
            for text in (*why, said.summary or "No verdict."):
                Console().print(text, highlight=False, markup=False)
        else:
            getattr(terminal, name)(Console(), result, verbose=self.verbose, language=self.language)

    def say_kept(self, kind: str, result: Any, config: Config, options: RunOptions) -> None:
        """Where the run and its page are; if it had been finished before, since when; and how what had
        failed is measured again."""
        folder = folder_of(kind, config, options)
        if folder is None or self.quiet:
            return
        console = Console()
        manifest = read_manifest(folder)
        if manifest is not None and manifest.shown_again:
            when = manifest.finished_utc or manifest.updated_utc
            text = f"Measured on {when}; shown again. To measure anew: the same command with --fresh."
            console.print(text, style="yellow", highlight=False, markup=False, soft_wrap=True)
        if _is_retried(kind, result, config):
            text = "What had failed is measured again by the same command with --retry-failed."
            console.print(text, style="yellow", highlight=False, markup=False, soft_wrap=True)
        page = write_page(folder, self.language)
        where = f"Page: {page} (data and charts beside it)" if page else f"Written to {folder}/"
        console.print(where, highlight=False, markup=False, soft_wrap=True)


def _is_retried(kind: str, result: Any, config: Config) -> bool:
    """Whether something failed that `--retry-failed` measures again: not a (draft, K) of our own engine,
    which takes turns with all others."""
    from bitdraft.config import CAPABILITIES, SpecDecodeConfig
    from bitdraft.present import terminal

    if isinstance(config, SpecDecodeConfig) and not CAPABILITIES[config.backend].processes:
        return False
    return kind != "recommendation" and bool(terminal.failures(result))


def write_page(folder: Path, language: Literal["en", "zh"] = "en") -> Path | None:
    """The page of all results in a run's folder. None where it cannot be made: the run stands without it."""
    from bitdraft.present.page.page import make_report

    try:
        return make_report(folder, None, language).path
    except (UserError, OSError):
        return None
