"""Result files that earlier versions wrote on real runs of the demo models, compressed in `fixtures/`."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

VERSIONS = (1, 2, 3)
_FIXTURES = Path(__file__).parent / "fixtures"


def earlier_files(version: int, folder: Path) -> dict[str, dict[str, Any]]:
    """Put them into a folder; what they hold, by name."""
    found = {}
    for path in sorted((_FIXTURES / f"schema_v{version}").iterdir()):
        content = gzip.decompress(path.read_bytes())
        name = path.name.removesuffix(".json.gz")
        (folder / f"{name}.json").write_bytes(content)
        found[name] = json.loads(content)
    return found
