"""The import rule of docs/architecture.md: only from lower layers, or from earlier in the same."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import bitdraft

SOURCE = Path(bitdraft.__file__).parent
# One row a layer, lowest first; names are modules or packages under bitdraft.
LAYERS = [
    ["errors", "formats", "config", "schema", "stats", "metrics"],
    ["inputs", "probes"],
    ["engine"],
    ["backends", "runs", "servers", "external"],
    ["decoder", "precision", "serving", "spec_decode"],
    ["compare", "recommend", "matrix", "export"],
    ["present"],
    ["api", "cli"],
]
LOWEST = frozenset(LAYERS[0])
NO_TORCH = LOWEST | {"runs", "servers", "external", "compare", "export", "present"}
SIDE_BY_SIDE = [{"precision", "serving", "spec_decode"}, {"backends", "runs", "servers"}]
ENTRY_POINTS = {"__main__", "wikitext_eval", "pg_19_eval"}
RANK = {name: (layer, place) for layer, row in enumerate(LAYERS) for place, name in enumerate(row)}


def _imported(path: Path) -> set[str]:
    """First component below bitdraft of every import in a file (all of them, also inside functions)."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("bitdraft."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("bitdraft.")}
    return found


# Parsed once and at collection: CPython 3.11's parser fails now and then where another thread parses too.
IMPORTED = {path: _imported(path) for path in SOURCE.rglob("*.py")}


def sources() -> list[tuple[str, Path]]:
    files = [path for path in SOURCE.rglob("*.py") if path.stem not in ENTRY_POINTS]
    return [(path.relative_to(SOURCE).parts[0].removesuffix(".py"), path) for path in files]


def test_every_module_has_a_layer() -> None:
    assert {name for name, _ in sources()} - {"__init__"} <= set(RANK)


def test_files_import_only_from_below() -> None:
    wrong = [
        f"{path.relative_to(SOURCE)} imports {target}"
        for name, path in sources()
        if name != "__init__"
        for target in IMPORTED[path]
        if target != name and RANK[target] > RANK[name]
    ]
    assert wrong == []


def test_showing_knows_results_alone() -> None:
    """What is right of the border reads nothing of what is left of it."""
    wrong = [
        f"{path.relative_to(SOURCE)} imports {target}"
        for name, path in sources()
        if name == "present"
        for target in IMPORTED[path] - LOWEST - {"present"}
    ]
    assert wrong == []


def test_runs_know_nothing_of_what_a_cell_measures() -> None:
    for name, path in sources():
        if name == "runs":
            assert IMPORTED[path] <= {*LOWEST, "probes", "runs"}, path


def test_formats_are_named_in_their_own_room_alone() -> None:
    """A new format is one more file."""
    named = re.compile(r'"(fp32|fp16|bf16)"')
    found = [str(path.relative_to(SOURCE)) for name, path in sources() if named.search(path.read_text())]
    assert [path for path in found if not path.startswith("formats/")] == []


def test_nothing_reads_sentences() -> None:
    """No logic looks into what is said for people. What other libraries raise is told by their words
    alone."""
    said = "(text|reason|warning|summary|note)"
    reading = re.compile(
        rf'["\'] (not )?in [\w.]*{said}\b|{said}\.(startswith|endswith|find|index|partition)'
    )
    found = [
        f"{path.relative_to(SOURCE)}:{number}"
        for name, path in sources()
        if name in ("precision", "spec_decode", "recommend", "compare", "runs", "present")
        if path.name != "failures.py"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if reading.search(line)
    ]
    assert found == []


def test_neighbours_do_not_import_each_other() -> None:
    for group in SIDE_BY_SIDE:
        for name, path in sources():
            if name in group:
                assert IMPORTED[path] & (group - {name}) == set(), path


def test_help_and_package_import_no_torch() -> None:
    program = (
        "import sys, bitdraft\n"
        "from typer.testing import CliRunner\n"
        "from bitdraft.cli import app\n"
        "result = CliRunner().invoke(app, ['--help'])\n"
        "assert result.exit_code == 0 and 'precision' in result.output, result.output\n"
        "print(sorted({'torch', 'transformers', 'numpy', 'altair'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_showing_a_result_imports_no_torch() -> None:
    modules = [*sorted(NO_TORCH), "runs.executors.local", "runs.conduct", "precision.evaluate"]
    modules += ["schema.io", "stats.intervals", "metrics.speed", "metrics.quality", "metrics.acceptance"]
    modules += ["inputs.checkpoints", "inputs.tokenizers", "inputs.datasets", "inputs.windows"]
    modules += ["spec_decode.evaluate", "recommend.search", "compare.compare", "api"]
    modules += ["present.terminal", "present.sweep_files", "present.precision_files", "present.page.page"]
    program = "import sys\n" + "".join(f"import bitdraft.{name}\n" for name in modules)
    done = subprocess.run(
        [sys.executable, "-c", program + "print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"
