"""The wheel without the repository: all package data is in it, and it measures and reports."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as pip builds it and unpacked to where an installation would lie."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(folder),
        str(ROOT),
    ]
    subprocess.run(build, check=True, capture_output=True, text=True)
    [wheel] = folder.glob("bitdraft-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(site: Path, folder: Path, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_measures_and_reports(site: Path, tmp_path: Path) -> None:
    where = run(site, tmp_path, "-c", "import bitdraft; print(bitdraft.__file__)")
    assert where.strip() == str(site / "bitdraft" / "__init__.py")
    small = [
        "--num-prompts",
        "5",
        "--max-prompt-tokens",
        "32",
        "--max-new-tokens",
        "16",
        "--precisions",
        "fp32",
    ]
    command = [
        "-m",
        "bitdraft",
        "precision",
        "demo/target",
        *small,
        "--ppl-max-tokens",
        "600",
        "--output",
        "out",
    ]
    assert "Page: " in run(site, tmp_path, *command)
    run(site, tmp_path, "-m", "bitdraft", "report", "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Which precision" in page
    assert "vegaEmbed" in page
