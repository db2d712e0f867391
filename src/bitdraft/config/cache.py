"""Where what bitdraft finds out or makes is kept between runs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from bitdraft.errors import UserError, one_line


def cache_folder() -> Path:
    """`BITDRAFT_CACHE`, or the user's cache folder: ~/.cache/bitdraft. It may be removed at any time."""
    named = os.environ.get("BITDRAFT_CACHE")
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bitdraft"
    return Path(named).expanduser() if named else usual


def refuse_unwritable_cache() -> None:
    """Raise `UserError` where nothing can be kept."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        problem = f"files of formats are made there, and nothing can be written ({one_line(error)})"
        remedy = "Name a folder that can be written: BITDRAFT_CACHE=FOLDER"
        raise UserError("BITDRAFT_CACHE", str(folder), problem, remedy) from error
