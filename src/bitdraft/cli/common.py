"""What the commands share: flags of the same meaning, and how errors become exit codes."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
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
Output = Annotated[Path, typer.Option(help="Folder for JSON, CSV, Markdown and charts.")]
MODEL_HELP = (
    "demo/NAME (see: bitdraft models), a checkpoint folder, or a hub id; with --random-weights, a shape."
)

# settings whose flag has another name
_FLAGS = {"drafts": "--draft", "batch_sizes": "--batch-size", "budget_s": "--budget"}


@contextlib.contextmanager
def errors_to_exit(
    debug: bool,
    output: Path | None = None,
    result_name: str = "",
    show: Callable[[Any], None] | None = None,
    subject: str = "MODEL",
) -> Iterator[None]:
    """A user's error is one line and exit code 2; an interrupt keeps what is finished, exit code 130.
    `subject` is what the command calls its model."""
    from bitdraft.errors import UserError

    start_s = time.time()
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
        saved = output is not None and _changed_since(output, result_name, start_s)
        kept = f" What was finished is in {output}." if saved else " Nothing was finished."
        print(f"Interrupted.{kept}", file=sys.stderr)
        raise typer.Exit(130) from error


def _changed_since(folder: Path, pattern: str, start_s: float) -> bool:
    return any(path.stat().st_mtime >= start_s for path in folder.glob(pattern))


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

    known = any(
        error.field in kind.model_fields for kind in (PrecisionConfig, SpecDecodeConfig, RecommendConfig)
    )
    flags = _FLAGS | {"model": subject}
    flag = flags.get(error.field, f"--{error.field.replace('_', '-')}")
    where = flag if known else error.field
    return " ".join(f"{where} {error.value}: {error.problem}. {error.remedy}.".split())
