"""Files in which people write what is to be done: TOML."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from bitdraft.errors import UserError, one_line


def read_toml(path: Path, field: str) -> dict[str, Any]:
    """What a file says. Raises `UserError` for one that can't be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(field, path, one_line(error), "Name a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(field, path, f"is no TOML ({one_line(error)})", "Mend that line") from error
