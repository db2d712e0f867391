"""What the commands share: how flags become settings, and errors exit codes."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bitdraft.config.commands import flag_of

if TYPE_CHECKING:
    from bitdraft.config.running import RunOptions
    from bitdraft.errors import UserError

DEFAULT_ROOT = Path("results")
MODEL_HELP = (
    "demo/NAME (see: bitdraft models), a checkpoint folder, a GGUF file, or a hub id; with --random-weights, "
    "a shape."
)


@contextlib.contextmanager
def errors_to_exit(
    debug: bool,
    show: Callable[[Any], None] | None = None,
    subject: str = "MODEL",
    flags: Collection[str] = (),
) -> Iterator[None]:
    """A user's error is one line and exit code 2; an interrupt shows what is finished, exit code 130 (143
    where a signal other than Ctrl-C's asked for it). `show` shows a result, `subject` is what the command
    calls its model; `flags` are those that no run has."""
    from bitdraft.errors import Interrupted, UserError, signal_of
    from bitdraft.runs.conduct import interruptible

    with interruptible():
        try:
            yield
        except UserError as error:
            if error.result is not None and show is not None:
                show(error.result)
            if debug:
                raise
            print(f"Error: {line_of(error, subject, flags)}", file=sys.stderr)
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:
            result = error.result if isinstance(error, Interrupted) else None
            folder = error.folder if isinstance(error, Interrupted) else None
            if result is not None and show is not None:
                show(result)
            done = "What was finished is shown above" if result is not None else "Nothing to show yet"
            kept = f", and what was measured is in {folder}" if folder is not None else ""
            if result is not None and folder is not None:
                from bitdraft.cli.finished import write_page

                page = write_page(Path(str(folder)))
                kept += f" ({page.name} shows it)" if page is not None else ""
            again = " Give the same command again to go on." if folder is not None else ""
            print(f"Interrupted. {done}{kept}.{again}", file=sys.stderr)
            raise typer.Exit(130 if signal_of(error) == signal.SIGINT else 143) from error


def run_options(settings: dict[str, Any]) -> RunOptions:
    """Those of a run, taken out of a command's settings."""
    from bitdraft.config import make_config
    from bitdraft.config.running import RunOptions

    own = {name: settings.pop(name) for name in RunOptions.model_fields if name in settings}
    own = {name: value for name, value in own.items() if value is not None}
    return make_config(RunOptions, own | {"root": DEFAULT_ROOT})


def line_of(error: UserError, subject: str, flags: Collection[str] = ()) -> str:
    """`--k 0: what is wrong. What to do.`, with the field as the command line calls it. `flags` are a
    command's own, beside the settings of runs."""
    from bitdraft.config import PrecisionConfig, RecommendConfig, ServeBenchConfig, SpecDecodeConfig
    from bitdraft.config.running import RunOptions
    from bitdraft.config.serving import CertifyConfig

    kinds = (CertifyConfig, PrecisionConfig, SpecDecodeConfig, RecommendConfig, ServeBenchConfig, RunOptions)
    known = error.field in flags or any(error.field in kind.model_fields for kind in kinds)
    names = {"model": subject, "servers": "server"}
    where = names.get(error.field, flag_of(error.field) if known else error.field)
    return " ".join(f"{where} {error.value}: {error.problem}. {error.remedy}.".split())
