"""What a notebook shows of a result: table, verdict, what takes trust from it, and a chart."""

from __future__ import annotations

import html

from bitdraft.present.charts import precision as precision_charts
from bitdraft.present.charts import serving as serving_charts
from bitdraft.present.charts import sweep as sweep_charts
from bitdraft.present.charts.plot import Chart
from bitdraft.present.charts.recommendation import front
from bitdraft.present.page.page import table_html
from bitdraft.present.precision_table import precision_table
from bitdraft.present.recommendation_files import recommendation_table
from bitdraft.present.serving_table import serving_table
from bitdraft.present.sweep_table import best_rows, plan_table, sweep_table
from bitdraft.present.table import Table
from bitdraft.present.words import machine_text
from bitdraft.schema.io import AnyResult
from bitdraft.schema.precision import PrecisionResult
from bitdraft.schema.recommendation import Recommendation
from bitdraft.schema.serving import ServingResult


def chart_of(result: AnyResult | ServingResult) -> Chart | None:
    """The picture that the result is told by; None where nothing was measured."""
    if isinstance(result, ServingResult):
        return serving_charts.chart(result) if result.rows else None
    if isinstance(result, PrecisionResult):
        return precision_charts.chart(result) if result.rows else None
    if isinstance(result, Recommendation):
        panel = front(result)
        about = f"{result.model.name} · {machine_text(result.environment)}"
        return None if panel is None else Chart(result.summary, about, [panel], 1)
    if result.config.plan:
        return sweep_charts.plan(result) if result.plan else None
    return None if result.baseline is None else sweep_charts.comparison(result)


def table_of(result: AnyResult | ServingResult) -> Table:
    """What the terminal shows, too."""
    if isinstance(result, ServingResult):
        return serving_table(result)
    if isinstance(result, PrecisionResult):
        return precision_table(result)
    if isinstance(result, Recommendation):
        return recommendation_table(result)
    if result.config.plan:
        return plan_table(result)
    return sweep_table(result, best_rows(result), f"{result.model.name}, {result.text.dataset}")


def html_of(result: AnyResult | ServingResult) -> str:
    """HTML without style sheet or script of its own."""
    chart = chart_of(result)
    parts = [
        f"<p><strong>{html.escape(result.summary or 'No verdict.')}</strong></p>",
        table_html(table_of(result)),
    ]
    parts += [f"<p>⚠ {html.escape(text)}</p>" for text in result.warnings]
    picture = "" if chart is None else f'<div style="max-width:60rem">{chart.svg()}</div>'
    return f'<div class="bitdraft">{"".join(parts)}{picture}</div>'
