"""`bitdraft recommend`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console

from bitdraft.cli.common import errors_to_exit, names, run_options, seconds, share
from bitdraft.cli.flags import (
    FOLDER,
    LOADING,
    QUALITY,
    RUNNING,
    SAMPLING,
    TEXT,
    ExecutionFlag,
    KFlag,
    PrecisionsFlag,
    takes,
)

TRAINED_HELP = "demo/NAME (see: bitdraft models), a checkpoint folder, or a hub id."


@takes(TEXT, SAMPLING, QUALITY, LOADING, FOLDER, RUNNING)
def recommend(
    *,
    model: Annotated[str, typer.Argument(metavar="[TARGET]", help=TRAINED_HELP)] = "demo/target",
    draft: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A draft: demo/NAME, a folder, a hub id or ngram (prompt lookup), or LABEL=NAME. "
            "Repeatable. (default: ngram; for an embedded target the embedded drafts, too)",
        ),
    ] = None,
    precisions: PrecisionsFlag = "fp32,fp16,bf16",
    k: KFlag = "1-10",
    max_ppl_increase: Annotated[
        str, typer.Option(help="Perplexity increase to tolerate, by its interval's upper end.")
    ] = "0.5%",
    max_vram_gb: Annotated[
        float | None, typer.Option(help="Limit of peak VRAM in GiB (of peak RAM on a CPU).")
    ] = None,
    max_ttft_ms: Annotated[float | None, typer.Option(help="Limit of the time to the first token.")] = None,
    min_speedup: Annotated[
        float, typer.Option(help="What speculation must bring at least, by its interval's lower end.")
    ] = 1.0,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Plan the measurements into 90s, 10m or 1h.")
    ] = None,
    execution: ExecutionFlag = "auto",
    seed: Annotated[int, typer.Option(help="Seed of sampling.")] = 0,
    **shared: Any,
) -> None:
    """Say what to deploy: the precision, and the draft with its K or none."""
    settings = {**locals(), **shared}
    del settings["shared"]
    with errors_to_exit(shared["debug"], _show, subject="TARGET"):
        from bitdraft.api import recommend_deployment
        from bitdraft.cli.finished import say_kept
        from bitdraft.config import RecommendConfig, make_config
        from bitdraft.present.progress import SearchProgress

        options = run_options(settings)
        settings["drafts"] = tuple(settings.pop("draft") or ()) or None
        settings["precisions"] = names(precisions)
        settings["max_ppl_increase"] = share(max_ppl_increase)
        del settings["budget"]
        settings["budget_s"] = None if budget is None else seconds(budget, "budget_s")
        settings["ignore_eos"] = not settings.pop("stop_at_eos")
        written = {"max_ppl_increase": max_ppl_increase, "budget_s": budget}
        config = make_config(RecommendConfig, settings, written)
        console = Console()
        with SearchProgress(console) as progress:
            result = recommend_deployment(config, on_progress=progress, **dict(options))
        _show(result)
        files = "recommendation.json .md, and a folder for each stage"
        folder = say_kept(console, "recommendation", result.config, options, files)
        console.print(f"A page of it all: bitdraft report {folder}", highlight=False, markup=False)
        if result.choice.precision is None:
            raise typer.Exit(1)


def _show(result: Any) -> None:
    from bitdraft.present.terminal import show_recommendation

    show_recommendation(Console(), result)
