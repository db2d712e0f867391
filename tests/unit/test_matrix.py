"""Matrix files: which runs they mean, what they cannot mean, and that all of them are carried out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import bitdraft
from bitdraft.cli import app
from bitdraft.config import PrecisionConfig, SpecDecodeConfig
from bitdraft.errors import UserError
from bitdraft.matrix.expect import START_S, expected_cells
from bitdraft.matrix.read import Wanted, read_matrix
from in_process import jobs_in_process


def matrix(folder: Path, text: str) -> list[Wanted]:
    path = folder / "matrix.toml"
    path.write_text(text)
    return read_matrix(path)


def test_lists_of_single_settings_are_runs_and_lists_of_a_run_are_its_own(tmp_path: Path) -> None:
    found = matrix(
        tmp_path,
        """
        [shared]
        num_prompts = 7
        ppl_max_tokens = 100
        [[runs]]
        command = "precision"
        precisions = ["fp32", "bf16"]
        [[runs]]
        command = "spec-decode"
        model = ["demo/target", "demo/draft-medium"]
        precision = ["fp32", "bf16"]
        drafts = ["demo/draft-small", "ngram"]
        k = "3-5"
        num_prompts = 9
        """,
    )
    precision, *sweeps = found
    assert isinstance(precision.config, PrecisionConfig)
    assert (precision.config.precisions, precision.config.num_prompts) == (("fp32", "bf16"), 7)
    assert precision.config.ppl_max_tokens == 100
    configs = [one.config for one in sweeps if isinstance(one.config, SpecDecodeConfig)]
    assert [(one.model, one.precision) for one in configs] == [
        (model, precision) for model in ("demo/target", "demo/draft-medium") for precision in ("fp32", "bf16")
    ]
    assert {(one.drafts, one.k, one.num_prompts) for one in configs} == {
        (("demo/draft-small", "ngram"), (3, 4, 5), 9)
    }
    assert sweeps[1].title == "spec-decode demo/target, bf16"


def test_the_same_run_is_there_once(tmp_path: Path) -> None:
    run = '[[runs]]\ncommand = "precision"\nmodel = ["demo/target", "demo/target"]\n'
    assert len(matrix(tmp_path, run + run)) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("runs = 3", "names no run"),
        ("", "names no run"),
        ("[[runs]]\n[other]", r"knows no \[other\]"),
        ("[[runs]", "is no TOML"),
        ("[[runs]]\nmodel = 'a'", "runs.1..command None: no such command. Choose precision, spec-decode"),
        ("[[runs]]\ncommand = 'precision'\ndrafts = ['a']", "runs.1..drafts: no such setting"),
        ("[shared]\nspeed = 1\n[[runs]]\ncommand = 'precision'", "shared.speed: no such setting"),
        ("[[runs]]\ncommand = 'precision'\nnum_prompts = [1, 0]", r"num_prompts: 0: .*\(runs.1.\)"),
        ("[[runs]]\ncommand = 'spec-decode'\nk = '9-3'", "reversed"),
        ("[[runs]]\ncommand = 'precision'\nmodel = []", "runs.1..model: is an empty list"),
    ],
)
def test_what_cannot_be_meant_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        matrix(tmp_path, text)


def test_expected_seconds_by_hand(tmp_path: Path) -> None:
    """demo/target streams its parameters once a token; a sweep has K = 0 and one (draft, K)."""
    config = SpecDecodeConfig(
        model="demo/target", drafts=("ngram",), k=(4,), num_prompts=5, max_new_tokens=100
    )
    sweep, *memory = expected_cells(Wanted("spec-decode", config, ""), tmp_path / "none", copy_bytes_s=1e9)
    from bitdraft.inputs.checkpoints import find_checkpoint

    stored = find_checkpoint(config)
    token_s = 4 * sum(stored.stored_dtypes.values()) / 1e9
    assert sweep.seconds == pytest.approx(START_S + stored.stored_bytes / 0.5e9 + 2 * 5 * 100 * token_s)
    assert [cell.name for cell in memory] == ["memory", "memory ngram"]


TEXT = """
[shared]
num_prompts = 2
max_prompt_tokens = 16
max_new_tokens = 6
ppl_max_tokens = 200
kl_max_tokens = 0
device = "cpu"
dataset = "file:{text}"
[[runs]]
command = "precision"
model = ["{model}", "/no/such/model"]
precisions = ["fp32"]
[[runs]]
command = "spec-decode"
model = "{model}"
drafts = ["ngram"]
k = [2]
"""


def test_a_run_that_fails_does_not_end_the_others_and_all_go_on(
    checkpoint: Path, text_file: Path, tmp_path: Path
) -> None:
    path, root = tmp_path / "all.toml", tmp_path / "out"
    path.write_text(TEXT.format(text=text_file, model=checkpoint))
    command = ["run", str(path), "--output", str(root)]
    listed = CliRunner().invoke(app, [*command, "--dry-run"])
    assert listed.exit_code == 2
    assert "precision /no/such/model (cannot be measured)" in listed.output
    assert "3 runs, 1 of them cannot be measured, about" in " ".join(listed.output.split())
    with jobs_in_process():
        first = CliRunner().invoke(app, command)
        assert first.exit_code == 1, first.output
        output = " ".join(first.output.split())
        assert "Not measured: model: /no/such/model" in output
        assert "3 of 3: spec-decode" in output
        stamps = {file: file.stat().st_mtime_ns for file in root.rglob("*.jsonl")}
        outcomes = bitdraft.run_matrix(path, output=root)
    assert [outcome.error is None for outcome in outcomes] == [True, False, True]
    assert {file: file.stat().st_mtime_ns for file in root.rglob("*.jsonl")} == stamps, "nothing is measured"
    path.write_text(TEXT.format(text=text_file, model=checkpoint).replace(', "/no/such/model"', ""))
    listed = CliRunner().invoke(app, [*command, "--dry-run"])
    assert listed.exit_code == 0, listed.output
    assert listed.output.count("(finished)") == 2
    shutil.rmtree(next(root.glob("*spec*")))
    manifest = next(root.glob("*precision*/run.json"))
    manifest.write_text(manifest.read_text().replace('"state": "finished"', '"state": "interrupted"'))
    half = CliRunner().invoke(app, [*command, "--dry-run"]).output
    assert "(interrupted)" in half
    assert "(not begun)" in half
    assert half.count("finished") == 2, "the machine and fp32 of the first run"
