"""vLLM reads the command that `recommend` gives. Not yet run: where vLLM is not installed this is skipped."""

from __future__ import annotations

import importlib
import shlex
from typing import Any

import pytest

from bitdraft.recommend.snippets import Setting, vllm_command

pytest.importorskip("vllm", reason="vLLM is not installed")


def parser() -> Any:
    for module in ("vllm.utils.argparse_utils", "vllm.utils"):  # where it is, and where it was
        try:
            flexible: Any = importlib.import_module(module).FlexibleArgumentParser
        except (ImportError, AttributeError):
            continue
        make: Any = importlib.import_module("vllm.entrypoints.openai.cli_args").make_arg_parser
        return make(flexible())
    raise AssertionError("vLLM's parser has moved")


@pytest.mark.parametrize(
    ("draft", "k", "expected"),
    [
        (None, 0, None),
        ("ngram", 8, {"method": "ngram", "num_speculative_tokens": 8}),
        ("org/d", 3, {"method": "draft_model", "model": "org/d", "num_speculative_tokens": 3}),
    ],
)
def test_vllm_reads_its_command(draft: str | None, k: int, expected: dict[str, Any] | None) -> None:
    setting = Setting("org/t", "org/t", "bf16", draft=draft, own_draft=draft, k=k)
    program, verb, *arguments = shlex.split(vllm_command(setting), comments=True)
    assert (program, verb) == ("vllm", "serve")
    found = parser().parse_args(arguments)
    assert (found.model_tag, found.dtype) == ("org/t", "bfloat16")
    if expected is None:
        assert not found.speculative_config
    else:
        assert found.speculative_config.items() >= expected.items()
