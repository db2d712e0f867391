"""`bitdraft run`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from bitdraft.cli.common import errors_to_exit, run_options
from bitdraft.cli.flags import Debug, takes
from bitdraft.config.running import RunOptions

if TYPE_CHECKING:
    from bitdraft.matrix.carry_out import Outcome
    from bitdraft.matrix.read import Wanted
    from bitdraft.schema.results import Result


@takes(RunOptions)
def run(
    matrix: Annotated[Path, typer.Argument(metavar="MATRIX.toml", help="Which runs; see the guide.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the runs, their cells and about how long each takes.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Folder of all runs. By default results/NAME of the file."
        ),
    ] = None,
    debug: Debug = False,
    **settings: Any,
) -> None:
    """Carry out many runs from one file; the same command goes on with what is missing."""
    with errors_to_exit(debug):
        from bitdraft.api import measure_run
        from bitdraft.matrix.carry_out import carry_out
        from bitdraft.matrix.read import read_matrix

        options = run_options({"output": output, **settings})
        assert options.root is not None
        root = options.output or options.root / matrix.stem
        wanted = read_matrix(matrix)
        if dry_run:
            if not _list(wanted, root):
                raise typer.Exit(2)
            return

        def say(index: int, one: Wanted) -> None:
            console.rule(f"{index} of {len(wanted)}: {one.title}", align="left")

        def measure(one: Wanted, own: RunOptions) -> Result:
            with _progress(one, console) as progress:
                return measure_run(one, own, progress)

        console = Console()
        outcomes = carry_out(wanted, options, root, measure, say)
        _show(outcomes, console)
        console.print(f"A page of it all: bitdraft report {root}", highlight=False, markup=False)
        if any(outcome.error is not None for outcome in outcomes):
            raise typer.Exit(1)


def _progress(wanted: Wanted, console: Console) -> Any:
    from bitdraft.config import PrecisionConfig, RecommendConfig
    from bitdraft.present.progress import LiveProgress, SearchProgress, StageProgress

    if isinstance(wanted.config, PrecisionConfig):
        return LiveProgress(console, len(wanted.config.precisions))
    if isinstance(wanted.config, RecommendConfig):
        return SearchProgress(console, wanted.config.budget_s)
    return StageProgress(console)


def _show(outcomes: Sequence[Outcome], console: Console) -> None:
    console.rule("All runs", align="left")
    for outcome in outcomes:
        console.print(outcome.wanted.title, style="bold", highlight=False, markup=False)
        if outcome.result is not None:
            console.print(f"  {outcome.result.summary}", highlight=False, markup=False)
        else:
            console.print(f"  Not measured: {outcome.error}", highlight=False, markup=False)
        if outcome.folder.exists():
            console.print(f"  {outcome.folder}/", highlight=False, markup=False, soft_wrap=True)


def _list(wanted: Sequence[Wanted], root: Path) -> bool:
    """Whether all of them can be carried out."""
    from bitdraft.config import ModelConfig
    from bitdraft.errors import UserError
    from bitdraft.inputs.models import resolve_device
    from bitdraft.matrix.carry_out import folder_of_run
    from bitdraft.matrix.expect import expected_cells, total_s
    from bitdraft.present.matrix_table import show_expected
    from bitdraft.present.words import counted
    from bitdraft.probes.ceilings import measure_ceilings
    from bitdraft.schema.manifest import read_manifest

    console = Console()
    config = wanted[0].config
    assert isinstance(config, ModelConfig)
    ceilings = measure_ceilings(resolve_device(config.device), ())
    whole_s, num_wrong = 0.0, 0
    for one in wanted:
        folder = folder_of_run(one, root)
        try:
            cells = expected_cells(one, folder, 1e9 * ceilings.copy_gb_s)
            manifest = read_manifest(folder)
        except UserError as error:
            num_wrong += 1
            console.print(f"{one.title} (cannot be measured)", style="bold", highlight=False, markup=False)
            console.print(f"{error}\n", highlight=False, markup=False)
            continue
        state = "not begun" if manifest is None else manifest.state
        show_expected(console, one.title, folder, cells, state)
        whole_s += 0.0 if state == "finished" else total_s(cells)
    runs = counted(len(wanted), "run")
    runs += f", {num_wrong} of them cannot be measured" if num_wrong else ""
    console.print(
        f"{runs}, about {whole_s / 60:.0f} min to go, at {ceilings.copy_gb_s:.0f} "
        "GB/s and as if every draft took as long as plain decoding: a guess to plan with."
    )
    return num_wrong == 0
