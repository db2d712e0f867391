"""`bitdraft recommend`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console

from bitdraft.cli.common import errors_to_exit, run_options
from bitdraft.cli.flags import Debug, takes
from bitdraft.config import RecommendConfig, make_config
from bitdraft.config.running import RunOptions

TRAINED_HELP = "demo/NAME (see: bitdraft models), a checkpoint folder, or a hub id."


@takes(RecommendConfig, RunOptions)
def recommend(
    *,
    model: Annotated[str, typer.Argument(metavar="[TARGET]", help=TRAINED_HELP)] = "demo/target",
    debug: Debug = False,
    **settings: Any,
) -> None:
    """Say what to deploy: the precision, and the draft with its K or none."""
    with errors_to_exit(debug, _show, subject="TARGET"):
        from bitdraft.api import recommend_deployment
        from bitdraft.cli.finished import say_kept
        from bitdraft.present.progress import SearchProgress

        options = run_options(settings)
        config = make_config(RecommendConfig, {"model": model, **settings})
        console = Console()
        with SearchProgress(console) as progress:
            result = recommend_deployment(config=config, on_progress=progress, **dict(options))
        _show(result)
        files = "recommendation.json .md, and a folder for each stage"
        folder = say_kept(console, "recommendation", result.config, options, files)
        console.print(f"A page of it all: bitdraft report {folder}", highlight=False, markup=False)
        if result.choice.precision is None:
            raise typer.Exit(1)


def _show(result: Any) -> None:
    from bitdraft.present.terminal import show_recommendation

    show_recommendation(Console(), result)
