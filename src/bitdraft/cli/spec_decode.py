"""`bitdraft spec-decode`."""

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
    KFlag,
    MaxNewTokens,
    MaxPromptTokens,
    MinTextChars,
    MixMachines,
    NumPrompts,
    Output,
    RandomWeights,
    RayAddress,
    RetryFailed,
    Revision,
    StopAtEos,
    Temperature,
    TopK,
    TopP,
    TrustRemoteCode,
    errors_to_exit,
    run_options,
)
from bitdraft.config import PRECISIONS

# flags that are no settings under their own name
_OTHER_NAMES = ("debug", "stop_at_eos", "draft", "batch_size")


def spec_decode(  # noqa: PLR0917 - typer reads one parameter a flag
    model: Annotated[str, typer.Argument(metavar="[TARGET]", help=MODEL_HELP)] = "demo/target",
    draft: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A draft: demo/NAME, a folder, a hub id or ngram (prompt lookup), or LABEL=NAME. "
            "Repeatable. [default for an embedded target: the embedded drafts and ngram]",
        ),
    ] = None,
    k: KFlag = "3-10",
    batch_size: Annotated[
        str, typer.Option(metavar="SIZES", help="Prompts decoded at once, beside one alone: 4, or 1,4,8.")
    ] = "1",
    dataset: DatasetFlag = "stdlib",
    data_root: DataRoot = None,
    num_prompts: NumPrompts = 15,
    min_text_chars: MinTextChars = 200,
    max_prompt_tokens: MaxPromptTokens = 1024,
    max_new_tokens: MaxNewTokens = 200,
    stop_at_eos: StopAtEos = False,
    precision: Annotated[str, typer.Option(help="Of the target: fp32, fp16 or bf16.")] = PRECISIONS[0],
    draft_precision: Annotated[
        str | None, typer.Option(help="Of the drafts. (default: the target's)")
    ] = None,
    temperature: Temperature = 0.0,
    top_k: TopK = None,
    top_p: TopP = None,
    backend: BackendFlag = "native",
    execution: ExecutionFlag = "auto",
    synthetic_acceptance: Annotated[
        float | None,
        typer.Option(
            help="Make draft models agree with the target at this rate: speed is real, acceptance stated."
        ),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="No sweep: predict the best K from replay and cost curves.")
    ] = False,
    device: DeviceFlag = "auto",
    revision: Revision = None,
    allow_pickle: AllowPickle = False,
    trust_remote_code: TrustRemoteCode = False,
    random_weights: RandomWeights = False,
    seed: Annotated[int, typer.Option(help="Seed of sampling, of the bootstrap and of random weights.")] = 0,
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
    """Measure speculative decoding over drafts and K, and say whether it pays."""
    settings = {name: v for name, v in locals().items() if name not in _OTHER_NAMES}
    with errors_to_exit(debug, _show, subject="TARGET"):
        from bitdraft.api import evaluate_spec_decode
        from bitdraft.cli.finished import say_kept
        from bitdraft.config import SpecDecodeConfig, make_config
        from bitdraft.present.progress import SWEEP_STAGES, StageProgress
        from bitdraft.present.sweep_files import file_stem

        options = run_options(settings)
        settings["drafts"] = tuple(draft) if draft else None
        settings["batch_sizes"] = batch_size
        settings["ignore_eos"] = not stop_at_eos
        config = make_config(SpecDecodeConfig, settings)
        console = Console()
        with StageProgress(console, SWEEP_STAGES) as progress:
            result = evaluate_spec_decode(config, on_progress=progress, **dict(options))
        _show(result)
        files = f"{file_stem(result)}.json .csv .md and charts (speculat*.png)"
        say_kept(console, "spec_decode", config, options, files)
        nothing = not result.plan if plan else all(row.status != "ok" for row in result.sweep)
        if nothing or len(result.text.prompt_ids) < num_prompts:
            raise typer.Exit(1)


def _show(result: Any) -> None:
    from bitdraft.present.terminal import show_spec_decode

    show_spec_decode(Console(), result)
