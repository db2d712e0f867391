"""Result files: JSON written whole or not at all, read with what is wrong said."""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from bitdraft.errors import UserError, one_line
from bitdraft.schema.history import SCHEMA_VERSION, migrate
from bitdraft.schema.precision import PrecisionResult
from bitdraft.schema.recommendation import Recommendation
from bitdraft.schema.serving import ServingResult
from bitdraft.schema.spec_decode import SpecDecodeResult


def to_json(record: BaseModel) -> str:
    """Indented JSON; a list of plain numbers takes one line."""
    text = json.dumps(record.model_dump(mode="json"), indent=1, allow_nan=False, ensure_ascii=False)
    # a line break cannot stand inside a JSON string, so only the layout is touched
    return (
        re.sub(r"\[\n[^\[\]{}\"]*\]", lambda found: "[" + " ".join(found[0][1:-1].split()) + "]", text) + "\n"
    )


_AnyResult = TypeVar("_AnyResult", bound=PrecisionResult | SpecDecodeResult | Recommendation | ServingResult)


def read_result(path: Path, kind: type[_AnyResult]) -> _AnyResult:
    """Read a result file; a foreign, damaged or newer file is a `UserError`."""
    try:
        data = _read(path)
        version = data.get("schema_version") if isinstance(data, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            problem = f"schema version {version} is newer than {SCHEMA_VERSION}"
            raise UserError("result", path, problem, "Update bitdraft")
        _check_numbers(data)
        return cast(_AnyResult, kind.model_validate(migrate(data) if isinstance(data, dict) else data))
    except OSError as error:
        raise UserError("result", path, one_line(error), f"Name a folder that holds {path.name}") from error
    except (ValueError, ValidationError, LookupError, TypeError, AttributeError) as error:
        what = kind.model_fields["kind"].default.replace("_", "-")
        problem = f"not a {what} result ({_first_problem(error)})"
        raise UserError("result", path, problem, "Measure again or name another folder") from error


AnyResult = PrecisionResult | SpecDecodeResult | Recommendation | ServingResult
KINDS: dict[str, type[AnyResult]] = {
    "recommendation.json": Recommendation,
    "precision.json": PrecisionResult,
    "spec_decode_*.json": SpecDecodeResult,
    "serving.json": ServingResult,
}
"""By what their files are called"""


def load_result(path: str | Path) -> AnyResult:
    """The result in a file, or in a folder that holds one; in that of a recommendation, the recommendation.

    Raises `UserError` for a folder without a result or with several, and for a foreign, damaged or newer
    file.
    """
    path = Path(path)
    if not path.is_dir():
        fitting = [kind for pattern, kind in KINDS.items() if path.match(pattern)]
        if not fitting:
            names = ", ".join(KINDS)
            raise UserError("result", path, "no result by its name", f"Name a folder, or one of {names}")
        return read_result(path, fitting[0])
    for pattern, kind in KINDS.items():
        found = sorted(path.glob(pattern))
        if len(found) > 1:
            names = ", ".join(one.name for one in found)
            raise UserError("result", path, f"holds several results ({names})", "Name one of these files")
        if found:
            return read_result(found[0], kind)
    raise UserError("result", path, "holds no result", "Name the folder of a run that is finished")


def _read(path: Path) -> Any:
    """JSON whose text can be written again: half a character, which an escape can hold, becomes `?`."""
    text = path.read_text(encoding="utf-8-sig")
    data = json.loads(text)
    if "\\ud" in text.lower():
        data = json.loads(json.dumps(data, ensure_ascii=False).encode("utf-8", "replace"))
    return data


def _check_numbers(value: Any, where: str = "") -> None:
    """JSON as Python reads it may hold NaN and infinity; no result does."""
    if isinstance(value, dict):
        for key, entry in value.items():
            _check_numbers(entry, f"{where}.{key}" if where else key)
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            _check_numbers(entry, f"{where}.{index}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where}: {value} is no number")


def _first_problem(error: Exception) -> str:
    """`rows.0.status: Field required (and 2 more)`; of what isn't JSON, the parser's words."""
    if not isinstance(error, ValidationError):
        return one_line(error)
    first, *others = error.errors()
    where = ".".join(map(str, first["loc"]))
    more = f" (and {len(others)} more)" if others else ""
    return f"{where}: {first['msg']}{more}" if where else f"{first['msg']}{more}"


def write_atomically(path: Path, data: str | bytes) -> None:
    """Write beside the target and rename, so that a reader never sees half a file."""
    content = data.encode() if isinstance(data, str) else data
    temporary = ""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as handle:
            temporary = handle.name
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        remedy = "Free space there or choose another --output folder"
        raise UserError("output", path, f"cannot be written ({one_line(error)})", remedy) from error


def prepare_output(folder: Path) -> None:
    """Create the output folder and prove that it takes a file, before anything long begins."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder) as probe:
            probe.write(b"bitdraft")
            probe.flush()
    except OSError as error:
        problem = f"cannot be written ({one_line(error)})"
        raise UserError("output", folder, problem, "Choose another --output folder") from error
