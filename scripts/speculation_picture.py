"""The picture of the speculation benchmark: measured speedup after the prefill by K, and its bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench_drawing import Line, Panel, line_panels
from benchmarks import PRECISIONS
from bitdraft.schema.records import Figure

SIDES = ("static", "compiled", "transformers")
SPEEDUP = "speedup after the prefill, × own K = 0"


def picture(lines: Sequence[Mapping[str, Any]]) -> bytes:
    """From the lines of bench_speculation, a panel for each precision, target and draft."""
    panels: dict[tuple[str, ...], Panel] = {}
    by_precision = sorted(lines, key=lambda line: PRECISIONS.index(line["precision"]))
    for line in by_precision:
        if line["draft"] is None or line["side"] == "eager":
            continue
        where = line["precision"], line["pair"], line["draft"]
        panel = panels.setdefault(where, Panel("\n".join(where[1:]) + f", {where[0]}", "K", SPEEDUP, level=1))
        panel.ticks = sorted({*panel.ticks, line["k"]})
        style = SIDES.index(line["side"])
        known = panel.lines.setdefault(line["side"], Line({}, style=style))
        known.points[line["k"]] = line["decode_over_k0"]
        if line["side"] == "static":
            bound = panel.lines.setdefault("bound of static", Line({}, dashed=True, style=style))
            bound.points[line["k"]] = Figure(value=line["bound"])
    title = "Speculative decoding; bars: 95 % interval, dashed: replay at measured costs"
    columns = max(1, sum(where[0] == PRECISIONS[0] for where in panels))
    return line_panels(title, list(panels.values()), columns)
