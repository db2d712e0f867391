"""A setting in each engine's and planner's own words. Pure.

Facts, with the versions that they are of: docs/export.md. A step's length counts the target's own token in
vLLM, llama.cpp, SGLang and InferenceX, and does not in TensorRT-LLM and AIConfigurator.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from bitdraft.errors import UserError
from bitdraft.export.setting import Setting, is_file

# those of bitdraft's own prompt lookup
LONGEST_NGRAM, SHORTEST_NGRAM = 4, 2
_DIGITS = 4


def vllm_config(setting: Setting) -> dict[str, Any]:
    """`--speculative-config` of vLLM. With a schedule K by batch size, as inclusive ranges; behind the last
    one its K goes on."""
    found: dict[str, Any] = {"method": "draft_model", "model": setting.draft}
    if setting.is_lookup:
        found = {"method": "ngram", "prompt_lookup_max": LONGEST_NGRAM, "prompt_lookup_min": SHORTEST_NGRAM}
    found["num_speculative_tokens"] = setting.k
    if setting.by_batch_size:
        ranges = ranges_of(setting.by_batch_size)
        found["num_speculative_tokens_per_batch_size"] = [list(one) for one in ranges]
    return found


def ranges_of(by_batch_size: Mapping[int, int]) -> list[tuple[int, int, int]]:
    """(first, last, K) from batch size 1 to the largest that was measured; sizes of the same K together. A
    size that lies between two has the smaller one's K."""
    found: list[tuple[int, int, int]] = []
    sizes = sorted(by_batch_size)
    for place, size in enumerate(sizes):
        last = sizes[place + 1] - 1 if place + 1 < len(sizes) else size
        if found and found[-1][2] == by_batch_size[size]:
            found[-1] = (found[-1][0], last, found[-1][2])
        else:
            found.append((size if found else 1, last, by_batch_size[size]))
    return found


def vllm(setting: Setting) -> str:
    """`vllm serve`."""
    config = json.dumps(vllm_config(setting))
    return shlex.join(["vllm", "serve", setting.target, "--speculative-config", config])


def llama_server(setting: Setting) -> str:
    """`llama-server` with a K that is K."""
    words = ["llama-server", "-m", _gguf(setting.target)]
    if setting.is_lookup:
        words += ["--spec-type", "ngram-simple", "--spec-ngram-simple-size-n", str(LONGEST_NGRAM)]
        words += ["--spec-ngram-simple-size-m", str(setting.k)]
    else:
        words += ["-md", _gguf(setting.draft), "--spec-type", "draft-simple"]
        words += ["--spec-draft-n-max", str(setting.k), "--spec-draft-n-min", "0", "--spec-draft-p-min", "0"]
    return shlex.join(words)


def _gguf(name: str) -> str:
    """A file of this model."""
    return name if is_file(name) else f"{name.rstrip('/').rsplit('/', 1)[-1]}.gguf"


def sglang(setting: Setting) -> str:
    """`sglang.launch_server`: K steps of one branch, and a place for the token before them."""
    words = ["python", "-m", "sglang.launch_server", "--model-path", setting.target]
    if setting.is_lookup:
        words += ["--speculative-algorithm", "NGRAM", "--speculative-ngram-max-bfs-breadth", "1"]
    else:
        words += ["--speculative-algorithm", "STANDALONE", "--speculative-draft-model-path", setting.draft]
        words += ["--speculative-num-steps", str(setting.k), "--speculative-eagle-topk", "1"]
    return shlex.join([*words, "--speculative-num-draft-tokens", str(setting.k + 1)])


def tensorrt_llm(setting: Setting) -> str:
    """A part of the file that `trtllm-serve --config` reads. K by batch size ends at the last size that was
    measured; it takes one only where K is largest at the smallest."""
    lines = ["speculative_config:"]
    if setting.is_lookup:
        lines += ["  decoding_type: NGram", f"  max_matching_ngram_size: {LONGEST_NGRAM}"]
    else:
        lines += ["  decoding_type: Draft_Target", f"  speculative_model: {json.dumps(setting.draft)}"]
    lines.append(f"  max_draft_len: {setting.k}")
    ranges = ranges_of(setting.by_batch_size)
    if ranges and not setting.is_lookup and ranges[0][2] == setting.k:
        pairs = [f"{last}: {k}" for _, last, k in ranges]
        lines.append(f"  draft_len_schedule: {{{', '.join(pairs)}}}")
    return "\n".join(lines)


def aiconfigurator(setting: Setting) -> str:
    """Words for `aiconfigurator cli`, from 0.11: drafted tokens, and how many of them a step keeps."""
    return f"--nextn {setting.k} --nextn-accepted {_short(setting.length - 1)}"


def aiconfigurator_until_0_10(setting: Setting) -> str:
    """The same of 0.8 to 0.10, which asks for the share of each token among those that kept the one
    before; of five."""
    shown, before = [], 1.0
    for rate in (*_rates(setting, "aiconfigurator-0.10")[:5], *[0.0] * 5)[:5]:
        shown.append(rate / before if before else 0.0)
        before = rate
    return f"--nextn {min(setting.k, 5)} --nextn-accept-rates {','.join(_short(one) for one in shown)}"


def inferencex(setting: Setting, mode: str = "thinking_off") -> str:
    """A file of golden acceptance lengths, as InferenceX keeps them: every K that is known, up to 8."""
    name = setting.target.rstrip("/").rsplit("/", 1)[-1].lower()
    lines = [f"# {setting.draft}: {setting.measured}", f"{name}:", f"  {mode}:"]
    lines += [f"    {k}: {length:.2f}" for k, length in sorted(setting.tokens_per_step.items()) if k <= 8]
    return "\n".join(lines)


def synthetic_vllm(setting: Setting) -> str:
    """`--speculative-config` that makes vLLM accept as was measured: by position where that is known."""
    found = {key: value for key, value in vllm_config(setting).items() if not key.endswith("per_batch_size")}
    found["rejection_sample_method"] = "synthetic"
    if setting.rates:
        found["synthetic_acceptance_rates"] = [round(rate, _DIGITS) for rate in setting.rates]
    else:
        found["synthetic_acceptance_length"] = round(setting.length, _DIGITS)
    return json.dumps(found)


def synthetic_llama_server(setting: Setting) -> str:
    """Words behind those of `llama-server`."""
    if setting.rates:
        return f"--spec-synth-rates {','.join(_short(rate) for rate in setting.rates)}"
    return f"--spec-synth-len {_short(setting.length)}"


def synthetic_sglang(setting: Setting) -> str:
    """Variables of the environment; the mean is kept, the distribution is not."""
    return (
        f"SGLANG_SIMULATE_ACC_LEN={_short(setting.length)} SGLANG_SIMULATE_ACC_METHOD=match-expected "
        "SGLANG_SIMULATE_ACC_TOKEN_MODE=real-draft-token"
    )


def synthetic_tensorrt_llm(setting: Setting) -> str:
    """A variable of the environment: drafted tokens alone. Where nothing is kept it can't be forced."""
    if setting.length - 1 < 10**-_DIGITS:
        problem = "TensorRT-LLM takes no acceptance of nothing (0 switches it off)"
        raise UserError("to", "synthetic-tensorrt-llm", problem, "Export another engine's")
    return f"TLLM_SPEC_DECODE_FORCE_NUM_ACCEPTED_TOKENS={_short(setting.length - 1)}"


def _rates(setting: Setting, target: str) -> tuple[float, ...]:
    if not setting.rates:
        problem = "needs acceptance by position, which is not known here"
        raise UserError("to", target, problem, "Export from a sweep or plan of bitdraft's own")
    return setting.rates


def _short(value: float) -> str:
    return f"{round(value, _DIGITS):g}"


TARGETS: Mapping[str, Callable[[Setting], str]] = {
    "vllm": vllm,
    "vllm-config": lambda setting: json.dumps(vllm_config(setting)),
    "llama-server": llama_server,
    "sglang": sglang,
    "tensorrt-llm": tensorrt_llm,
    "aiconfigurator": aiconfigurator,
    "aiconfigurator-0.10": aiconfigurator_until_0_10,
    "inferencex": inferencex,
    "synthetic-vllm": synthetic_vllm,
    "synthetic-llama-server": synthetic_llama_server,
    "synthetic-sglang": synthetic_sglang,
    "synthetic-tensorrt-llm": synthetic_tensorrt_llm,
}
"""By what `--to` calls them"""
