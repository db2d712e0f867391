"""What the commands share: how flags become settings, and errors exit codes."""

from __future__ import annotations

import contextlib
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bitdraft.cli.flags import RUNNING

if TYPE_CHECKING:
    from bitdraft.config.running import RunOptions
    from bitdraft.errors import UserError

DEFAULT_ROOT = Path("results")
MODEL_HELP = (
    "demo/NAME (see: bitdraft models), a checkpoint folder, or a hub id; with --random-weights, a shape."
)

# settings whose flag has another name
_FLAGS = {
    "drafts": "--draft",
    "batch_sizes": "--batch-size",
    "budget_s": "--budget",
    "cell_timeout_s": "--cell-timeout",
}


@contextlib.contextmanager
def errors_to_exit(
    debug: bool, show: Callable[[Any], None] | None = None, subject: str = "MODEL"
) -> Iterator[None]:
    """A user's error is one line and exit code 2; an interrupt shows what is finished, exit code 130 (143
    where a signal other than Ctrl-C's asked for it). `show` shows a result, `subject` is what the command
    calls its model."""
    from bitdraft.errors import Interrupted, UserError
    from bitdraft.runs.conduct import interruptible

    with interruptible():
        try:
            yield
        except UserError as error:
            if error.result is not None and show is not None:
                show(error.result)
            if debug:
                raise
            print(f"Error: {_line(error, subject)}", file=sys.stderr)
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:
            result = error.result if isinstance(error, Interrupted) else None
            folder = error.folder if isinstance(error, Interrupted) else None
            if result is not None and show is not None:
                show(result)
            done = "What was finished is shown above" if result is not None else "No row was finished"
            kept = f", and all that was measured is in {folder}" if folder is not None else ""
            again = " Give the same command again to go on." if folder is not None else ""
            print(f"Interrupted. {done}{kept}.{again}", file=sys.stderr)
            number = error.signal_number if isinstance(error, Interrupted) else signal.SIGINT
            raise typer.Exit(130 if number == signal.SIGINT else 143) from error


def run_options(settings: dict[str, Any]) -> RunOptions:
    """Those of a run, taken out of a command's settings, and `debug` with them."""
    from bitdraft.config import make_config
    from bitdraft.config.running import RunOptions

    own = {name: settings.pop(name) for name in (*RUNNING, "output")}
    del own["debug"]
    timeout = own.pop("cell_timeout")
    written = {"cell_timeout_s": timeout}
    return make_config(
        RunOptions,
        own | {"cell_timeout_s": seconds(timeout, "cell_timeout_s"), "root": DEFAULT_ROOT},
        written,
    )


def seconds(text: str, field: str) -> float:
    """`90s`, `10m`, `1h` or seconds as a number."""
    from bitdraft.errors import UserError

    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", text)
    if found is None:
        remedy = (
            "Give at least 30 seconds, as 90s, 10m or 1h" if field == "budget_s" else "Give 90s, 10m or 1h"
        )
        raise UserError(field, text, "is no time", remedy)
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2] or "s"]


def names(text: str) -> tuple[str, ...]:
    """Of a comma-separated list."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def share(text: str) -> Any:
    """`0.5%` or `0.005` as a number; anything else is left for the configuration to refuse."""
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        return text


def _line(error: UserError, subject: str) -> str:
    from bitdraft.config import PrecisionConfig, RecommendConfig, SpecDecodeConfig
    from bitdraft.config.running import RunOptions

    kinds = (PrecisionConfig, SpecDecodeConfig, RecommendConfig, RunOptions)
    known = any(error.field in kind.model_fields for kind in kinds)
    flags = _FLAGS | {"model": subject}
    flag = flags.get(error.field, f"--{error.field.replace('_', '-')}")
    where = flag if known else error.field
    return " ".join(f"{where} {error.value}: {error.problem}. {error.remedy}.".split())
