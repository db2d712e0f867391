"""Records and results, and their JSON: the border between measuring and showing.

Schema history:
  1  first version (kind "precision")
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from bitdraft.errors import UserError, one_line

SCHEMA_VERSION = 1

Status = Literal["ok", "overflow", "oom", "unsupported", "failed"]


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Figure(Record):
    """A number with its 95 % interval (absent below five items), item count and item median."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int = 1
    median: float | None = None


class Step(NamedTuple):
    """One target verification of a speculative run. `truncated`: the request's end cut it short."""

    num_drafted: int
    num_accepted: int
    truncated: bool = False


class Generation(Record):
    """One request. Times are seconds of one monotonic clock; `emissions` are (time_s, num_tokens),
    one entry each time token ids reach the host. `phase_s` divides the time after the prefill of a
    speculative run into draft, verify and host."""

    prompt_tokens: int
    submit_s: float
    emissions: tuple[tuple[float, int], ...]
    steps: tuple[Step, ...] = ()
    phase_s: dict[str, float] = {}
    token_ids: tuple[int, ...]
    finish_reason: Literal["length", "eos"]


class ScoreBlocks(Record):
    """Sums over blocks of consecutive scored tokens (a document each where the normaliser is
    documents). The last three are paired with the reference precision, absent for itself."""

    num_tokens: tuple[int, ...]
    log_prob: tuple[float, ...]
    reference_log_prob: tuple[float, ...] | None = None
    num_same_top1: tuple[int, ...] | None = None
    delta_p_squared: tuple[float, ...] | None = None


class Overflow(Record):
    """Where the first non-finite number appeared: the module in execution order, the token position."""

    layer: str
    window: int
    position: int


class PrecisionRow(Record):
    precision: str
    status: Status
    reason: str | None = None
    metrics: dict[str, Figure] = {}
    quality: dict[str, Any] = {}
    raw: dict[str, Any] = {}


class PrecisionResult(Record):
    schema_version: int = SCHEMA_VERSION
    kind: Literal["precision"] = "precision"
    config: dict[str, Any]
    environment: dict[str, Any]
    model: dict[str, Any]
    text: dict[str, Any]
    rows: tuple[PrecisionRow, ...]
    verdict: dict[str, Any] = {}
    warnings: tuple[str, ...] = ()


def to_json(record: BaseModel) -> str:
    return json.dumps(record.model_dump(mode="json"), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def load_precision_result(path: Path) -> PrecisionResult:
    """Read a result file; a foreign, damaged or newer file is a `UserError`."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        version = data.get("schema_version") if isinstance(data, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            problem = f"schema version {version} is newer than {SCHEMA_VERSION}"
            raise UserError("result", path, problem, "Update bitdraft")
        return PrecisionResult.model_validate(data)
    except OSError as error:
        raise UserError("result", path, one_line(error), "Name a folder that holds precision.json") from error
    except (ValueError, ValidationError) as error:
        problem = f"not a precision result ({one_line(error)})"
        raise UserError("result", path, problem, "Measure again or name another folder") from error


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
