"""`bitdraft recommend`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console

from bitdraft.cli.common import (
    AllowPickle,
    CellTimeout,
    DataRoot,
    DatasetFlag,
    Debug,
    DeviceFlag,
    Devices,
    ExecutionFlag,
    ExecutorFlag,
    Fresh,
    KFlag,
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
    RayAddress,
    RetryFailed,
    Revision,
    StopAtEos,
    Temperature,
    TopK,
    TopP,
    TrustRemoteCode,
    errors_to_exit,
    names,
    run_options,
    seconds,
    share,
)

_OTHER_NAMES = ("debug", "stop_at_eos", "draft", "budget")
TRAINED_HELP = "demo/NAME (see: bitdraft models), a checkpoint folder, or a hub id."


def recommend(  # noqa: PLR0917 - typer reads one parameter a flag
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
    dataset: DatasetFlag = "stdlib",
    data_root: DataRoot = None,
    num_prompts: NumPrompts = 15,
    min_text_chars: MinTextChars = 200,
    max_prompt_tokens: MaxPromptTokens = 1024,
    max_new_tokens: MaxNewTokens = 200,
    stop_at_eos: StopAtEos = False,
    temperature: Temperature = 0.0,
    top_k: TopK = None,
    top_p: TopP = None,
    ppl_protocol: PplProtocolFlag = "sliding",
    ppl_max_tokens: PplMaxTokens = None,
    kl_max_tokens: KlMaxTokens = 16384,
    execution: ExecutionFlag = "auto",
    device: DeviceFlag = "auto",
    revision: Revision = None,
    allow_pickle: AllowPickle = False,
    trust_remote_code: TrustRemoteCode = False,
    seed: Annotated[int, typer.Option(help="Seed of sampling and of the bootstrap.")] = 0,
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
    """Say what to deploy: the precision, and the draft with its K or none."""
    settings = {name: value for name, value in locals().items() if name not in _OTHER_NAMES}
    with errors_to_exit(debug, _show, subject="TARGET"):
        from bitdraft.api import recommend_deployment
        from bitdraft.cli.finished import say_kept
        from bitdraft.config import RecommendConfig, make_config
        from bitdraft.present.progress import SearchProgress

        options = run_options(settings)
        settings["drafts"] = tuple(draft) if draft else None
        settings["precisions"] = names(precisions)
        settings["max_ppl_increase"] = share(max_ppl_increase)
        settings["budget_s"] = None if budget is None else seconds(budget, "budget_s")
        settings["ignore_eos"] = not stop_at_eos
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
