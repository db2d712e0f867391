"""`bitdraft certify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bitdraft.cli.common import errors_to_exit
from bitdraft.cli.flags import Debug, Quiet, takes
from bitdraft.config import make_config
from bitdraft.config.serving import BASELINE, SERVER, CertifyConfig


@takes(CertifyConfig)
def certify(
    *,
    url: Annotated[
        str | None,
        typer.Argument(
            metavar="[URL]",
            help="A server that speculates: http://HOST:PORT. Not needed with --launch, whose second it is.",
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The same model in the same engine, without speculation."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Folder for certificate.json and .md."),
    ] = None,
    quiet: Quiet = False,
    debug: Debug = False,
    **settings: Any,
) -> None:
    """Certify that a server which speculates gives what the plain one gives. Exit code 1 where it doesn't."""
    with errors_to_exit(debug):
        from bitdraft.api import certify_server
        from bitdraft.present.progress import LoadProgress

        named = {BASELINE: baseline, SERVER: url}
        servers = tuple(f"{name}={given}" for name, given in named.items() if given)
        config = make_config(CertifyConfig, {"servers": servers, **settings})
        console = Console(quiet=quiet)
        with LoadProgress(console) as progress:
            found = certify_server(
                config=config,
                output=output,
                on_progress=lambda what, done, total: progress(what, "", done, total),
            )
        if not quiet:
            for text in found.reasons:
                console.print(f"· {text}", highlight=False, markup=False)
            for text in found.warnings:
                console.print(f"! {text}", style="yellow", highlight=False, markup=False)
        style = "bold green" if found.is_lossless else "bold red"
        Console().print(found.summary, style=style, highlight=False, markup=False)
        if not found.is_lossless:
            raise typer.Exit(1)
