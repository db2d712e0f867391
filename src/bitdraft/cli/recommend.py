"""`bitdraft recommend`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bitdraft.cli.common import (
    AllowPickle,
    DataRoot,
    DatasetFlag,
    Debug,
    DeviceFlag,
    ExecutionFlag,
    KFlag,
    KlMaxTokens,
    MaxNewTokens,
    MaxPromptTokens,
    MinTextChars,
    NumPrompts,
    Output,
    PplMaxTokens,
    PplProtocolFlag,
    PrecisionsFlag,
    Revision,
    StopAtEos,
    Temperature,
    TopK,
    TopP,
    TrustRemoteCode,
    errors_to_exit,
    names,
    share,
)

_OTHER_NAMES = ("debug", "stop_at_eos", "draft", "budget")
TRAINED_HELP = "demo/NAME (see: bitdraft models), a checkpoint folder, or a hub id."
_SECONDS = {"s": 1, "m": 60, "h": 3600}


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
    output: Output = Path("results"),
    debug: Debug = False,
) -> None:
    """Say what to deploy: the precision, and the draft with its K or none."""
    settings = {name: value for name, value in locals().items() if name not in _OTHER_NAMES}
    with errors_to_exit(debug, output, "*.json", _show, subject="TARGET"):
        from bitdraft.config import RecommendConfig, make_config
        from bitdraft.progress import SearchProgress
        from bitdraft.recommend.search import recommend_deployment

        settings["drafts"] = tuple(draft) if draft else None
        settings["precisions"] = names(precisions)
        settings["max_ppl_increase"] = share(max_ppl_increase)
        settings["budget_s"] = None if budget is None else _seconds(budget)
        settings["ignore_eos"] = not stop_at_eos
        written = {"max_ppl_increase": max_ppl_increase, "budget_s": budget}
        config = make_config(RecommendConfig, settings, written)
        console = Console()
        with SearchProgress(console) as progress:
            result = recommend_deployment(config, on_progress=progress)
        _show(result)
        done = {stage["stage"] for stage in result.stages}
        drafts = ", and a folder for each precision at which drafts were examined"
        console.print(
            f"\nWritten to {output}/: recommendation.json .md, precision.json and its chart"
            f"{drafts if done & {'plan', 'contenders'} else ''}. A page of it all: bitdraft report {output}"
        )
        if result.choice.get("precision") is None:
            raise typer.Exit(1)


def _show(result: Any) -> None:
    from bitdraft.terminal import show_recommendation

    show_recommendation(Console(), result)


def _seconds(text: str) -> float:
    """`90s`, `10m`, `1h` or seconds as a number."""
    from bitdraft.errors import UserError

    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", text)
    if found is None:
        raise UserError("budget_s", text, "is no time", "Give at least 30 seconds, as 90s, 10m or 1h")
    return float(found[1]) * _SECONDS[found[2] or "s"]
