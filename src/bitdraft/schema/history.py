"""The versions of result files, and how older ones are read.

1. The first version, of the kinds "precision" and "spec_decode".
2. spec_decode: `batches`, the rows of batch sizes above 1.
3. A third kind, "recommendation".
4. Requests are `runs` of their row instead of records inside `raw`. A batch size is a column of a row, and
   the baseline (K = 0) a row like the others, without a draft. Conclusions are `findings` (code, subject,
   figures, and the sentence beside them) instead of sentences alone.

`migrate` brings the JSON of versions 1 to 3 into the form of version 4. Their conclusions are sentences
alone: they become findings of the code `earlier.text`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SCHEMA_VERSION = 4
_NO_DRAFT = "–"

Data = dict[str, Any]


def migrate(data: Data) -> Data:
    """A result's JSON of any version as version 4's; what is damaged stays so, for validation to name."""
    version = data.get("schema_version", 1)
    if not isinstance(version, int) or version >= SCHEMA_VERSION:
        return data
    found = dict(data)
    verdict = dict(found.pop("verdict", None) or {})
    findings = [_said("answer", verdict.pop("summary", ""))]
    findings += [_said("reason", text) for text in verdict.pop("reasons", ())]
    findings += [_said("warning", text) for text in found.pop("warnings", ())]
    findings += [_said("skipped", text) for text in found.pop("skipped", ())]
    found |= {"schema_version": SCHEMA_VERSION, "findings": [one for one in findings if one["text"]]}
    kind = found.get("kind")
    if kind == "recommendation":
        found["contenders"] = [_contender(row) for row in found.get("contenders", ())]
        return found
    found["verdict"] = verdict
    if kind == "precision":
        found["rows"] = [_precision_row(row) for row in found.get("rows", ())]
    elif kind == "spec_decode":
        _sweep_rows(found)
    return found


def _said(severity: str, text: object) -> Data:
    return {"code": "earlier.text", "severity": severity, "text": str(text)}


def _precision_row(row: Mapping[str, Any]) -> Data:
    raw = dict(row.get("raw") or {})
    return {**row, "runs": raw.pop("generations", []), "raw": raw}


def _sweep_rows(found: Data) -> None:
    """The baseline first, then every (draft, K), then larger batches."""
    baseline = found.pop("baseline", None) or {}
    backend = found.get("config", {}).get("backend", "native")
    rows: list[Data] = []
    if baseline:
        runs = baseline.get("raw", {}).get("generations", [])
        own = {"draft": None, "k": 0, "backend": backend, "status": "ok"}
        rows.append({**own, "metrics": baseline.get("metrics", {}), "runs": runs})
    for row in found.get("rows", ()):
        kept = {name: value for name, value in row.items() if name != "raw"}
        raw = row.get("raw") or {}
        rows.append({**kept, "runs": raw.get("generations", []), "detail": raw.get("detail")})
    for row in found.pop("batches", ()):
        kept = {name: value for name, value in row.items() if name != "raw"}
        groups = (row.get("raw") or {}).get("groups", [])
        kept |= {
            "draft": None if row.get("draft") == _NO_DRAFT else row.get("draft"),
            "backend": backend,
            "groups": [group["prompts"] for group in groups],
            "runs": [run for group in groups for run in group["generations"]],
        }
        rows.append(kept)
    found["rows"] = rows


def _contender(row: Mapping[str, Any]) -> Data:
    kept = {name: value for name, value in row.items() if name != "reason"}
    if row.get("draft") == _NO_DRAFT:
        kept["draft"] = None
    problem = row.get("reason")
    return {**kept, "problems": [_said("reason", problem)] if problem else []}
