"""Exports before the parsers that read them: vLLM's (its build for CPUs) and llama.cpp's server, where
`scripts/peers` has made them."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from bitdraft.config import ModelConfig
from bitdraft.export import TARGETS
from bitdraft.export.setting import Setting
from bitdraft.inputs.checkpoints import DEMO_FOLDER, find_checkpoint
from bitdraft.inputs.gguf.files import gguf_of
from bitdraft.servers.launch import Declaration, NotStarted, launched

PEERS = Path(__file__).parents[2] / ".peers"
VLLM_PYTHON = PEERS / "vllm" / ".venv" / "bin" / "python"
LLAMA_SERVER = PEERS / "llama.cpp" / "build" / "bin" / "llama-server"
LENGTHS, RATES, BY_SIZE = {3: 2.85}, (0.8, 0.6, 0.45), {1: 3, 4: 2, 8: 0}

_PARSES = """
import sys
from vllm.engine.arg_utils import EngineArgs
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.v1.spec_decode.dynamic.utils import validate_and_normalize_dynamic_sd_schedule as check
target, *configs = sys.argv[1:]
parser = EngineArgs.add_cli_args(FlexibleArgumentParser())
for config in configs:
    words = ["--model", target, "--max-model-len", "512", "--speculative-config", config]
    found = EngineArgs.from_cli_args(parser.parse_args(words)).create_engine_config().speculative_config
    by_size = found.num_speculative_tokens_per_batch_size
    print("parsed", found.method, found.num_speculative_tokens, check(by_size) if by_size else "")
"""


@pytest.mark.skipif(not VLLM_PYTHON.exists(), reason="vLLM is not there: scripts/peers vllm")
def test_vllm_reads_what_is_exported() -> None:
    target, draft = (str(DEMO_FOLDER / name) for name in ("target", "draft-small"))
    settings = [
        Setting(target, draft, 3, LENGTHS, RATES, BY_SIZE),
        Setting(target, "ngram", 3, LENGTHS),
        Setting(target, draft, 3, LENGTHS),
    ]
    configs = [TARGETS["vllm-config"](one) for one in settings[:2]]
    configs += [TARGETS["synthetic-vllm"](one) for one in (settings[0], settings[2])]
    command = [str(VLLM_PYTHON), "-c", _PARSES, target, *configs]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    parsed = [line.rstrip() for line in found.stdout.splitlines() if line.startswith("parsed")]
    assert parsed == [
        "parsed draft_model 3 [(1, 3, 3), (4, 7, 2), (8, 8, 0)]",
        "parsed ngram 3",
        "parsed draft_model 3",
        "parsed draft_model 3",
    ], found.stderr
    wrong = json.loads(configs[2]) | {"synthetic_acceptance_rates": [0.8, 0.9, 0.45]}
    command = [str(VLLM_PYTHON), "-c", _PARSES, target, json.dumps(wrong)]
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


@pytest.mark.skipif(not LLAMA_SERVER.exists(), reason="llama-server is not there: scripts/peers llama-server")
def test_llama_server_starts_with_what_is_exported(tmp_path: Path) -> None:
    config = ModelConfig()
    target, draft = (
        str(gguf_of(find_checkpoint(ModelConfig(model=name)), "gguf-f32", config))
        for name in ("demo/target", "demo/draft-small")
    )
    settings = [
        (Setting(target, draft, 3, LENGTHS, RATES), "synthetic-llama-server"),
        (Setting(target, draft, 3, LENGTHS), "synthetic-llama-server"),
        (Setting(target, "ngram", 3, LENGTHS), None),
    ]
    for place, (setting, more) in enumerate(settings):
        words = shlex.split(TARGETS["llama-server"](setting))
        words += shlex.split(TARGETS[more](setting)) if more else []
        command = [str(LLAMA_SERVER), *words[1:], "--port", "{port}", "-c", "512"]
        with launched(Declaration(f"s{place}", command, ready="/health"), tmp_path):
            pass
    command += ["--spec-no-such-flag", "1"]
    with pytest.raises(NotStarted), launched(Declaration("wrong", command, ready="/health"), tmp_path):
        pass
