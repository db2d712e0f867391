"""`bitdraft export`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from bitdraft.cli.common import errors_to_exit
from bitdraft.cli.flags import Debug

_FLAGS = ("to", "draft", "server", "context", "mode")


def export(
    *,
    result: Annotated[
        Path, typer.Argument(metavar="RESULT", help="A result's file, or a folder that holds one.")
    ],
    to: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TARGET",
            help="That one alone, without a heading: vllm, vllm-config, llama-server, sglang, tensorrt-llm, "
            "aiconfigurator, aiconfigurator-0.10, inferencex, or synthetic-ENGINE. By default all.",
        ),
    ] = None,
    draft: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Of which draft. By default the recommended one.")
    ] = None,
    k: Annotated[int | None, typer.Option(help="At which K. By default the recommended one.")] = None,
    server: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of servers: of which. By default the one that is shown to pay."),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(help="Of a schedule: K at this context. By default what holds at all of them."),
    ] = None,
    mode: Annotated[
        str, typer.Option(metavar="MODE", help="InferenceX's: thinking_off or thinking_on.")
    ] = "thinking_off",
    debug: Debug = False,
) -> None:
    """Say what was measured in the words of engines and planners: commands, K by batch size, acceptance."""
    with errors_to_exit(debug, subject="RESULT", flags=_FLAGS):
        from bitdraft.errors import UserError
        from bitdraft.export.export import exported

        if to and len(to) > 1:
            raise UserError("to", ", ".join(to), "are several targets", "Name one, or none for all")
        target = to[0] if to else None
        found, notes = exported(result, target, draft=draft, k=k, server=server, context=context, mode=mode)
        # what is captured or piped holds the setting alone
        out = sys.stdout if target is None else sys.stderr
        for note in notes:
            print(f"# {note}", file=out)
        if target is not None:
            print(found[target])
            return
        print()
        for name, text in found.items():
            print(f"# {name}\n{text}\n")
