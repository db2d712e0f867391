"""The K schedule as a heat map: batch size across, context up, the best K and its speedup in each field.
Drawn from a result alone."""

from __future__ import annotations

from bitdraft.present.charts.plot import Axis, Chart, Panel, Plot, Tile, figure_text
from bitdraft.present.charts.style import BLUE, GREY, ORANGE
from bitdraft.present.charts.sweep import about, title
from bitdraft.present.schedule_table import in_order
from bitdraft.schema.spec_decode import ScheduleChoice, SpecDecodeResult

_FIELD, _LEFT = 92, 160
_STRONGEST = 0.85
_FULL = 2.0
"""The speedup from which on a field has its full colour"""


def chart(result: SpecDecodeResult) -> Chart:
    """The picture `speculation_schedule_<text>.png`."""
    sizes = ", ".join(map(str, result.schedule.batch_sizes))
    return Chart(title(result), about(result, f"batch {sizes}"), [panel(result)], columns=1)


def panel(result: SpecDecodeResult) -> Panel:
    """Blue where speculation pays, the stronger the more; grey where it is open, orange where it does not."""
    found = result.schedule
    sizes, contexts = [str(one) for one in found.batch_sizes], [str(one) for one in found.contexts]
    x = Axis("prompts at once (batch size)", names=sizes)
    y = Axis("context (tokens)", names=contexts[::-1])
    plot = Plot(x, y, max(_LEFT + _FIELD * len(sizes), 480), _FIELD * len(contexts))
    several = len({one.draft for one in found.choices}) > 1
    plot.tiles([_tile(one, several) for one in in_order(found)])
    said = [
        f"batch {one.batch_size} at {one.context}: K = {one.k}, {one.speedup.value:.2f} times"
        for one in in_order(found)
    ]
    caption = (
        "K, and the predicted speedup of the best K; blue: it pays, grey: open, orange: it does not, plain "
        "decoding (K = 0)"
    )
    return Panel("K by batch size and context", caption, f"{'; '.join(said)}.", plot, is_wide=True)


def _tile(one: ScheduleChoice, several: bool) -> Tile:
    strength = min(1.0, max(0.0, one.speedup.value - 1) / (_FULL - 1))
    colour, opacity = GREY, 0.25
    if one.pays:
        colour, opacity = BLUE, 0.2 + (_STRONGEST - 0.2) * strength
    elif one.pays is False:
        colour, opacity = ORANGE, 0.3
    draft = f"{one.draft}\n" if several and one.k else ""
    return Tile(
        str(one.batch_size),
        str(one.context),
        f"{draft}K = {one.k}\n{one.speedup.value:.2f}×",
        colour,
        opacity,
        {
            "title": f"batch {one.batch_size}, context {one.context}",
            "K": str(one.k),
            "best by value": f"{one.draft}, K = {one.best_k}",
            "speedup": figure_text(one.speedup, 2, "×"),
        },
    )
