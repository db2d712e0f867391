"""`bitdraft precision`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console

from bitdraft.cli.common import (
    MODEL_HELP,
    AllowPickle,
    BackendFlag,
    CellTimeout,
    DataRoot,
    DatasetFlag,
    Debug,
    DeviceFlag,
    Devices,
    ExecutionFlag,
    ExecutorFlag,
    Fresh,
    KlMaxTokens,
    MaxNewTokens,
    MaxPromptTokens,
    MinTextChars,
    MixMachines,
    NumPrompts,
    Output,
    PplMaxTokens,
    PplProtocolFlag,
    PrecisionsFlag,
    RandomWeights,
    RayAddress,
    RetryFailed,
    Revision,
    StopAtEos,
    TrustRemoteCode,
    errors_to_exit,
    names,
    run_options,
    share,
)


def precision(  # noqa: PLR0917 - typer reads one parameter a flag
    model: Annotated[str, typer.Argument(help=MODEL_HELP)] = "demo/target",
    precisions: PrecisionsFlag = "fp32,fp16,bf16",
    reference: Annotated[
        str | None, typer.Option(help="Precision that quality is compared with. (default: fp32 if measured)")
    ] = None,
    dataset: DatasetFlag = "stdlib",
    data_root: DataRoot = None,
    num_prompts: NumPrompts = 15,
    min_text_chars: MinTextChars = 200,
    max_prompt_tokens: MaxPromptTokens = 1024,
    max_new_tokens: MaxNewTokens = 200,
    stop_at_eos: StopAtEos = False,
    num_warmup: Annotated[int, typer.Option(help="Unmeasured generations before the measured ones.")] = 1,
    ppl_protocol: PplProtocolFlag = "sliding",
    ppl_max_tokens: PplMaxTokens = None,
    kl_max_tokens: KlMaxTokens = 16384,
    score_chunk_tokens: Annotated[int, typer.Option(help="Tokens scored in one forward.")] = 256,
    max_ppl_increase: Annotated[
        str, typer.Option(help="Perplexity increase that the verdict tolerates, e.g. 0.5%.")
    ] = "0.5%",
    backend: BackendFlag = "native",
    execution: ExecutionFlag = "auto",
    device: DeviceFlag = "auto",
    revision: Revision = None,
    allow_pickle: AllowPickle = False,
    trust_remote_code: TrustRemoteCode = False,
    random_weights: RandomWeights = False,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap and of random weights.")] = 0,
    output: Output = None,
    fresh: Fresh = False,
    retry_failed: RetryFailed = False,
    mix_machines: MixMachines = False,
    executor: ExecutorFlag = "local",
    ray_address: RayAddress = None,
    devices: Devices = "",
    cell_timeout: CellTimeout = "30m",
    debug: Debug = False,
) -> None:
    """Measure a causal language model at several precisions and say which to use."""
    settings = {k: v for k, v in locals().items() if k not in ("debug", "stop_at_eos")}
    with errors_to_exit(debug, _show):
        from bitdraft.api import evaluate_precision
        from bitdraft.cli.finished import say_kept
        from bitdraft.config import PrecisionConfig, make_config
        from bitdraft.present.progress import LiveProgress

        options = run_options(settings)
        settings["precisions"] = names(precisions)
        settings["max_ppl_increase"] = share(max_ppl_increase)
        settings["ignore_eos"] = not stop_at_eos
        written = {"max_ppl_increase": max_ppl_increase}
        config = make_config(PrecisionConfig, settings, written)
        console = Console()
        with LiveProgress(console, len(config.precisions)) as progress:
            result = evaluate_precision(config, on_progress=progress, **dict(options))
        _show(result)
        say_kept(
            console, "precision", config, options, "precision.json .csv .md, precision_benchmark_2rows.png"
        )
        if all(row.status != "ok" for row in result.rows):
            raise typer.Exit(1)


def _show(result: Any) -> None:
    from bitdraft.present.terminal import show_precision

    show_precision(Console(), result)
