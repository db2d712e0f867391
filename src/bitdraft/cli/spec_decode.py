"""`bitdraft spec-decode`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console

from bitdraft.cli.common import MODEL_HELP, errors_to_exit, run_options
from bitdraft.cli.flags import Debug, takes
from bitdraft.config import SpecDecodeConfig, make_config
from bitdraft.config.running import RunOptions


@takes(SpecDecodeConfig, RunOptions)
def spec_decode(
    *,
    model: Annotated[str, typer.Argument(metavar="[TARGET]", help=MODEL_HELP)] = "demo/target",
    debug: Debug = False,
    **settings: Any,
) -> None:
    """Measure speculative decoding over drafts and K, and say whether it pays."""
    with errors_to_exit(debug, _show, subject="TARGET"):
        from bitdraft.api import evaluate_spec_decode
        from bitdraft.cli.finished import say_kept
        from bitdraft.present.progress import SWEEP_STAGES, StageProgress
        from bitdraft.present.sweep_files import file_stem

        options = run_options(settings)
        config = make_config(SpecDecodeConfig, {"model": model, **settings})
        console = Console()
        with StageProgress(console, SWEEP_STAGES) as progress:
            result = evaluate_spec_decode(config=config, on_progress=progress, **dict(options))
        _show(result)
        files = f"{file_stem(result)}.json .csv .md and charts (speculat*.png)"
        say_kept(console, "spec_decode", config, options, files)
        nothing = not result.plan if config.plan else all(row.status != "ok" for row in result.sweep)
        if nothing or len(result.text.prompt_ids) < config.num_prompts:
            raise typer.Exit(1)


def _show(result: Any) -> None:
    from bitdraft.present.terminal import show_spec_decode

    show_spec_decode(Console(), result)
