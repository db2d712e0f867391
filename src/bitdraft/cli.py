"""The command line: flags → config → call → print and save. The only place that exits.

Heavy modules are imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer.exceptions import TyperException

if TYPE_CHECKING:
    from bitdraft.errors import UserError

app = typer.Typer(
    name="bitdraft",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="What numeric precision and speculative decoding buy your language model, on your own hardware.",
)

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def _print_version(asked: bool) -> None:
    if asked:
        from bitdraft import __version__

        print(f"bitdraft {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    pass


@contextlib.contextmanager
def _errors_to_exit(debug: bool, output: Path | None = None) -> Iterator[None]:
    """A user's error is one line and exit code 2; an interrupt keeps what is finished, exit code 130."""
    from bitdraft.errors import UserError

    start_s = time.time()
    try:
        yield
    except UserError as error:
        if error.result is not None:
            _show(error.result)
        if debug:
            raise
        print(f"Error: {_line(error)}", file=sys.stderr)
        raise typer.Exit(2) from error
    except KeyboardInterrupt as error:
        saved = output is not None and _changed_since(output / "precision.json", start_s)
        kept = f" Finished rows are in {output}." if saved else " No row was finished."
        print(f"Interrupted.{kept}", file=sys.stderr)
        raise typer.Exit(130) from error


def _changed_since(path: Path, start_s: float) -> bool:
    return path.exists() and path.stat().st_mtime >= start_s


def _show(result: Any) -> None:
    from bitdraft.terminal import show_precision

    show_precision(Console(), result)


def _line(error: UserError) -> str:
    from bitdraft.config import PrecisionConfig

    known = error.field in PrecisionConfig.model_fields
    flag = "MODEL" if error.field == "model" else f"--{error.field.replace('_', '-')}"
    where = flag if known else error.field
    return " ".join(f"{where} {error.value}: {error.problem}. {error.remedy}.".split())


@app.command()
def precision(  # noqa: PLR0917 - typer reads one parameter a flag
    model: Annotated[
        str, typer.Argument(help="demo/NAME (see: bitdraft models), a checkpoint folder, or a hub id.")
    ] = "demo/target",
    precisions: Annotated[str, typer.Option(help="Comma-separated: fp32, fp16, bf16.")] = "fp32,fp16,bf16",
    reference: Annotated[
        str | None, typer.Option(help="Precision that quality is compared with. [default: fp32 if measured]")
    ] = None,
    dataset: Annotated[str, typer.Option(help="wikitext, pg19, spec-bench, stdlib or file:PATH.")] = "stdlib",
    data_root: Annotated[
        Path | None,
        typer.Option(
            envvar="BITDRAFT_DATA_ROOT", help="Folder with the datasets' files, instead of the hub."
        ),
    ] = None,
    num_prompts: Annotated[int, typer.Option(help="Prompts to generate from.")] = 15,
    min_text_chars: Annotated[int, typer.Option(help="Only texts longer than this become prompts.")] = 200,
    max_prompt_tokens: Annotated[int, typer.Option(help="Prompts are cut to this length.")] = 1024,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens to generate per prompt.")] = 200,
    stop_at_eos: Annotated[
        bool, typer.Option("--stop-at-eos", help="Let EOS end a text (speeds are then less comparable).")
    ] = False,
    num_warmup: Annotated[int, typer.Option(help="Unmeasured generations before the measured ones.")] = 1,
    ppl_protocol: Annotated[
        str, typer.Option(help="sliding, documents, lm-eval, gptq or llama.cpp.")
    ] = "sliding",
    ppl_max_tokens: Annotated[int | None, typer.Option(help="Score only the first N tokens.")] = None,
    kl_max_tokens: Annotated[
        int, typer.Option(help="Tokens to compare full distributions on; 0: none.")
    ] = 16384,
    score_chunk_tokens: Annotated[int, typer.Option(help="Tokens scored in one forward.")] = 256,
    max_ppl_increase: Annotated[
        str, typer.Option(help="Perplexity increase that the verdict tolerates, e.g. 0.5%.")
    ] = "0.5%",
    backend: Annotated[str, typer.Option(help="native or transformers.")] = "native",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    revision: Annotated[str | None, typer.Option(help="Hub revision of the model.")] = None,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Also load pickle weights (they can run code).")
    ] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python code that the checkpoint brings.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    output: Annotated[Path, typer.Option(help="Folder for JSON, CSV, Markdown and chart.")] = Path("results"),
    debug: Debug = False,
) -> None:
    """Measure a causal language model at several precisions and say which to use."""
    settings = {k: v for k, v in locals().items() if k not in ("debug", "stop_at_eos")}
    with _errors_to_exit(debug, output):
        from bitdraft.config import PrecisionConfig, make_config
        from bitdraft.precision.evaluate import evaluate_precision
        from bitdraft.terminal import LiveProgress

        settings["precisions"] = tuple(part.strip() for part in precisions.split(",") if part.strip())
        settings["max_ppl_increase"] = _share(max_ppl_increase)
        settings["ignore_eos"] = not stop_at_eos
        config = make_config(PrecisionConfig, settings)
        console = Console()
        with LiveProgress(console, len(config.precisions)) as progress:
            result = evaluate_precision(config, on_progress=progress)
        _show(result)
        console.print(f"\nWritten to {output}/: precision.json .csv .md, precision_benchmark_2rows.png")
        if all(row.status != "ok" for row in result.rows):
            raise typer.Exit(1)


def _share(text: str) -> Any:
    """`0.5%` or `0.005` as a number; anything else is left for the configuration to refuse."""
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        return text


@app.command()
def plot(
    folder: Annotated[Path, typer.Argument(help="A folder that holds precision.json.")],
    debug: Debug = False,
) -> None:
    """Draw a result's chart again, from its JSON alone."""
    with _errors_to_exit(debug):
        from bitdraft.errors import UserError
        from bitdraft.precision.output import draw
        from bitdraft.results import load_precision_result

        result = load_precision_result(folder / "precision.json")
        try:
            print(draw(result, folder))
        except (KeyError, TypeError) as error:
            remedy = "Measure again or name another folder"
            raise UserError("result", folder, f"precision.json lacks {error}", remedy) from error


@app.command()
def models(debug: Debug = False) -> None:
    """List the embedded models."""
    with _errors_to_exit(debug):
        from rich.table import Table

        from bitdraft.checkpoints import DEMO_MODELS, find_checkpoint
        from bitdraft.config import ModelConfig

        table = Table(title="GPT-NeoX models with one tokenizer, trained by scripts/train_demo_models.py")
        table.add_column("Name", no_wrap=True)
        for title in ("Parameters", "Bytes", "Stored as", "Context"):
            table.add_column(title, justify="right")
        for name in DEMO_MODELS:
            found = find_checkpoint(ModelConfig(model=f"demo/{name}"))
            num_parameters = sum(found.stored_dtypes.values())
            cells = (
                f"{num_parameters:,}",
                f"{found.stored_bytes:,}",
                found.stored_dtype,
                str(found.context_tokens),
            )
            table.add_row(found.name, *cells)
        Console().print(table)


def main(arguments: list[str] | None = None, **settings: Any) -> None:
    """Entry point of the `bitdraft` command: run, and exit. A flag that cannot be read is one line, too."""
    try:
        code = app(arguments, standalone_mode=False, **settings)
    except TyperException as error:
        message = error.format_message().rstrip(".")
        if message:  # none where the help was shown instead
            print(f"Error: {message}. See: bitdraft --help", file=sys.stderr)
        code = error.exit_code
    sys.exit(code)
