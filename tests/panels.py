"""What a panel draws, read from its specification."""

from __future__ import annotations

from typing import Any

from bitdraft.present.charts.plot import Panel


def layers(panel: Panel | None, kind: str) -> list[list[dict[str, Any]]]:
    """The rows of every layer with this mark (`point`, `line`, `bar`, `rule`, `text`), in order."""
    assert panel is not None
    spec = panel.in_page()
    found = [layer.get("data", spec.get("data")) for layer in spec["layer"] if layer["mark"]["type"] == kind]
    return [data["values"] for data in found]


def points(panel: Panel | None, kind: str) -> list[list[tuple[Any, Any]]]:
    """x and y of every row, by layer; numbers rounded to what charts can show."""
    return [
        [(_rounded(row["x"]), _rounded(row["y"])) for row in rows]
        for rows in layers(panel, kind)
        if rows and "x" in rows[0] and "y" in rows[0]
    ]


def intervals(panel: Panel | None) -> list[tuple[float, float]]:
    """The ends of every whisker."""
    return [
        (_rounded(row["low"]), _rounded(row["high"]))
        for rows in layers(panel, "rule")
        for row in rows
        if "low" in row
    ]


def words(panel: Panel | None) -> list[str]:
    """All texts that stand in it."""
    return [row["text"] for rows in layers(panel, "text") for row in rows]


def _rounded(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value
