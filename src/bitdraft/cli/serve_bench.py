"""`bitdraft serve-bench`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from bitdraft.cli.common import errors_to_exit, run_options
from bitdraft.cli.finished import Showing
from bitdraft.cli.flags import Debug, Lang, Quiet, Verbose, takes
from bitdraft.config import make_config
from bitdraft.config.running import RunOptions
from bitdraft.config.serving import BASELINE, SERVER, ServeBenchConfig


@takes(ServeBenchConfig, RunOptions)
def serve_bench(
    *,
    url: Annotated[
        str | None,
        typer.Argument(metavar="[URL]", help="A running server: http://HOST:PORT. Not needed with --launch."),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The same model without speculation, which URL is compared with."),
    ] = None,
    variant: Annotated[
        list[str] | None, typer.Option(metavar="NAME=URL", help="A further server; may be given again.")
    ] = None,
    name: Annotated[str, typer.Option(metavar="NAME", help="What URL's server is called.")] = SERVER,
    verbose: Verbose = False,
    quiet: Quiet = False,
    lang: Lang = "en",
    debug: Debug = False,
    **settings: Any,
) -> None:
    """Measure servers beside each other: does speculation pay there, and up to which load?"""
    show = Showing(verbose, quiet, lang)
    with errors_to_exit(debug, show.of("show_serving")):
        from bitdraft.api import bench_servers
        from bitdraft.present.progress import LoadProgress

        options = run_options(settings)
        first = [f"{BASELINE}={baseline}"] if baseline else []
        named = [f"{name}={url}"] if url else []
        servers = (*first, *named, *(variant or ()))
        config = make_config(ServeBenchConfig, {"servers": servers, **settings})
        with LoadProgress(show.console()) as progress:
            result = bench_servers(config=config, on_progress=progress, **dict(options))
        show.of("show_serving")(result)
        show.say_kept("serving", result, config, options)
        if all(row.status != "ok" for row in result.rows):
            raise typer.Exit(1)
