"""`bitdraft report`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from bitdraft.cli.common import errors_to_exit
from bitdraft.cli.flags import Debug, Lang


def report(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Folders that hold result files, at any depth.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The HTML file. (default: report.html in the first folder)"),
    ] = None,
    lang: Lang = "en",
    debug: Debug = False,
) -> None:
    """Write one HTML page of all results in one or more folders, several side by side."""
    with errors_to_exit(debug):
        from bitdraft.present.page.page import make_report

        written = make_report(folders, output, lang)
        for text in written.notes:
            print(f"Warning: {text}", file=sys.stderr)
        print(written.path)
