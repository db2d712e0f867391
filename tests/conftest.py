from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

# Tiny models gain nothing from a second thread, and on a busy machine threads that wait for one
# another cost milliseconds an operation. Set before torch is imported; children inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# which products are fastest is timed once for all tests, and not kept for the user
_CACHE = tempfile.TemporaryDirectory()
os.environ["BITDRAFT_CACHE"] = _CACHE.name

import torch

from tiny import save_checkpoint, tiny_model

DATA_ROOT = Path(os.environ.get("BITDRAFT_DATA_ROOT", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reaches a real hub or the user's cache."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf-home" / "hub"))
    monkeypatch.delenv("BITDRAFT_DATA_ROOT", raising=False)


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GPT-NeoX checkpoint with its tokenizer."""
    return save_checkpoint(tmp_path_factory.mktemp("tiny"), tiny_model())


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "story.txt"
    lines = [f"the cat and the hen number {i} sat in the barn and heard the rain\n" for i in range(120)]
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="session")
def data_root() -> Path:
    if not (DATA_ROOT / "wikitext-2-raw-v1" / "test.txt").exists():
        pytest.skip("no evaluation text: set BITDRAFT_DATA_ROOT to a folder laid out as the README shows")
    return DATA_ROOT
