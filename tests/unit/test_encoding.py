"""Output on terminals whose encoding lacks characters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bitdraft.metrics.quality import LARGEST
from bitdraft.present.words import fixed, percent

MARKS = "12.3 × 4 − 1 ± 2 · … → Δ ≤ ★ │ 中 \udcff"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8", "utf-16"])
def test_what_cannot_be_shown_is_replaced(encoding: str) -> None:
    program = (
        "from bitdraft.cli.encoding import show_what_can_be_shown as show\n"
        f"show(); import sys; print({MARKS!r}); print({MARKS!r}, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=True,
    )
    shown = done.stdout.decode(encoding).strip().lstrip("\ufeff")
    assert shown == done.stderr.decode(encoding).strip().lstrip("\ufeff")
    assert shown.startswith("12.3 ")
    if encoding == "ascii":
        assert shown == "12.3 x 4 - 1 +- 2 - ... -> d <= * | ? ?"
    elif encoding.startswith("utf"):
        assert shown == MARKS.replace("\udcff", "?")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_mistake_has_its_own_exit_code_in_any_encoding(encoding: str, tmp_path: Path) -> None:
    """1 would mean a regression."""
    done = subprocess.run(
        [sys.executable, "-m", "bitdraft", "precision", str(tmp_path / "ü★"), "--device", "cpu"],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert b"no such folder" in done.stderr
    assert b"Traceback" not in done.stderr


def test_numbers_beyond_floats_take_no_room() -> None:
    assert fixed(12.345, 2) == "12.35"
    assert fixed(12.345, 1, signed=True) == "+12.3"
    assert fixed(3.5e12, 2) == "3.5e+12"
    assert fixed(LARGEST, 2) == "> 1e300"
    assert fixed(-2 * LARGEST, 2) == "< -1e300"
    assert percent(LARGEST) == "> 1e300 %"
