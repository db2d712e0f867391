"""`bitdraft precision`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console

from bitdraft.cli.common import MODEL_HELP, errors_to_exit, names, run_options, share
from bitdraft.cli.flags import (
    FOLDER,
    LOADING,
    QUALITY,
    RUNNING,
    TEXT,
    BackendFlag,
    ExecutionFlag,
    PrecisionsFlag,
    RandomWeights,
    takes,
)


@takes(TEXT, QUALITY, LOADING, FOLDER, RUNNING)
def precision(
    *,
    model: Annotated[str, typer.Argument(help=MODEL_HELP)] = "demo/target",
    precisions: PrecisionsFlag = "fp32,fp16,bf16",
    reference: Annotated[
        str | None, typer.Option(help="Precision that quality is compared with. (default: fp32 if measured)")
    ] = None,
    num_warmup: Annotated[int, typer.Option(help="Unmeasured generations before the measured ones.")] = 1,
    score_chunk_tokens: Annotated[int, typer.Option(help="Tokens scored in one forward.")] = 256,
    max_ppl_increase: Annotated[
        str, typer.Option(help="Perplexity increase that the verdict tolerates, e.g. 0.5%.")
    ] = "0.5%",
    backend: BackendFlag = "native",
    execution: ExecutionFlag = "auto",
    random_weights: RandomWeights = False,
    seed: Annotated[int, typer.Option(help="Seed of random weights.")] = 0,
    **shared: Any,
) -> None:
    """Measure a causal language model at several precisions and say which to use."""
    settings = {**locals(), **shared}
    del settings["shared"]
    with errors_to_exit(shared["debug"], _show):
        from bitdraft.api import evaluate_precision
        from bitdraft.cli.finished import say_kept
        from bitdraft.config import PrecisionConfig, make_config
        from bitdraft.present.progress import LiveProgress
        from bitdraft.schema.findings import codes

        options = run_options(settings)
        settings["precisions"] = names(precisions)
        settings["max_ppl_increase"] = share(max_ppl_increase)
        settings["ignore_eos"] = not settings.pop("stop_at_eos")
        written = {"max_ppl_increase": max_ppl_increase}
        config = make_config(PrecisionConfig, settings, written)
        console = Console()
        with LiveProgress(console, len(config.precisions)) as progress:
            result = evaluate_precision(config, on_progress=progress, **dict(options))
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
