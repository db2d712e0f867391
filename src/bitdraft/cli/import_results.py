"""`bitdraft import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bitdraft.cli.common import errors_to_exit
from bitdraft.cli.finished import Showing, write_page
from bitdraft.cli.flags import Debug, Lang, Quiet, Verbose


def import_results(
    *,
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]FILE...",
            help="Files of AIPerf (profile_export.jsonl), vllm bench serve (--save-detailed), llama.cpp's "
            "speed_bench.py or GuideLLM (benchmarks.json); of several the one to compare with first.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the result and its page.")
    ],
    verbose: Verbose = False,
    quiet: Quiet = False,
    lang: Lang = "en",
    debug: Debug = False,
) -> None:
    """Read results of other load generators, for the page, export and the same statistics."""
    show = Showing(verbose, quiet, lang)
    with errors_to_exit(debug, subject="FILE"):
        from bitdraft.api import import_results as read

        result = read(files, output=output)
        show.of("show_serving")(result)
        page = write_page(output, lang)
        if all(row.status != "ok" for row in result.rows):
            raise typer.Exit(1)
        if not quiet:
            print(f"Page: {page} (data and charts beside it)" if page else f"Written to {output}/")
