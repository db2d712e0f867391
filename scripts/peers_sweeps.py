"""Sweeps over engines as people deploy them, one command each: `bitdraft spec-decode demo/target --draft
demo/draft-medium --k 1-8 --backend llama-server` and `… --backend vllm`. What an engine counted at every K is
beside what our own models replay of that draft on its texts: steps one by one, and acceptance by position.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import bitdraft
import peers_llama_cpp
import peers_vllm
from bitdraft.schema.spec_decode import SpecDecodeResult, SpecDecodeRow
from peers_common import TARGET, Agreement

DRAFT, LABEL = "demo/draft-medium", "draft-medium"
KS = tuple(range(1, 9))
SETTINGS: dict[str, Any] = {
    "drafts": (DRAFT,),
    "k": KS,
    "num_prompts": 12,
    "max_new_tokens": 96,
    "max_prompt_tokens": 96,
    "device": "cpu",
}
NEAR = 1e-9


def install() -> None:
    """Both engines."""
    peers_llama_cpp.install()
    peers_vllm.install()


def version() -> str:
    return f"Sweeps over llama-server ({peers_llama_cpp.PACKAGE}) and {peers_vllm.version()}"


def agree() -> list[Agreement]:
    engines: dict[Any, dict[str, Any]] = {
        "llama-server": {"engine_program": peers_llama_cpp.tool("llama-server"), "threads": 2},
        "vllm": {"engine_program": peers_vllm.PYTHON, "engine_args": "--enforce-eager"},
    }
    found = []
    for name, more in engines.items():
        with tempfile.TemporaryDirectory() as folder:
            swept: Any = bitdraft.evaluate_spec_decode(
                TARGET, backend=name, output=Path(folder), **SETTINGS, **more
            )
        found += [_of_row(name, swept, row) for row in swept.rows if row.k]
        found.append(_texts(name, swept))
    return found


def _of_row(name: str, result: SpecDecodeResult, row: SpecDecodeRow) -> Agreement:
    """Runs whose steps are the replay's, and how far acceptance by position is from it at most."""
    check, replayed = row.replay_check, result.replay[LABEL][row.k]
    measured = row.metrics["tokens_per_step"].value
    assert check is not None
    pairs = zip(row.acceptance_by_position, replayed.acceptance_by_position, strict=True)
    apart = max(abs((one.share or 0) - (other.share or 0)) for one, other in pairs)
    lost = len(result.text.prompt_ids) - (check.num_identical or 0)
    return Agreement(
        f"{name}, K = {row.k}: steps, and acceptance by position",
        f"{replayed.tokens_per_step:.4f} tokens a step",
        f"{measured:.4f}, {check.num_identical} of {check.num_compared} runs the same",
        max(float(lost), apart if apart > NEAR else 0.0),
        allowed="near-ties",
    )


def _texts(name: str, result: SpecDecodeResult) -> Agreement:
    checks = [row.lossless for row in result.rows if row.lossless is not None]
    total, same = sum(one.num_prompts for one in checks), sum(one.identical for one in checks)
    left = sum(one.num_unexplained for one in checks)
    shown = f"{total} runs", f"{same} the same"
    return Agreement(f"{name}: texts of plain decoding", *shown, float(left), allowed="near-ties")
