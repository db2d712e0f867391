"""Models and datasets from a hub: real loading code against a loopback stand-in (HF_ENDPOINT).

Each case runs in a process of its own, for the hub's clients read their settings when imported.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from e2e.hub_server import COMMIT, Hub

WIKITEXT_CARD = """---
configs:
- config_name: wikitext-2-raw-v1
  data_files:
  - split: test
    path: wikitext-2-raw-v1/test-*
---
"""


@pytest.fixture
def hub(tmp_path: Path, checkpoint: Path) -> Iterator[Hub]:
    pytest.importorskip("datasets", reason="install the data extra: pip install 'bitdraft[data]'")
    import pyarrow as pa
    import pyarrow.parquet as pq

    root = tmp_path / "hub"
    shutil.copytree(checkpoint, root / "models" / "org" / "tiny")
    pickled = root / "models" / "org" / "pickled"
    shutil.copytree(checkpoint, pickled, ignore=shutil.ignore_patterns("*.safetensors"))
    (pickled / "pytorch_model.bin").write_bytes(b"pickle")
    rows = [
        "",
        " = Cats = \n",
        "",
        *[f" the cat and the hen number {i} in the barn" * 9 + "\n" for i in range(40)],
    ]
    wikitext = root / "datasets" / "Salesforce" / "wikitext" / "wikitext-2-raw-v1"
    wikitext.mkdir(parents=True)
    pq.write_table(pa.table({"text": rows}), wikitext / "test-00000-of-00001.parquet")
    (wikitext.parent / "README.md").write_text(WIKITEXT_CARD)
    pg19 = root / "datasets" / "emozilla" / "pg19-test" / "data"
    pg19.mkdir(parents=True)
    books = ["".join(f"line {i} of book {b}\n" for i in range(300)) for b in range(3)]
    pq.write_table(
        pa.table({"short_book_title": ["a", "b", "c"], "text": books}), pg19 / "test-00000-of-00001.parquet"
    )
    with Hub(root) as server:
        yield server


# the command in one process: each one more would load all libraries again
IN_PROCESS = """
from bitdraft.cli import main
from in_process import jobs_in_process

with jobs_in_process():
    main()
"""
PRECISION = ("precision", "--precisions", "fp32", "--ppl-max-tokens", "300")


def run(
    endpoint: str,
    home: Path,
    *arguments: str,
    command: tuple[str, ...] = PRECISION,
    more: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    settings = {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_DATASETS_CACHE": str(home / "datasets"),
        "HF_HUB_DISABLE_XET": "1",
        **(more or {}),
        "NO_PROXY": "127.0.0.1",
    }
    small = ["--num-prompts", "2", "--max-prompt-tokens", "24", "--max-new-tokens", "4", "--device", "cpu"]
    return subprocess.run(
        [sys.executable, "-c", IN_PROCESS, *command, *arguments, *small],
        env={**os.environ, **settings, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.mark.parametrize("dataset", ["wikitext", "pg19"])
def test_model_and_text_come_from_the_hub(hub: Hub, tmp_path: Path, dataset: str) -> None:
    output = tmp_path / "out"
    done = run(hub.url, tmp_path / "home", "org/tiny", "--dataset", dataset, "--output", str(output))
    assert done.returncode == 0, (done.stderr, hub.requests)
    result = json.loads((output / "precision.json").read_text())
    assert result["model"]["revision"] == COMMIT
    assert result["text"]["revision"] == COMMIT
    assert result["rows"][0]["status"] == "ok"
    assert result["text"]["num_rows"] == (43 if dataset == "wikitext" else 3)
    # once loaded, the cache is enough for both: the hub may be gone
    gone = ("org/tiny", "--dataset", dataset, "--output", str(tmp_path / "again"))
    again = run("http://127.0.0.1:9", tmp_path / "home", *gone)
    assert again.returncode == 0, again.stderr
    cached = json.loads((tmp_path / "again" / "precision.json").read_text())
    for part in ("model", "text"):
        assert cached[part]["revision"] == COMMIT


def test_target_and_draft_come_from_the_hub(hub: Hub, tmp_path: Path) -> None:
    output = tmp_path / "out"
    command = ("spec-decode", "--draft", "small=org/tiny", "--k", "2", "--dataset", "pg19")
    done = run(hub.url, tmp_path / "home", "org/tiny", "--output", str(output), command=command)
    assert done.returncode == 0, (done.stderr, hub.requests)
    result = json.loads((output / "spec_decode_pg19.json").read_text())
    assert result["model"]["revision"] == result["drafts"]["small"]["revision"] == COMMIT
    assert [row["status"] for row in result["rows"]] == ["ok", "ok"]
    missing = (*command[:2], "org/nothing", *command[3:])
    other = str(tmp_path / "other")
    done = run(hub.url, tmp_path / "home", "org/tiny", "--output", other, command=missing)
    assert done.returncode == 2
    assert "--draft org/nothing: no such model on the hub or folder here" in done.stderr


def test_what_the_hub_lacks_is_named(hub: Hub, tmp_path: Path) -> None:
    cases = [
        (hub.url, ["org/nothing"], "MODEL org/nothing: no such model on the hub or folder here"),
        (hub.url, ["org/pickled"], "has no safetensors weights"),
        ("http://127.0.0.1:9", ["org/tiny"], "the hub cannot be reached and nothing is cached"),
        ("http://127.0.0.1:9", ["demo/target", "--dataset", "wikitext"], "could not be loaded from the hub"),
    ]
    for endpoint, arguments, message in cases:
        done = run(endpoint, tmp_path / "home", *arguments, "--output", str(tmp_path / "out"))
        assert done.returncode == 2, done.stderr
        assert message in done.stderr.strip().splitlines()[-1]
        assert "Traceback" not in done.stderr


def refused(hub: Hub, home: Path, *arguments: str, **settings: str) -> str:
    """The one line that a command ends with."""
    done = run(hub.url, home, *arguments, "--output", str(home.parent / "out"), more=settings)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(("status", "why"), [(403, "403"), (500, "500"), (407, "407")])
def test_what_goes_wrong_on_the_way_is_named(hub: Hub, tmp_path: Path, status: int, why: str) -> None:
    """Of a gateway; of a proxy that wants a password."""
    hub.status = status
    proxy = {"HTTP_PROXY": hub.url, "http_proxy": hub.url, "NO_PROXY": ""} if status == 407 else {}
    asked = "http://hub.invalid" if status == 407 else hub.url
    said = refused(hub, tmp_path / "home", "org/tiny", HF_ENDPOINT=asked, **proxy)
    assert "MODEL org/tiny: the hub cannot be reached and nothing is cached" in said
    assert why in said


def test_a_download_that_breaks_off_is_named_and_goes_on(hub: Hub, tmp_path: Path) -> None:
    hub.cuts_files = True
    assert "MODEL org/tiny: download failed" in refused(hub, tmp_path / "home", "org/tiny")
    hub.cuts_files = False
    done = run(hub.url, tmp_path / "home", "org/tiny", "--output", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr


def test_what_is_cached_in_part_is_named(hub: Hub, tmp_path: Path) -> None:
    cache = tmp_path / "home" / "hub" / "models--org--tiny"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(COMMIT)
    whole = hub.root / "models" / "org" / "tiny"
    leave_out = shutil.ignore_patterns("*.safetensors")
    shutil.copytree(whole, cache / "snapshots" / COMMIT, ignore=leave_out)
    said = refused(hub, tmp_path / "home", "org/tiny", HF_HUB_OFFLINE="1")
    assert "is cached only in part (has no safetensors weights)" in said
    assert "Fetch it where there is a network: hf download org/tiny" in said


def test_only_what_is_needed_is_fetched(hub: Hub, tmp_path: Path) -> None:
    """Shards that the index names, no other format, no folder, no second set of weights."""
    folder = hub.root / "models" / "org" / "tiny"
    single = folder / "model.safetensors"
    weights = load_file(single)
    shard = "model-00001-of-00001.safetensors"
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, shard)}
    single.rename(folder / shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for name in (
        "original/params.json",
        "original/consolidated.00.pth",
        "onnx/model.onnx",
        "onnx/config.json",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"no use")
    for name in ("consolidated.safetensors", "pytorch_model.bin", "model.gguf", "README.md"):
        (folder / name).write_bytes(b"no use")
    done = run(hub.url, tmp_path / "home", "org/tiny", "--output", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    (snapshot,) = (tmp_path / "home" / "hub" / "models--org--tiny" / "snapshots").iterdir()
    found = {path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file()}
    assert {"config.json", "tokenizer.json", shard} <= found
    assert not {name for name in found if "/" in name or not name.endswith((".json", ".safetensors"))}
    assert "consolidated.safetensors" not in found
