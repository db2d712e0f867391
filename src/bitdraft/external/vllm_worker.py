"""Run by vLLM's own Python, which has no bitdraft: an engine that takes one request after another, a JSON
line each, and answers with one. The first says what the engine is made of. Its own output goes to standard
error."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any


def main() -> None:
    sys.path.pop(0)  # this folder, whose names are not vLLM's
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    engine = None
    for line in sys.stdin:
        wanted = json.loads(line)
        try:
            if engine is None:
                engine = _engine(wanted["words"])
                found = {"version": _version()}
            elif "num_log_probs" in wanted:
                found = _log_probs(engine, wanted)
            else:
                found = _generate(engine, wanted)
        except Exception as error:
            import traceback

            traceback.print_exc()
            lines = f"{type(error).__name__}: {error}".splitlines()
            found = {"error": " ".join(line.strip() for line in lines)[:400]}
        answers.write(json.dumps(found) + "\n")
        answers.flush()
        if "error" in found:
            break


def _version() -> str:
    import vllm

    return str(vllm.__version__)


def _engine(words: list[str]) -> Any:
    from vllm.engine.arg_utils import EngineArgs
    from vllm.utils.argparse_utils import FlexibleArgumentParser
    from vllm.v1.engine.llm_engine import LLMEngine

    parser = EngineArgs.add_cli_args(FlexibleArgumentParser())
    return LLMEngine.from_engine_args(EngineArgs.from_cli_args(parser.parse_args(words)))


def _run(engine: Any, prompt: list[int], settings: Any) -> tuple[float, list[tuple[float, Any]]]:
    """When a request was handed over, and each answer of its steps with its time."""
    from vllm.inputs import TokensPrompt

    submit_s = time.perf_counter()
    engine.add_request("0", TokensPrompt(prompt_token_ids=prompt), settings)
    found = []
    while engine.has_unfinished_requests():
        for output in engine.step():
            found.append((time.perf_counter(), output.outputs[0]))
    return submit_s, found


def _generate(engine: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    settings = SamplingParams(**wanted["sampling"], detokenize=False, output_kind=RequestOutputKind.DELTA)
    submit_s, found = _run(engine, wanted["prompt"], settings)
    told = getattr(found[-1][1], "spec_decode_metrics", None)
    counts = None if told is None else list(zip(told.per_step_drafted, told.per_step_accepted, strict=True))
    return {
        "submit_s": submit_s,
        "emissions": [(time_s, list(one.token_ids)) for time_s, one in found if one.token_ids],
        "counts": counts,
        "finish_reason": found[-1][1].finish_reason,
    }


def _log_probs(engine: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    from vllm import SamplingParams

    settings = SamplingParams(max_tokens=1, temperature=0.0, logprobs=wanted["num_log_probs"])
    _, found = _run(engine, wanted["prompt"], settings)
    return {"log_probs": {token: one.logprob for token, one in found[-1][1].logprobs[0].items()}}


if __name__ == "__main__":
    main()
