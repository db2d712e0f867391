"""`bitdraft precision`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from bitdraft.cli.common import MODEL_HELP, errors_to_exit, run_options
from bitdraft.cli.finished import Showing
from bitdraft.cli.flags import Debug, Lang, Quiet, Verbose, takes
from bitdraft.config import PrecisionConfig, make_config
from bitdraft.config.running import RunOptions


@takes(PrecisionConfig, RunOptions)
def precision(
    *,
    model: Annotated[str | None, typer.Argument(metavar="[MODEL]", help=MODEL_HELP)] = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
    lang: Lang = "en",
    debug: Debug = False,
    **settings: Any,
) -> None:
    """Measure a causal language model at several precisions and say which to use."""
    show = Showing(verbose, quiet, lang)
    with errors_to_exit(debug, show.of("show_precision")):
        from bitdraft.api import evaluate_precision
        from bitdraft.present.progress import LiveProgress
        from bitdraft.schema.findings import codes

        options = run_options(settings)
        config = make_config(PrecisionConfig, {"model": show.named(model), **settings})
        with LiveProgress(show.console(), len(config.precisions)) as progress:
            result = evaluate_precision(config=config, on_progress=progress, **dict(options))
        show.of("show_precision")(result)
        show.say_kept("precision", result, config, options)
        not_judged = "precision.not_judged" in codes(result.findings)
        if not_judged or all(row.status != "ok" for row in result.rows):
            raise typer.Exit(1)
