"""`bitdraft compare`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bitdraft.cli.common import errors_to_exit, share
from bitdraft.cli.flags import Debug


def compare(
    a: Annotated[
        Path, typer.Argument(metavar="A", help="Folder with the results to compare with, at any depth.")
    ],
    b: Annotated[Path, typer.Argument(metavar="B", help="Folder with the results that are judged.")],
    fail_on_regression: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="Exit with 1 where B is significantly worse by this share or more (5%, or 0.05), or where "
            "something that ran in A does not run in B; with 2 where no speed can be judged.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for JSON, CSV, Markdown and the chart. Without, none is written."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Compare two folders of results, row by row: what is significantly better or worse in B."""
    with errors_to_exit(debug):
        from bitdraft.api import compare_results
        from bitdraft.compare.verdict import blind_spot, regressions_of
        from bitdraft.errors import UserError
        from bitdraft.present.comparison_table import show_comparison
        from bitdraft.present.sentences import sentence

        limit = None if fail_on_regression is None else _share(fail_on_regression)
        comparison = compare_results(a, b, output=output)
        console = Console()
        show_comparison(console, comparison)
        if output is not None:
            console.print(f"\nWritten to {output}/: comparison.json .csv .md .png")
        found = [] if limit is None else regressions_of(comparison, limit)
        if found:
            print(f"Regressions (from {fail_on_regression} on):", file=sys.stderr)
            for regression in found:
                print(f"- {sentence(regression)}", file=sys.stderr)
            raise typer.Exit(1)
        blind = None if limit is None else blind_spot(comparison)
        if blind is not None:
            remedy = "Measure both sides again, with five prompts or more"
            raise UserError(
                "--fail-on-regression", fail_on_regression, f"cannot be judged: {sentence(blind)}", remedy
            )


def _share(text: str) -> float:
    """`5%` or `0.05`. A bare 5 would be 500 %, which nobody means."""
    from bitdraft.errors import UserError

    value = share(text.strip())
    if not (isinstance(value, float) and 0 <= value < 1):
        raise UserError("--fail-on-regression", text, "is no share from 0 to 1", "Give 5% or 0.05")
    return value
