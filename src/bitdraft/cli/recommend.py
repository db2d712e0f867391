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
    MaxNewTokens,
    MaxPromptTokens,
    MinTextChars,
    NumPrompts,
    Output,
    Revision,
    StopAtEos,
    TrustRemoteCode,
    errors_to_exit,
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
    precisions: Annotated[str, typer.Option(help="Comma-separated: fp32, fp16, bf16.")] = "fp32,fp16,bf16",
    k: Annotated[str, typer.Option("--k", help="Speculative tokens a step: 3-10, or 1,2,4.")] = "1-10",
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
    temperature: Annotated[float, typer.Option(help="0: greedy; above: sampling.")] = 0.0,
    top_k: Annotated[int | None, typer.Option(help="Sample from the N most probable tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Sample from the tokens that hold this share.")] = None,
    ppl_protocol: Annotated[
        str, typer.Option(help="sliding, documents, lm-eval, gptq or llama.cpp.")
    ] = "sliding",
    ppl_max_tokens: Annotated[int | None, typer.Option(help="Score only the first N tokens.")] = None,
    kl_max_tokens: Annotated[
        int, typer.Option(help="Tokens to compare full distributions on; 0: none.")
    ] = 16384,
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
    with errors_to_exit(debug, output, "*.json", _show):
        from bitdraft.config import RecommendConfig, make_config
        from bitdraft.progress import SearchProgress
        from bitdraft.recommend.search import recommend_deployment

        settings["drafts"] = tuple(draft) if draft else None
        settings["precisions"] = tuple(part.strip() for part in precisions.split(",") if part.strip())
        settings["max_ppl_increase"] = share(max_ppl_increase)
        settings["budget_s"] = None if budget is None else _seconds(budget)
        settings["ignore_eos"] = not stop_at_eos
        config = make_config(RecommendConfig, settings)
        console = Console()
        with SearchProgress(console) as progress:
            result = recommend_deployment(config, on_progress=progress)
        _show(result)
        console.print(
            f"\nWritten to {output}/: recommendation.json .md, precision.json and its chart, and a folder "
            f"for each precision at which drafts were examined. A page of it all: bitdraft report {output}"
        )
        if result.choice.get("precision") is None:
            raise typer.Exit(1)


def _show(result: Any) -> None:
    from bitdraft.terminal import show_recommendation

    show_recommendation(Console(), result)


def _seconds(text: str) -> Any:
    """`90s`, `10m`, `1h` or seconds as a number; anything else is left for the configuration to refuse."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", text)
    return float(found[1]) * _SECONDS[found[2] or "s"] if found else text
