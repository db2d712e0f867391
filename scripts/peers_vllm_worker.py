"""Run by vLLM's own Python: continue prompts at one K, and read its counters."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

_COUNTER = "vllm:spec_decode_num_"


def main(asked: str, answer: str) -> None:
    from vllm import LLM, SamplingParams

    wanted = json.loads(Path(asked).read_text())
    speculation = None
    if wanted["k"]:
        speculation = {
            "method": "draft_model",
            "model": wanted["draft"],
            "num_speculative_tokens": wanted["k"],
        }
    engine: Any = LLM(
        model=wanted["target"],
        dtype="float32",
        max_model_len=512,
        max_num_seqs=1,
        speculative_config=speculation,
        disable_log_stats=False,
        enforce_eager=True,
        enable_prefix_caching=False,
    )
    settings = SamplingParams(temperature=0, max_tokens=wanted["num_tokens"], ignore_eos=True)
    outputs = engine.generate([{"prompt_token_ids": ids} for ids in wanted["prompts"]], settings)
    found: dict[str, Any] = {"texts": [list(output.outputs[0].token_ids) for output in outputs]}
    for metric in engine.get_metrics():
        if metric.name == f"{_COUNTER}drafts":
            found["steps"] = metric.value
        elif metric.name == f"{_COUNTER}accepted_tokens_per_pos":
            found["per_position"] = list(metric.values)
    Path(answer).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
