"""Where what bitdraft finds out or makes is kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """`BITDRAFT_CACHE`, or the user's cache folder: ~/.cache/bitdraft. It may be removed at any time."""
    named = os.environ.get("BITDRAFT_CACHE")
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bitdraft"
    return Path(named).expanduser() if named else usual
