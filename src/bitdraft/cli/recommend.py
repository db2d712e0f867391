"""`bitdraft recommend`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from bitdraft.cli.common import errors_to_exit, run_options
from bitdraft.cli.finished import Showing
from bitdraft.cli.flags import Debug, Lang, Quiet, Verbose, takes
from bitdraft.config import RecommendConfig, make_config
from bitdraft.config.running import RunOptions

TRAINED_HELP = "demo/NAME (see: bitdraft models), a checkpoint folder, or a hub id."


@takes(RecommendConfig, RunOptions)
def recommend(
    *,
    model: Annotated[str | None, typer.Argument(metavar="[TARGET]", help=TRAINED_HELP)] = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
    lang: Lang = "en",
    debug: Debug = False,
    **settings: Any,
) -> None:
    """Say what to deploy: the precision, and the draft with its K or none."""
    show = Showing(verbose, quiet, lang)
    with errors_to_exit(debug, show.of("show_recommendation"), subject="TARGET"):
        from bitdraft.api import recommend_deployment
        from bitdraft.present.progress import SearchProgress

        options = run_options(settings)
        config = make_config(RecommendConfig, {"model": show.named(model), **settings})
        with SearchProgress(show.console(), config.budget_s) as progress:
            result = recommend_deployment(config=config, on_progress=progress, **dict(options))
        show.of("show_recommendation")(result)
        show.say_kept("recommendation", result, result.config, options)
        if result.choice.precision is None:
            raise typer.Exit(1)
