"""Speed over memory of every way to run a model. Drawn from a recommendation alone."""

from __future__ import annotations

from bitdraft.present.charts.plot import Axis, Panel, Plot, Point, figure_text, reach
from bitdraft.present.charts.style import style_of
from bitdraft.present.words import STANDINGS
from bitdraft.schema.naming import draft_name
from bitdraft.schema.recommendation import Contender, Recommendation
from bitdraft.schema.records import Figure


def way(contender: Contender) -> str:
    """`bf16, ngram, K = 5` or `bf16, plain`"""
    if not contender.k:
        return f"{contender.precision}, plain"
    return f"{contender.precision}, {draft_name(contender.draft, contender.k, contender.draft_precision)}"


def front(result: Recommendation) -> Panel | None:
    """Speed over memory, a colour a precision. Filled: on the Pareto front. What was predicted alone has no
    measured speed and is in the table only."""
    drawn = [
        (c, c.throughput_tok_s, c.peak_memory_gb)
        for c in result.contenders
        if c.throughput_tok_s is not None and c.peak_memory_gb is not None
    ]
    if not drawn:
        return None
    memory = "peak VRAM" if result.memory_name == "peak_vram_gb" else "peak RAM"
    across = reach([size for _, _, size in drawn], pad=0.15)
    plot = Plot(
        Axis(f"{memory} (GiB)", across), Axis("tokens/s", reach([s for _, s, _ in drawn], pad=0.1)), 400, 270
    )
    for contender, speed, size in drawn:
        own = style_of(contender.precision)
        point = Point(size, speed.value, speed, _hover(contender, speed))
        plot.whiskers([point], own)
        if contender.standing == "chosen":
            plot.stars([point], own)
        else:
            plot.dots([point], own, size=80, hollow=not contender.is_pareto)
    for style, kept in (("strong", {"chosen"}), ("label", {"ahead", "indistinguishable", "slower", "open"})):
        named = [(c, s, m) for c, s, m in drawn if c.standing in kept and (c.standing == "chosen" or not c.k)]
        plot.names([(m, s.value, way(c)) for c, s, m in named], style=style)
    said = "; ".join(f"{way(c)}: {s.value:.1f}" for c, s, _ in drawn if c.is_pareto)
    return Panel(
        "Speed over memory, every way that was measured",
        "up is faster, left is smaller; filled: on the Pareto front; ★ chosen",
        f"Scatter of tokens per second over {memory} in GiB. On the front: {said}.",
        plot,
        is_wide=True,
    )


def _hover(contender: Contender, speed: Figure) -> dict[str, str]:
    def shown(figure: Figure | None, digits: int, unit: str, scale: float = 1.0) -> str:
        return "" if figure is None else figure_text(figure, digits, unit, scale)

    return {
        "title": f"{way(contender)} ({STANDINGS[contender.standing]})",
        "throughput": figure_text(speed, 1, "tok/s"),
        "speedup": shown(contender.speedup, 2, "×"),
        "PPL": shown(contender.ppl_change, 3, "%", 100),
        "memory": "" if contender.peak_memory_gb is None else f"{contender.peak_memory_gb:.2f} GiB",
    }
