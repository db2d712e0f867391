"""Damaged inputs of every kind are taken or refused by one line: no other exception, no hang, no half a file.
`scripts/fuzz` runs the same with many more of them."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from bitdraft.api import compare_results
from bitdraft.config import PrecisionConfig, RecommendConfig, SpecDecodeConfig, make_config
from bitdraft.engine.check import check_model
from bitdraft.engine.runner import Runner
from bitdraft.inputs.models import load_model
from bitdraft.inputs.variants import Variant
from bitdraft.matrix.read import read_matrix
from bitdraft.precision.evaluate import prepare
from bitdraft.present.page.page import make_report
from bitdraft.schema.io import load_result, to_json
from earlier import earlier_files
from fuzzing import ENDINGS, ODD_VALUES, damaged, damaged_bytes, holds
from tiny import save_checkpoint, tiny_model

NUM_INPUTS = int(os.environ.get("BITDRAFT_FUZZ_INPUTS", "12"))  # of each kind

many = settings(
    max_examples=NUM_INPUTS,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
STORY = "".join(f"the cat and the hen number {i} sat in the barn and heard the rain\n" for i in range(60))
SMALL = {
    "num_prompts": 2,
    "max_prompt_tokens": 16,
    "max_new_tokens": 4,
    "min_text_chars": 20,
    "device": "cpu",
    "precisions": ("fp32",),
    "ppl_max_tokens": 60,
}


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model in a file, one in shards, and a text."""
    root = tmp_path_factory.mktemp("whole")
    save_checkpoint(root / "model", tiny_model("llama"))
    save_checkpoint(root / "sharded", tiny_model("gpt_neox"))
    tiny_model("gpt_neox").save_pretrained(root / "sharded", max_shard_size="80KB")
    (root / "sharded" / "model.safetensors").unlink(missing_ok=True)
    (root / "story.txt").write_text(STORY)
    return root


def a_copy(folder: Path, root: str) -> Path:
    """Of links, but for what a test writes anew."""
    copy = Path(root) / folder.name
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).symlink_to(path)
    return copy


def put(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def as_bytes(data: Any) -> bytes:
    return json.dumps(data).encode()


def admit(model: Path, **changes: Any) -> None:
    """All that stands between a command and the first measurement."""
    values = {**SMALL, "model": str(model), "dataset": f"file:{model.parent / 'story.txt'}", **changes}
    config = make_config(PrecisionConfig, values)
    ready = prepare(config)
    try:
        loaded = load_model(Variant(ready.checkpoint, "fp32"), torch.device("cpu"), config)
        check_model(Runner(loaded.model), ready.prompts[0].token_ids, ready.checkpoint.label)
    except (MemoryError, RuntimeError, NotImplementedError):
        ENDINGS["of these, a failed row that says why"] += 1


def admit_damaged(whole: Path, kind: str, name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as root:
        (Path(root) / "story.txt").write_text(STORY)
        copy = a_copy(whole / kind, root)
        put(copy / name, content)
        holds(lambda: admit(copy))


_JSON_FILES = [
    ("model", "config.json"),
    ("model", "generation_config.json"),
    ("model", "tokenizer.json"),
    ("model", "tokenizer_config.json"),
    ("sharded", "model.safetensors.index.json"),
]


@pytest.mark.parametrize(("kind", "name"), _JSON_FILES)
@many
@given(data=st.data())
def test_json_of_a_checkpoint(kind: str, name: str, whole: Path, data: DataObject) -> None:
    content = json.loads((whole / kind / name).read_text())
    admit_damaged(whole, kind, name, as_bytes(data.draw(damaged(content))))


@pytest.mark.parametrize(("kind", "name"), [*_JSON_FILES, ("model", "model.safetensors")])
@many
@given(data=st.data())
def test_bytes_of_a_checkpoint(kind: str, name: str, whole: Path, data: DataObject) -> None:
    content = (whole / kind / name).read_bytes()
    admit_damaged(whole, kind, name, data.draw(damaged_bytes(content)))


@many
@given(data=st.data())
def test_headers_of_weights(whole: Path, data: DataObject) -> None:
    """The JSON in front of the numbers, its length being right."""
    content = (whole / "model" / "model.safetensors").read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = as_bytes(data.draw(damaged(json.loads(content[8 : 8 + size]))))
    changed = len(header).to_bytes(8, "little") + header + content[8 + size :]
    admit_damaged(whole, "model", "model.safetensors", changed)


_ROWS = [
    {"id": 1, "prompt": "what did the cat see in the barn?", "category": "a"},
    {"question_id": 2, "turns": ["the hen and the rain", "go on"]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "the cat and the hen"}]}]},
    {"conversations": [{"from": "human", "value": "and the rain in the barn"}]},
    {"body": {"messages": [{"role": "user", "content": "the cat"}]}},
]
_QUESTIONS = [
    {"question_id": number, "category": "ab"[number % 2], "turns": ["the cat and the hen", "go on"]}
    for number in range(4)
]


def _files_of_prompts() -> dict[str, bytes]:
    lines = "".join(json.dumps(row) + "\n" for row in _ROWS).encode()
    table = b"id,prompt\r\n" + b'1,"the cat, and\nthe hen"\r\n' * 4
    return {
        "a.jsonl": lines,
        "a.json": json.dumps({"data": _ROWS}).encode(),
        "a.csv": table,
        "a.tsv": table.replace(b",", b"\t"),
        "a.jsonl.gz": gzip.compress(lines),
        "a.txt": STORY.encode(),
        "a.txt.gz": gzip.compress(STORY.encode()),
        "a.parquet": b"PAR1" + bytes(40) + b"PAR1",
    }


@pytest.mark.parametrize("name", _files_of_prompts())
@many
@given(data=st.data())
def test_bytes_of_texts_and_prompts(name: str, whole: Path, data: DataObject) -> None:
    with tempfile.TemporaryDirectory() as root:
        path = Path(root) / name
        path.write_bytes(data.draw(damaged_bytes(_files_of_prompts()[name])))
        config = make_config(
            PrecisionConfig, {**SMALL, "model": str(whole / "model"), "dataset": f"file:{path}"}
        )
        holds(lambda: prepare(config))


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "spec_bench/question.jsonl"])
@many
@given(data=st.data())
def test_entries_of_prompts(name: str, whole: Path, data: DataObject) -> None:
    is_bench = name.startswith("spec_bench")
    rows = data.draw(damaged(_QUESTIONS if is_bench else _ROWS))
    with tempfile.TemporaryDirectory() as root:
        path = Path(root) / name
        path.parent.mkdir(exist_ok=True)
        text = json.dumps(rows) if name == "a.json" else "".join(json.dumps(row) + "\n" for row in rows)
        path.write_bytes(text.encode())
        own = {"dataset": "spec-bench", "data_root": root} if is_bench else {"dataset": f"file:{path}"}
        config = make_config(PrecisionConfig, {**SMALL, "model": str(whole / "model"), **own})
        holds(lambda: prepare(config))


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    """A folder a result, of real runs, as the present version writes them."""
    root = tmp_path_factory.mktemp("results")
    earlier = root / "earlier"
    earlier.mkdir()
    found = {}
    for name in earlier_files(3, earlier):
        folder = root / name
        folder.mkdir()
        path = folder / f"{name}.json"
        path.write_text((earlier / path.name).read_text())
        path.write_text(to_json(load_result(path)))
        found[name] = (path, json.loads(path.read_text()))
    shutil.rmtree(earlier)
    return found


def _use_result(original: Path, content: bytes) -> None:
    """As `compare` and `report` do. What a page says isn't looked at, but it is whole or not there."""
    with tempfile.TemporaryDirectory() as root:
        path, page = Path(root) / original.name, Path(root) / "report.html"
        path.write_bytes(content)
        holds(lambda: compare_results(original.parent, path.parent))
        done = holds(lambda: make_report([path.parent], page, "en"))
        assert page.exists() == (done is not None)
        assert done is None or page.read_text().rstrip().endswith("</html>")
        assert {one.name for one in path.parent.iterdir()} <= {path.name, page.name}


_RESULTS = ["precision", "recommendation", "spec_decode_plan_stdlib", "spec_decode_stdlib"]


@pytest.mark.parametrize("name", _RESULTS)
@many
@given(data=st.data())
def test_entries_of_results(name: str, results: dict[str, tuple[Path, Any]], data: DataObject) -> None:
    path, whole = results[name]
    _use_result(path, as_bytes(data.draw(damaged(whole))))


@pytest.mark.parametrize("name", _RESULTS)
@many
@given(data=st.data())
def test_bytes_of_results(name: str, results: dict[str, tuple[Path, Any]], data: DataObject) -> None:
    path, _ = results[name]
    _use_result(path, data.draw(damaged_bytes(path.read_bytes())))


_MATRIX = """[shared]
device = "cpu"
num_prompts = [2, 3]
[[runs]]
command = "precision"
model = "demo/target"
precisions = ["fp32", "bf16"]
[[runs]]
command = "spec-decode"
model = "demo/target"
draft = "demo/draft-small"
k = [1, 2]
"""


@many
@given(content=damaged_bytes(_MATRIX.encode()))
def test_bytes_of_a_matrix(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as root:
        path = Path(root) / "matrix.toml"
        path.write_bytes(content)
        holds(lambda: read_matrix(path))


_KINDS: list[Any] = [PrecisionConfig, SpecDecodeConfig, RecommendConfig]


@pytest.mark.parametrize("kind", _KINDS)
@many
@given(data=st.data())
def test_settings(kind: Any, data: DataObject) -> None:
    names = st.sampled_from([*kind.model_fields, "nothing"])
    values = data.draw(st.dictionaries(names, ODD_VALUES, max_size=4))
    holds(lambda: make_config(kind, {"model": "demo/target", **values}))
