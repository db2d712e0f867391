"""What the commands share: flags of the same meaning, and how errors become exit codes."""

from __future__ import annotations

import contextlib
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from bitdraft.config.running import RunOptions
    from bitdraft.errors import UserError

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
DatasetFlag = Annotated[str, typer.Option(help="wikitext, pg19, spec-bench, stdlib or file:PATH.")]
DataRoot = Annotated[
    Path | None,
    typer.Option(envvar="BITDRAFT_DATA_ROOT", help="Folder with the datasets' files, instead of the hub."),
]
NumPrompts = Annotated[int, typer.Option(help="Prompts to generate from.")]
MinTextChars = Annotated[int, typer.Option(help="Only texts longer than this become prompts.")]
MaxPromptTokens = Annotated[int, typer.Option(help="Prompts are cut to this length.")]
MaxNewTokens = Annotated[int, typer.Option(help="Tokens to generate per prompt.")]
StopAtEos = Annotated[
    bool, typer.Option("--stop-at-eos", help="Let EOS end a text (speeds are then less comparable).")
]
PrecisionsFlag = Annotated[str, typer.Option(help="Comma-separated: fp32, fp16, bf16.")]
PplProtocolFlag = Annotated[str, typer.Option(help="sliding, documents, lm-eval, gptq or llama.cpp.")]
PplMaxTokens = Annotated[int | None, typer.Option(help="Score only the first N tokens.")]
KlMaxTokens = Annotated[int, typer.Option(help="Tokens to compare full distributions on; 0: none.")]
KFlag = Annotated[str, typer.Option("--k", help="Speculative tokens a step: 3-10, or 1,2,4.")]
Temperature = Annotated[float, typer.Option(help="0: greedy; above: sampling.")]
TopK = Annotated[int | None, typer.Option(help="Sample from the N most probable tokens.")]
TopP = Annotated[float | None, typer.Option(help="Sample from the tokens that hold this share.")]
BackendFlag = Annotated[str, typer.Option(help="native or transformers.")]
ExecutionFlag = Annotated[str, typer.Option(help="Of the native backend: auto, eager, static or compiled.")]
DeviceFlag = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Revision = Annotated[str | None, typer.Option(help="Hub revision of the model.")]
AllowPickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Also load pickle weights (they can run code).")
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run Python code that the checkpoint brings.")
]
RandomWeights = Annotated[
    bool,
    typer.Option(
        "--random-weights",
        help="Measure speed without a checkpoint: every model is a shape (pythia-70m, -160m, -410m, -1.4b, "
        "-2.8b, or a folder with a config.json) with weights drawn from the seed.",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        help="The run's folder: results, charts and journal. (default: results/MODEL-COMMAND-HASH, so that "
        "the same command goes on with its own run)",
    ),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Measure anew what the folder already holds.")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Measure again what had failed.")]
MixMachines = Annotated[
    bool,
    typer.Option("--mix-machines", help="Go on with what another machine or other versions have begun."),
]
ExecutorFlag = Annotated[str, typer.Option("--executor", help="Where cells run: local, or ray.")]
RayAddress = Annotated[
    str | None, typer.Option(help="A Ray cluster's address. (default: one on this machine)")
]
Devices = Annotated[
    str, typer.Option(metavar="LIST", help="CUDA devices for several cells at once, one each: 0,1,2.")
]
CellTimeout = Annotated[
    str, typer.Option(metavar="TIME", help="A measurement that is silent for longer is ended: 90s, 30m.")
]
DEFAULT_ROOT = Path("results")
RUN_FLAGS = ("fresh", "retry_failed", "mix_machines", "executor", "ray_address", "devices", "cell_timeout")
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
            done = "What was finished is shown above" if result is not None else "Nothing was finished"
            kept = f", and what was measured is in {folder}" if folder is not None else ""
            again = " Give the same command again to go on." if folder is not None else ""
            print(f"Interrupted. {done}{kept}.{again}", file=sys.stderr)
            number = error.signal_number if isinstance(error, Interrupted) else signal.SIGINT
            raise typer.Exit(130 if number == signal.SIGINT else 143) from error


def run_options(settings: dict[str, Any]) -> RunOptions:
    """Those of a run, taken out of a command's settings."""
    from bitdraft.config import make_config
    from bitdraft.config.running import RunOptions

    own = {name: settings.pop(name) for name in (*RUN_FLAGS, "output")}
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
