"""Token ids once: in files, runs that gave the baseline's text leave theirs out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def _known_texts(rows: Sequence[Any]) -> list[Sequence[int]]:
    """The baseline's token ids by prompt, from rows as JSON has them."""
    for row in rows:
        if isinstance(row, Mapping) and not row.get("k") and row.get("batch_size", 1) == 1:
            return [run["token_ids"] for run in row.get("runs", ()) if "token_ids" in run]
    return []


def _runs_by_prompt(row: Mapping[str, Any]) -> list[tuple[int, Any]]:
    runs = row.get("runs") or ()
    groups = row.get("groups") or [(index,) for index in range(len(runs))]
    return list(zip([index for group in groups for index in group], runs, strict=False))


def with_known_texts(data: Mapping[str, Any]) -> dict[str, Any]:
    """A result as files hold it, with the token ids that were left out."""
    rows = data.get("rows") or ()
    if not all(isinstance(row, Mapping) for row in rows):
        return dict(data)
    known = _known_texts(rows)
    restored = []
    for row in rows:
        runs = [
            {"token_ids": known[index], **run} if isinstance(run, Mapping) and index < len(known) else run
            for index, run in _runs_by_prompt(row)
        ]
        restored.append({**row, "runs": runs} if runs else row)
    return {**data, "rows": restored}


def without_known_texts(rows: Sequence[dict[str, Any]]) -> None:
    """Drop them from rows, in place."""
    known = _known_texts(rows)
    for row in rows:
        if not row["k"] and row["batch_size"] == 1:
            continue
        for index, run in _runs_by_prompt(row):
            if index < len(known) and list(run["token_ids"]) == list(known[index]):
                del run["token_ids"]
