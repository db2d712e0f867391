"""What a notebook shows, and the example notebook, run from its first cell to its last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bitdraft.schema.precision import PrecisionResult
from report_results import MARKUP, plan_result, precision_result, recommendation, sweep_result

EXAMPLE = Path(__file__).parents[2] / "examples" / "notebook.ipynb"


@pytest.mark.parametrize("make", [precision_result, sweep_result, plan_result, recommendation])
def test_a_result_shows_its_table_verdict_and_chart(make: Any) -> None:
    result = make(MARKUP)
    shown = result._repr_html_()
    assert result.summary in shown
    assert "<table>" in shown
    assert "<svg" in shown
    assert "<img" not in shown, "names are text"
    assert "<script" not in shown
    chart = result.chart()
    assert chart.png().startswith(b"\x89PNG")
    bundle = chart._repr_mimebundle_()
    assert bundle["image/svg+xml"].startswith("<svg")
    assert bundle["application/vnd.vegalite.v6+json"]["config"]


def test_a_result_of_nothing_is_shown_without_a_chart() -> None:
    empty = PrecisionResult.model_validate(precision_result().model_dump(mode="json") | {"rows": []})
    assert empty.chart() is None
    assert "<svg" not in empty._repr_html_()


def test_the_example_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    book = nbformat.read(EXAMPLE, as_version=4)
    nbformat.validate(book)
    assert not any(cell.get("outputs") for cell in book.cells), "it is stored without what it showed"
    nbclient.NotebookClient(book, timeout=300, kernel_name="python3").execute()
    shown = [output.get("data", {}) for cell in book.cells for output in cell.get("outputs", [])]
    assert sum("text/html" in data for data in shown) >= 3, "two results and a data frame"
    assert any("application/vnd.vegalite.v6+json" in data for data in shown)
