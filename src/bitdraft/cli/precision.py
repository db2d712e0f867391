"""`bitdraft precision`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console

from bitdraft.cli.common import MODEL_HELP, errors_to_exit, run_options
from bitdraft.cli.flags import Debug, takes
from bitdraft.config import PrecisionConfig, make_config
from bitdraft.config.running import RunOptions


@takes(PrecisionConfig, RunOptions)
def precision(
    *,
    model: Annotated[str, typer.Argument(metavar="[MODEL]", help=MODEL_HELP)] = "demo/target",
    debug: Debug = False,
    **settings: Any,
) -> None:
    """Measure a causal language model at several precisions and say which to use."""
    with errors_to_exit(debug, _show):
        from bitdraft.api import evaluate_precision
        from bitdraft.cli.finished import say_kept
        from bitdraft.present.progress import LiveProgress
        from bitdraft.schema.findings import codes

        options = run_options(settings)
        config = make_config(PrecisionConfig, {"model": model, **settings})
        console = Console()
        with LiveProgress(console, len(config.precisions)) as progress:
            result = evaluate_precision(config=config, on_progress=progress, **dict(options))
        _show(result)
        say_kept(
            console, "precision", config, options, "precision.json .csv .md, precision_benchmark_2rows.png"
        )
        not_judged = "precision.not_judged" in codes(result.findings)
        if not_judged or all(row.status != "ok" for row in result.rows):
            raise typer.Exit(1)


def _show(result: Any) -> None:
    from bitdraft.present.terminal import show_precision

    show_precision(Console(), result)
