"""`bitdraft spec-decode`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from bitdraft.cli.common import MODEL_HELP, errors_to_exit, run_options
from bitdraft.cli.finished import Showing
from bitdraft.cli.flags import Debug, Lang, Quiet, Verbose, takes
from bitdraft.config import SpecDecodeConfig, make_config
from bitdraft.config.running import RunOptions


@takes(SpecDecodeConfig, RunOptions)
def spec_decode(
    *,
    model: Annotated[str | None, typer.Argument(metavar="[TARGET]", help=MODEL_HELP)] = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
    lang: Lang = "en",
    debug: Debug = False,
    **settings: Any,
) -> None:
    """Measure speculative decoding over drafts and K, and say whether it pays."""
    show = Showing(verbose, quiet, lang)
    with errors_to_exit(debug, show.of("show_spec_decode"), subject="TARGET"):
        from bitdraft.api import evaluate_spec_decode
        from bitdraft.present.progress import StageProgress

        options = run_options(settings)
        config = make_config(SpecDecodeConfig, {"model": show.named(model), **settings})
        with StageProgress(show.console()) as progress:
            result = evaluate_spec_decode(config=config, on_progress=progress, **dict(options))
        show.of("show_spec_decode")(result)
        show.say_kept("spec_decode", result, config, options)
        nothing = not result.plan if config.plan else all(row.status != "ok" for row in result.sweep)
        if nothing or len(result.text.prompt_ids) < config.num_prompts:
            raise typer.Exit(1)
