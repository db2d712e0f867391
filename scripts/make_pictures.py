#!/usr/bin/env python
"""The pictures of the READMEs, all of one run of `scripts/demo`, in English and Chinese: the terminal, the
first screen of the page, and the two modules' charts.

The page's picture needs Chromium and playwright (extra dev), Chinese ones a font that has the characters.

    python scripts/make_pictures.py results/demo
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright
from rich.console import Console

from bitdraft.present import precision_files, sweep_files
from bitdraft.present.page.page import make_report
from bitdraft.present.sentences import Language
from bitdraft.present.terminal import show_recommendation
from bitdraft.schema.io import read_result
from bitdraft.schema.precision import PrecisionResult
from bitdraft.schema.recommendation import Recommendation
from bitdraft.schema.spec_decode import SpecDecodeResult

ENDINGS: dict[Language, str] = {"en": "", "zh": ".zh-CN"}
WIDTH, HEIGHT = 1280, 720


def terminal(folder: Path, target: Path, language: Language) -> None:
    """What the command ends with, on 80 columns."""
    console = Console(width=80, record=True, file=io.StringIO(), force_terminal=True)
    result = read_result(folder / "recommendation.json", Recommendation)
    show_recommendation(console, result, language=language)
    console.print(f"Page: {folder.name}/report.html (data and charts beside it)", highlight=False)
    target.write_text(console.export_svg(title="bitdraft recommend"))


def page(folder: Path, target: Path, language: Language) -> None:
    """Its first screen."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        html = make_report(folder, Path(scratch) / "page.html", language).path
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        view = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=1.5)
        view.goto(html.resolve().as_uri())
        view.wait_for_selector("html[data-drawn]", state="attached")
        view.screenshot(path=target)
        browser.close()


def charts(folder: Path, target: Path, language: Language) -> None:
    """The precisions', and the sweep's at the chosen precision, or the first."""
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        precision = read_result(folder / "precision" / "precision.json", PrecisionResult)
        names = precision_files.draw(precision, made, language=language)
        for sweep in sorted(folder.glob("sweep-*/spec_decode_*.json"))[-1:]:
            names += sweep_files.draw(read_result(sweep, SpecDecodeResult), made, language=language)
        for name in names:
            if name.startswith(("precision_benchmark", "speculative_comparison")):
                stem, end = name.rsplit(".", 1)
                shutil.copyfile(made / name, target / f"{stem}{ENDINGS[language]}.{end}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="what scripts/demo left")
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    args = parser.parse_args()
    for language, ending in ENDINGS.items():
        terminal(args.folder, args.output / f"terminal{ending}.svg", language)
        page(args.folder, args.output / f"report{ending}.png", language)
        charts(args.folder, args.output, language)


if __name__ == "__main__":
    main()
