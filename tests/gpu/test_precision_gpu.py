"""The precision module on a CUDA device."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import bitdraft
from bitdraft.backends import ENGINES, make_engine
from bitdraft.backends.base import EngineSetup
from bitdraft.config import DecodingConfig
from bitdraft.probes.memory import peak_memory_bytes
from tiny import CONFIGS, tiny_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("kind", CONFIGS)
def test_native_equals_generate_on_cuda(kind: str) -> None:
    model = tiny_model(kind).to("cuda")
    prompt, config = list(range(5, 45)), DecodingConfig(max_new_tokens=20)
    runs = {name: make_engine(name, EngineSetup(model)).generate(prompt, config) for name in ENGINES}
    assert runs["native"].token_ids == runs["transformers"].token_ids


def test_peak_vram_is_the_allocators_peak() -> None:
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    block = torch.empty(2**28, dtype=torch.uint8, device="cuda")
    del block
    assert peak_memory_bytes(torch.device("cuda:0"))["peak_vram"] >= before + 2**28


def test_a_run_reports_vram(checkpoint: Path, text_file: Path, tmp_path: Path) -> None:
    result = bitdraft.evaluate_precision(
        model=str(checkpoint),
        dataset=f"file:{text_file}",
        num_prompts=3,
        max_prompt_tokens=24,
        max_new_tokens=16,
        device="cuda",
        precisions=("fp32", "bf16"),
        rounds=1,
        output=tmp_path,
    )
    assert [row.status for row in result.rows] == ["ok"] * 2
    assert all(row.metrics["peak_vram_gb"].value > 0 for row in result.rows)
    assert result.environment.gpu is not None
