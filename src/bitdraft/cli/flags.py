"""Flags that several commands have, in bundles, and how a command takes them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

Flags = Mapping[str, tuple[Any, Any]]
"""By parameter: what it is, and its default"""

PrecisionsFlag = Annotated[str, typer.Option(help="Comma-separated: fp32, fp16, bf16.")]
KFlag = Annotated[str, typer.Option("--k", help="Speculative tokens a step: 3-10, or 1,2,4.")]
BackendFlag = Annotated[str, typer.Option(help="native or transformers.")]
ExecutionFlag = Annotated[str, typer.Option(help="Of the native backend: auto, eager, static or compiled.")]
RandomWeights = Annotated[
    bool,
    typer.Option(
        "--random-weights",
        help="Measure speed without a checkpoint: every model is a shape (pythia-70m, -160m, -410m, -1.4b, "
        "-2.8b, or a folder with a config.json) with weights drawn from the seed.",
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

TEXT: Flags = {
    "dataset": (
        Annotated[str, typer.Option(help="wikitext, pg19, spec-bench, stdlib or file:PATH.")],
        "stdlib",
    ),
    "data_root": (
        Annotated[
            Path | None,
            typer.Option(
                envvar="BITDRAFT_DATA_ROOT", help="Folder with the datasets' files, instead of the hub."
            ),
        ],
        None,
    ),
    "num_prompts": (Annotated[int, typer.Option(help="Prompts to generate from.")], 15),
    "sample": (
        Annotated[
            str,
            typer.Option(
                help="stratified: a sample by --seed over articles, books or categories; first: the first "
                "texts."
            ),
        ],
        "stratified",
    ),
    "chat": (
        Annotated[
            str,
            typer.Option(
                help="Whether prompts go through the tokenizer's chat template: auto (conversations do, "
                "where it has one), on or off."
            ),
        ],
        "auto",
    ),
    "bos": (
        Annotated[
            str,
            typer.Option(help="auto: what the tokenizer puts in front of a text stands there; off: nothing."),
        ],
        "auto",
    ),
    "min_text_chars": (Annotated[int, typer.Option(help="Only texts longer than this become prompts.")], 200),
    "max_prompt_tokens": (Annotated[int, typer.Option(help="Prompts are cut to this length.")], 1024),
    "max_new_tokens": (Annotated[int, typer.Option(help="Tokens to generate per prompt.")], 200),
    "stop_at_eos": (
        Annotated[
            bool, typer.Option("--stop-at-eos", help="Let EOS end a text (speeds are then less comparable).")
        ],
        False,
    ),
}
"""Prompts, and how long their outputs are"""
SAMPLING: Flags = {
    "temperature": (Annotated[float, typer.Option(help="0: greedy; above: sampling.")], 0.0),
    "top_k": (Annotated[int | None, typer.Option(help="Sample from the N most probable tokens.")], None),
    "top_p": (
        Annotated[float | None, typer.Option(help="Sample from the tokens that hold this share.")],
        None,
    ),
}
"""How tokens are chosen"""
QUALITY: Flags = {
    "ppl_protocol": (
        Annotated[str, typer.Option(help="sliding, documents, lm-eval, gptq or llama.cpp.")],
        "sliding",
    ),
    "rounds": (
        Annotated[
            int | None,
            typer.Option(
                help="How many processes each precision's speed is measured in, in turn (A B C C B A …); by "
                "default two where precisions are compared."
            ),
        ],
        None,
    ),
    "ppl_max_tokens": (Annotated[int | None, typer.Option(help="Score only the first N tokens.")], None),
    "kl_max_tokens": (
        Annotated[int, typer.Option(help="Tokens to compare full distributions on; 0: none.")],
        16384,
    ),
}
"""What is scored"""
LOADING: Flags = {
    "device": (Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")], "auto"),
    "revision": (Annotated[str | None, typer.Option(help="Hub revision of the model.")], None),
    "allow_pickle": (
        Annotated[bool, typer.Option("--allow-pickle", help="Also load pickle weights (they can run code).")],
        False,
    ),
    "trust_remote_code": (
        Annotated[
            bool, typer.Option("--trust-remote-code", help="Run Python code that the checkpoint brings.")
        ],
        False,
    ),
}
"""What is loaded, and where to"""
FOLDER: Flags = {
    "output": (
        Annotated[
            Path | None,
            typer.Option(
                help="The run's folder: results, charts and journal. (default: results/MODEL-COMMAND-HASH, "
                "so that the same command goes on with its own run)",
            ),
        ],
        None,
    ),
}
"""Where a run is kept"""
RUNNING: Flags = {
    "fresh": (
        Annotated[bool, typer.Option("--fresh", help="Measure anew what the folder already holds.")],
        False,
    ),
    "retry_failed": (
        Annotated[bool, typer.Option("--retry-failed", help="Measure again what had failed.")],
        False,
    ),
    "mix_machines": (
        Annotated[
            bool,
            typer.Option(
                "--mix-machines", help="Go on with what another machine or other versions have begun."
            ),
        ],
        False,
    ),
    "executor": (Annotated[str, typer.Option("--executor", help="Where cells run: local, or ray.")], "local"),
    "ray_address": (
        Annotated[str | None, typer.Option(help="A Ray cluster's address. (default: one on this machine)")],
        None,
    ),
    "devices": (
        Annotated[
            str, typer.Option(metavar="LIST", help="CUDA devices for several cells at once, one each: 0,1,2.")
        ],
        "",
    ),
    "cell_timeout": (
        Annotated[
            str,
            typer.Option(metavar="TIME", help="A measurement that is silent for longer is ended: 90s, 30m."),
        ],
        "30m",
    ),
    "debug": (Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")], False),
}
"""How a run is carried out"""


def takes(*bundles: Flags) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the flags of these bundles behind its own; they reach it as keywords."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def taken(**values: Any) -> None:
            command(**values)

        own = inspect.signature(command, eval_str=True).parameters.values()
        parameters = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in own
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        for bundle in bundles:
            parameters += [
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
                for name, (kind, default) in bundle.items()
            ]
        # what typer reads
        taken.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        taken.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        del taken.__wrapped__
        return taken

    return add
