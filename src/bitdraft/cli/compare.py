"""`bitdraft compare`."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from bitdraft.cli.common import errors_to_exit
from bitdraft.cli.flags import Debug, Lang
from bitdraft.config.base import share

if TYPE_CHECKING:
    from bitdraft.compare.gate import Limits
    from bitdraft.schema.comparison import Comparison
    from bitdraft.schema.findings import Finding


def compare(
    a: Annotated[
        Path, typer.Argument(metavar="A", help="Folder with the results to compare with, at any depth.")
    ],
    b: Annotated[Path, typer.Argument(metavar="B", help="Folder with the results that are judged.")],
    *,
    fail_on_regression: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="Exit with 1 where B is significantly worse by this share or more (5%, or 0.05), or where "
            "something that ran in A does not run in B; with 2 where that cannot be judged.",
        ),
    ] = None,
    max_slowdown: Annotated[
        str | None, typer.Option(metavar="SHARE", help="The same of speed alone, or another limit for it.")
    ] = None,
    max_ppl_increase: Annotated[
        str | None, typer.Option(metavar="SHARE", help="The same of perplexity.")
    ] = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Measure what both folders have results of again, in turn, and compare that."
        ),
    ] = False,
    rounds: Annotated[int, typer.Option(help="With --measure: how often each side is measured.")] = 3,
    python_a: Annotated[
        str | None, typer.Option(metavar="PATH", help="With --measure: the Python that measures A.")
    ] = None,
    python_b: Annotated[str | None, typer.Option(metavar="PATH", help="The same of B.")] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="With --measure: where the texts are, as for the other commands.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for JSON, CSV, Markdown and the chart. Without, none is written. With --measure: "
            "also for what is measured (by default `compared`).",
        ),
    ] = None,
    lang: Lang = "en",
    debug: Debug = False,
) -> None:
    """Compare two folders of results, row by row: what is significantly better or worse in B."""
    with errors_to_exit(debug):
        from bitdraft.api import compare_results, measure_in_turn
        from bitdraft.compare.gate import Limits
        from bitdraft.errors import UserError
        from bitdraft.present.terminal import show_comparison

        shares = {
            "--fail-on-regression": fail_on_regression,
            "--max-slowdown": max_slowdown,
            "--max-ppl-increase": max_ppl_increase,
        }
        given = {flag: _share(flag, text) for flag, text in shares.items() if text is not None}
        both = given.get("--fail-on-regression")
        limits = Limits(given.get("--max-slowdown", both), given.get("--max-ppl-increase", both))
        alone = {"--python-a": python_a, "--python-b": python_b, "--data-root": data_root}
        if not measure and any(alone.values()):
            flag, value = next((flag, value) for flag, value in alone.items() if value)
            raise UserError(flag, value, "is for what is measured", "Add --measure, or leave it out")
        if measure:
            output = output or Path("compared")
            comparison = measure_in_turn(
                a,
                b,
                output=output,
                rounds=rounds,
                python_a=python_a,
                python_b=python_b,
                data_root=data_root,
                on_step=lambda text: print(text, file=sys.stderr),
            )
        else:
            comparison = compare_results(a, b, output=output)
        console = Console()
        show_comparison(console, comparison, language=lang)
        if output is not None:
            console.print(f"\nWritten to {output}/: comparison.json .csv .md .png")
        if given:
            _judge(comparison, limits, given)


def _judge(comparison: Comparison, limits: Limits, given: dict[str, float]) -> None:
    """End with 1 for a regression, with 2 where there may be one that cannot be judged."""
    from bitdraft.compare.gate import blind_spots, not_judged, regressions_of, suspected
    from bitdraft.errors import UserError
    from bitdraft.present.sentences import sentence

    def say(title: str, findings: Sequence[Finding]) -> None:
        if findings:
            print(title, *(f"- {sentence(finding)}" for finding in findings), sep="\n", file=sys.stderr)

    asked = ", ".join(f"{flag} {100 * share:g}%" for flag, share in given.items())
    regressions, unsure = regressions_of(comparison, limits), suspected(comparison, limits)
    say(f"Regressions ({asked}):", regressions)
    say("Not judged:", not_judged(comparison, limits))
    if regressions:
        raise typer.Exit(1)
    flag, share = next(iter(given.items()))
    if unsure:
        lost = "; ".join(sentence(finding) for finding in unsure)
        remedy = "Measure both in turn: bitdraft compare --measure A B"
        problem = f"cannot be judged: B looks slower, by itself or by the machine ({lost})"
        raise UserError(flag, f"{100 * share:g}%", problem, remedy)
    blind = blind_spots(comparison, limits)
    if blind:
        why = "; ".join(sentence(finding) for finding in blind)
        remedy = "Measure both sides alike, with five prompts or more"
        raise UserError(flag, f"{100 * share:g}%", f"cannot be judged: {why}", remedy)


def _share(flag: str, text: str) -> float:
    """`5%` or `0.05`. A bare 5 would be 500 %, which nobody means."""
    from bitdraft.errors import UserError

    try:
        value = float(share(text))
    except ValueError:
        value = math.nan
    if not 0 <= value < 1:
        raise UserError(flag, text, "is no share from 0 to 1", "Give 5% or 0.05")
    return value
