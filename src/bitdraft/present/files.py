"""What a result leaves in a folder, each file whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bitdraft.present.sentences import Language
from bitdraft.present.words import machine_text
from bitdraft.schema.environment import Environment
from bitdraft.schema.io import write_atomically
from bitdraft.schema.results import Result

if TYPE_CHECKING:
    from bitdraft.present.charts.plot import Chart

FORMATS = ("png", "svg")


def write_texts(folder: Path, stem: str, texts: Mapping[str, str]) -> list[str]:
    """By ending; the files' names."""
    for ending, text in texts.items():
        write_atomically(folder / f"{stem}.{ending}", text)
    return [f"{stem}.{ending}" for ending in texts]


def write_charts(
    folder: Path,
    charts: Mapping[str, Chart],
    formats: Sequence[str] = ("png",),
    language: Language = "en",
) -> list[str]:
    """By name without its ending; the files' names. All are drawn before any is written."""
    charts = {name: replace(chart, language=language) for name, chart in charts.items()}
    ways: dict[str, Callable[[Chart], bytes]] = {
        "png": lambda chart: chart.png(),
        "svg": lambda chart: chart.svg().encode(),
    }
    drawn = {f"{name}.{ending}": ways[ending](chart) for name, chart in charts.items() for ending in formats}
    for name, picture in drawn.items():
        write_atomically(folder / name, picture)
    return list(drawn)


def conclusions(result: Result, title: str) -> list[str]:
    """The head of a Markdown file: what the result says."""
    return [
        f"# {title}".replace("\n", " "),
        "",
        result.summary,
        "",
        *(f"- {reason}" for reason in result.reasons),
        *(f"- Skipped {text}." for text in result.skipped),
        *(f"- Warning: {warning}" for warning in result.warnings),
        "",
    ]


def machine_line(environment: Environment) -> str:
    """Where and when, for the foot of a file."""
    return (
        f"Machine: {machine_text(environment)}, torch {environment.torch}, transformers "
        f"{environment.transformers}, {environment.time_utc}."
    )
