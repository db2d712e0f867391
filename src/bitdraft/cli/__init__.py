"""The command line: flags → config → call → print and save. The only place that exits.

Heavy modules are imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.exceptions import TyperException

from bitdraft.cli.certify import certify
from bitdraft.cli.common import errors_to_exit
from bitdraft.cli.compare import compare
from bitdraft.cli.doctor import doctor
from bitdraft.cli.encoding import show_what_can_be_shown
from bitdraft.cli.export import export
from bitdraft.cli.flags import Debug, Lang
from bitdraft.cli.import_results import import_results
from bitdraft.cli.precision import precision
from bitdraft.cli.recommend import recommend
from bitdraft.cli.report import report
from bitdraft.cli.run import run
from bitdraft.cli.serve_bench import serve_bench
from bitdraft.cli.spec_decode import spec_decode

app = typer.Typer(
    name="bitdraft",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="What numeric precision and speculative decoding buy your language model, on your own hardware.",
)


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


def _examples(*lines: str) -> str:
    """What stands below a command's flags."""
    shown = (line if "$(bitdraft" in line else f"bitdraft {line}" for line in lines)
    return "\n\n".join(("Examples:", *(f"  {line}" for line in shown)))


app.command(
    epilog=_examples(
        "recommend",
        "recommend path/to/model --draft path/to/draft --dataset file:prompts.jsonl -o results/mine",
        "recommend EleutherAI/pythia-2.8b --draft EleutherAI/pythia-160m --budget 30m",
    )
)(recommend)
app.command(
    epilog=_examples(
        "precision path/to/model --precisions fp32,bf16",
        "precision path/to/model --dataset wikitext --ppl-protocol lm-eval",
        "precision pythia-1.4b --random-weights",
    )
)(precision)
app.command(
    name="spec-decode",
    epilog=_examples(
        "spec-decode path/to/model --draft path/to/draft --k 1-8",
        "spec-decode path/to/model --draft ngram --plan",
        "spec-decode path/to/model --draft path/to/draft --k 3 --batch-size 1,4,16",
        "spec-decode path/to/model --draft path/to/draft --k 1-8 --schedule",
        "spec-decode path/to/model --draft path/to/draft --k 1-8 --backend llama-server",
    ),
)(spec_decode)
app.command(
    name="serve-bench",
    epilog=_examples(
        "serve-bench http://localhost:8001 --baseline http://localhost:8000 --concurrency 1,4,16",
        "serve-bench http://localhost:8001 --baseline http://localhost:8000 --api chat --dataset spec-bench",
        "serve-bench --launch servers.toml --concurrency 1,4",
    ),
)(serve_bench)
app.command(
    epilog=_examples(
        "certify http://localhost:8001 --baseline http://localhost:8000",
        "certify http://localhost:8001 --baseline http://localhost:8000 --temperature 0.8 -n 5",
    )
)(certify)
app.command(epilog=_examples("run matrix.toml --dry-run", "run matrix.toml -o results/matrix"))(run)
app.command(
    epilog=_examples(
        "compare results/before results/after",
        "compare results/before results/after --fail-on-regression 5%",
        "compare results/before results/after --measure --python-b other-venv/bin/python",
    )
)(compare)
app.command(
    epilog=_examples(
        "export results/mine",
        'vllm serve MODEL --speculative-config "$(bitdraft export results/mine --to vllm-config)"',
        "export results/mine --to inferencex --draft draft-small --k 3",
    )
)(export)
app.command(
    name="import",
    epilog=_examples(
        "import baseline=plain.json spec=spec.json -o results/imported",
        "import profile_export.jsonl -o results/aiperf",
    ),
)(import_results)
app.command(epilog=_examples("report results"))(report)
app.command(epilog=_examples("doctor", "doctor --device cuda:1 --no-measure"))(doctor)


@app.command()
def plot(
    folder: Annotated[Path, typer.Argument(help="A folder that holds result files.")],
    svg: Annotated[bool, typer.Option("--svg", help="As SVG, in place of PNG.", metavar="")] = False,
    lang: Lang = "en",
    debug: Debug = False,
) -> None:
    """Draw the charts of all results in a folder again, from their JSON alone."""
    with errors_to_exit(debug):
        from bitdraft.errors import UserError, one_line
        from bitdraft.present import precision_files, serving_files, sweep_files
        from bitdraft.schema.io import read_result
        from bitdraft.schema.manifest import counted_files
        from bitdraft.schema.precision import PrecisionResult
        from bitdraft.schema.serving import ServingResult
        from bitdraft.schema.spec_decode import SpecDecodeResult

        if not folder.is_dir():
            what = "is a file" if folder.exists() else "does not exist"
            raise UserError("DIR", folder, what, "Name a folder that holds results")
        rows = counted_files(folder, "precision.json")
        sweeps = counted_files(folder, "spec_decode_*.json")
        served = counted_files(folder, "serving.json")
        if not rows and not sweeps and not served:
            problem = "holds no precision.json, spec_decode_*.json or serving.json"
            raise UserError("DIR", folder, problem, "Name the folder of a run, or one above runs")
        try:
            formats = ("svg",) if svg else ("png",)
            for path in rows:
                names = precision_files.draw(read_result(path, PrecisionResult), path.parent, formats, lang)
                print(*(path.parent / name for name in names), sep="\n")
            for path in sweeps:
                names = sweep_files.draw(read_result(path, SpecDecodeResult), path.parent, formats, lang)
                print(*(path.parent / name for name in names), sep="\n")
            for path in served:
                names = serving_files.draw(read_result(path, ServingResult), path.parent, formats, lang)
                print(*(path.parent / name for name in names), sep="\n")
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            problem = f"a result file is damaged ({type(error).__name__}: {one_line(error)})"
            raise UserError("result", folder, problem, "Measure again or name another folder") from error


@app.command()
def models(debug: Debug = False) -> None:
    """List the embedded models."""
    with errors_to_exit(debug):
        from rich.table import Table

        from bitdraft.config import ModelConfig
        from bitdraft.inputs.checkpoints import DEMO_MODELS, find_checkpoint

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


def main(arguments: list[str] | None = None, command: str | None = None, **settings: Any) -> None:
    """Entry point of the `bitdraft` command, or of one of its commands alone: run, and exit. A flag that
    cannot be read is one line, too."""
    show_what_can_be_shown()
    try:
        if command is None:
            code = app(arguments, standalone_mode=False, **settings)
        else:
            group: Any = typer.main.get_command(app)
            code = group.commands[command].main(arguments, standalone_mode=False, **settings)
    except TyperException as error:
        message = error.format_message().rstrip(".")
        if message:  # none where the help was shown instead
            path = getattr(getattr(error, "ctx", None), "command_path", "bitdraft")
            end = "" if message.endswith("?") else "."
            print(f"Error: {message}{end} See: {path} --help", file=sys.stderr)
        code = error.exit_code
    sys.exit(code)
