"""`bitdraft spec-decode`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console

from bitdraft.cli.common import MODEL_HELP, errors_to_exit, run_options
from bitdraft.cli.flags import (
    FOLDER,
    LOADING,
    RUNNING,
    SAMPLING,
    TEXT,
    BackendFlag,
    ExecutionFlag,
    KFlag,
    RandomWeights,
    takes,
)
from bitdraft.config import PRECISIONS


@takes(TEXT, SAMPLING, LOADING, FOLDER, RUNNING)
def spec_decode(
    *,
    model: Annotated[str, typer.Argument(metavar="[TARGET]", help=MODEL_HELP)] = "demo/target",
    draft: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A draft: demo/NAME, a folder, a hub id or ngram (prompt lookup), or LABEL=NAME. "
            "Repeatable. [default for an embedded target: the embedded drafts and ngram]",
        ),
    ] = None,
    k: KFlag = "3-10",
    batch_size: Annotated[
        str, typer.Option(metavar="SIZES", help="Prompts decoded at once, beside one alone: 4, or 1,4,8.")
    ] = "1",
    precision: Annotated[str, typer.Option(help="Of the target: fp32, fp16 or bf16.")] = PRECISIONS[0],
    draft_precision: Annotated[
        str | None, typer.Option(help="Of the drafts. (default: the target's)")
    ] = None,
    backend: BackendFlag = "native",
    execution: ExecutionFlag = "auto",
    synthetic_acceptance: Annotated[
        float | None,
        typer.Option(
            help="Make draft models agree with the target at this rate: speed is real, acceptance stated."
        ),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="No sweep: predict the best K from replay and cost curves.")
    ] = False,
    random_weights: RandomWeights = False,
    seed: Annotated[int, typer.Option(help="Seed of sampling and of random weights.")] = 0,
    **shared: Any,
) -> None:
    """Measure speculative decoding over drafts and K, and say whether it pays."""
    settings = {**locals(), **shared}
    del settings["shared"]
    with errors_to_exit(shared["debug"], _show, subject="TARGET"):
        from bitdraft.api import evaluate_spec_decode
        from bitdraft.cli.finished import say_kept
        from bitdraft.config import SpecDecodeConfig, make_config
        from bitdraft.present.progress import SWEEP_STAGES, StageProgress
        from bitdraft.present.sweep_files import file_stem

        options = run_options(settings)
        settings["drafts"] = tuple(settings.pop("draft") or ()) or None
        settings["batch_sizes"] = settings.pop("batch_size")
        settings["ignore_eos"] = not settings.pop("stop_at_eos")
        config = make_config(SpecDecodeConfig, settings)
        console = Console()
        with StageProgress(console, SWEEP_STAGES) as progress:
            result = evaluate_spec_decode(config, on_progress=progress, **dict(options))
        _show(result)
        files = f"{file_stem(result)}.json .csv .md and charts (speculat*.png)"
        say_kept(console, "spec_decode", config, options, files)
        nothing = not result.plan if plan else all(row.status != "ok" for row in result.sweep)
        if nothing or len(result.text.prompt_ids) < config.num_prompts:
            raise typer.Exit(1)


def _show(result: Any) -> None:
    from bitdraft.present.terminal import show_spec_decode

    show_spec_decode(Console(), result)
