"""Records and results, and their JSON: the border between measuring and showing.

Schema history:
  1  first version (kinds "precision" and "spec_decode")
  2  spec_decode: `batches`, the rows of batch sizes above 1; without them, version 1 is read as it was
  3  a third kind, "recommendation"; the other two are read as they were
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from bitdraft.errors import UserError, one_line

SCHEMA_VERSION = 3

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


class Divergence(Record):
    """Where a greedy run left the text of K = 0. `logit_gap` is the target's between its two most
    probable tokens there. `control`: does the same pair of runs agree at `control_precision`? If so
    the difference is a `rounding tie`, else a `bug`; without a control it is `unchecked`."""

    prompt: int
    position: int
    expected: int
    found: int
    logit_gap: float | None = None
    control_precision: str | None = None
    control_agrees: bool | None = None

    @property
    def kind(self) -> str:
        if self.control_agrees is None:
            return "unchecked"
        return "rounding tie" if self.control_agrees else "bug"


class SpecDecodeRow(Record):
    """One draft at one K. `lossless` is None for sampling, `predicted` where nothing was predicted."""

    draft: str
    k: int
    backend: str
    status: Status
    reason: str | None = None
    metrics: dict[str, Figure] = {}
    acceptance_by_position: list[dict[str, Any]] = []
    realised_k: dict[str, int] = {}
    num_truncated_steps: int = 0
    lossless: dict[str, Any] | None = None
    replay_check: dict[str, Any] | None = None
    predicted: dict[str, Any] = {}
    raw: dict[str, Any] = {}


class BatchRow(Record):
    """One draft at one K with `batch_size` prompts decoded at once; K = 0 has the draft `–`. `lossless` is
    None for sampling."""

    batch_size: int
    draft: str
    k: int
    status: Status
    reason: str | None = None
    metrics: dict[str, Figure] = {}
    lossless: dict[str, Any] | None = None
    raw: dict[str, Any] = {}


class SpecDecodeResult(Record):
    """`replay` and `costs` are by draft; `plan` results have no rows and a best K for each draft; `batches`
    are the rows of batch sizes above 1."""

    schema_version: int = SCHEMA_VERSION
    kind: Literal["spec_decode"] = "spec_decode"
    config: dict[str, Any]
    environment: dict[str, Any]
    model: dict[str, Any]
    drafts: dict[str, Any]
    text: dict[str, Any]
    baseline: dict[str, Any] = {}
    rows: tuple[SpecDecodeRow, ...] = ()
    batches: tuple[BatchRow, ...] = ()
    replay: dict[str, dict[str, Any]] = {}
    costs: dict[str, Any] = {}
    plan: dict[str, Any] = {}
    verdict: dict[str, Any] = {}
    warnings: tuple[str, ...] = ()


class Contender(Record):
    """One way to run the model: a precision, and a draft at a K (`–` and 0 for plain decoding). Figures
    are None where it was only predicted (`predicted_speedup`, over plain decoding at this precision).
    `standing`: `chosen`; `indistinguishable` from it in speed; `slower`; `predicted`, not measured; `out`,
    which `reason` explains. `is_pareto`: none is better in one of speed, quality and memory and no worse in
    the others, by value."""

    precision: str
    draft: str
    k: int
    draft_precision: str | None = None
    standing: Literal["chosen", "indistinguishable", "slower", "predicted", "out"]
    reason: str | None = None
    throughput_tok_s: Figure | None = None
    speedup: Figure | None = None
    predicted_speedup: float | None = None
    ttft_ms: Figure | None = None
    peak_memory_gb: float | None = None
    ppl_change: Figure | None = None
    is_pareto: bool = False


class Recommendation(Record):
    """What to deploy. `choice`: `precision`, `speculate` (None where unknown), `draft`, `k`,
    `draft_precision`; `verdict`: `summary` and `reasons`; `limits` are those that were set, by name;
    `stages` what was done, each with `stage`, `what`, `seconds`; `skipped` what was not, and why; `snippets`
    ready to run, by `transformers`, `vllm`, `native`. `memory_name` is `peak_vram_gb` or `peak_ram_gb`."""

    schema_version: int = SCHEMA_VERSION
    kind: Literal["recommendation"] = "recommendation"
    config: dict[str, Any]
    environment: dict[str, Any] = {}
    model: dict[str, Any] = {}
    text: dict[str, Any] = {}
    choice: dict[str, Any] = {}
    verdict: dict[str, Any] = {}
    limits: dict[str, float] = {}
    memory_name: str = "peak_ram_gb"
    contenders: tuple[Contender, ...] = ()
    stages: tuple[dict[str, Any], ...] = ()
    skipped: tuple[str, ...] = ()
    snippets: dict[str, str] = {}
    warnings: tuple[str, ...] = ()


def to_json(record: BaseModel) -> str:
    """Indented JSON; a list of plain numbers takes one line."""
    text = json.dumps(record.model_dump(mode="json"), indent=1, allow_nan=False, ensure_ascii=False)
    # a line break cannot stand inside a JSON string, so only the layout is touched
    return (
        re.sub(r"\[\n[^\[\]{}\"]*\]", lambda found: "[" + " ".join(found[0][1:-1].split()) + "]", text) + "\n"
    )


_AnyResult = TypeVar("_AnyResult", PrecisionResult, SpecDecodeResult, Recommendation)


def load_result(path: Path, kind: type[_AnyResult]) -> _AnyResult:
    """Read a result file; a foreign, damaged or newer file is a `UserError`."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        version = data.get("schema_version") if isinstance(data, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            problem = f"schema version {version} is newer than {SCHEMA_VERSION}"
            raise UserError("result", path, problem, "Update bitdraft")
        return kind.model_validate(data)
    except OSError as error:
        raise UserError("result", path, one_line(error), f"Name a folder that holds {path.name}") from error
    except (ValueError, ValidationError) as error:
        what = kind.model_fields["kind"].default.replace("_", "-")
        problem = f"not a {what} result ({_first_problem(error)})"
        raise UserError("result", path, problem, "Measure again or name another folder") from error


def _first_problem(error: ValueError) -> str:
    """`rows.0.status: Field required (and 2 more)`; of what isn't JSON, the parser's words."""
    if not isinstance(error, ValidationError):
        return one_line(error)
    first, *others = error.errors()
    where = ".".join(map(str, first["loc"]))
    more = f" (and {len(others)} more)" if others else ""
    return f"{where}: {first['msg']}{more}" if where else f"{first['msg']}{more}"


def result_files(folder: Path, pattern: str) -> list[Path]:
    """Files of this name at any depth, hidden folders apart, in order of their paths."""
    found = sorted(folder.rglob(pattern))
    return [file for file in found if not any(p.startswith(".") for p in file.relative_to(folder).parts)]


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
