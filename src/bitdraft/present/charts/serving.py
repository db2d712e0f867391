"""Running servers: throughput and speedup over concurrency. Drawn from a result alone."""

from __future__ import annotations

from bitdraft.present.charts.plot import Axis, Chart, Panel, Plot, Point, figure_text, reach
from bitdraft.present.charts.style import INK, styles_of
from bitdraft.present.words import machine_text
from bitdraft.schema.records import Figure
from bitdraft.schema.serving import ServingResult

WIDTH, HEIGHT = 400, 300


def chart(result: ServingResult) -> Chart:
    """The picture `serving.png`."""
    config = result.config
    engines = ", ".join(f"{one.name}: {one.engine} {one.version or ''}".strip() for one in result.servers)
    what = f"{config.num_prompts} prompts × {config.max_new_tokens} tokens, {result.text.dataset}"
    words = f"{result.model.name} · {engines} · {what} · sent from {machine_text(result.environment)}"
    return Chart(result.summary or "Not judged.", words, panels(result), columns=2)


def panels(result: ServingResult) -> list[Panel]:
    """Throughput of a request, and speedup over the baseline where there is one."""
    found = [_panel(result, "throughput_tok_s", "Throughput of a request (tokens/s)", "tokens/s")]
    if any("speedup" in row.metrics for row in result.rows):
        found.append(_panel(result, "speedup", "Speedup (× the baseline at the same load)", "×"))
    return found


def _panel(result: ServingResult, metric: str, title: str, unit: str) -> Panel:
    loads = sorted({row.load for row in result.rows}) or [1]
    servers = [name for name in result.config.urls if name != result.config.baseline]
    shown: list[Figure | float] = [row.metrics[metric] for row in result.rows if metric in row.metrics]
    is_ratio = metric == "speedup"
    ends = max(loads[0], 0.5) / 2**0.3, max(loads[-1], 1) * 2**0.3
    title_of_x = (
        "requests in flight" if result.config.rate is None else "requests at the rate that was asked for"
    )
    x = Axis(title_of_x, ends, [max(load, 1) for load in loads], log_base=2, format="d")
    y = Axis(unit, reach([*shown, 1.0] if is_ratio else shown, zero=not is_ratio))
    plot = Plot(x, y, WIDTH, HEIGHT)
    if is_ratio:
        plot.level(1.0)
    styles, names, said = styles_of(servers), [], []
    for server in result.config.urls:
        points = [
            Point(
                max(row.load, 1),
                figure.value,
                figure,
                {"title": server, "value": figure_text(figure, 2, unit)},
            )
            for row in result.rows
            if row.server == server and (figure := row.metrics.get(metric)) is not None
        ]
        if not points:
            continue
        style = styles.get(server, INK)
        plot.line(points, style, dash="" if server in styles else "dashed")
        plot.whiskers(points, style)
        plot.dots(points, style)
        names.append((float(points[-1].x), float(points[-1].y), server))
        said.append(f"{server} {', '.join(f'{p.y:.2f} at {p.x:.0f}' for p in points)}")
    plot.names(names)
    caption = "above 1 speculation pays" if is_ratio else "new tokens over the seconds of a request"
    return Panel(title, caption, f"{title} over the load: {'; '.join(said)}.", plot)
