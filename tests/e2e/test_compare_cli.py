"""`bitdraft compare` as a user, or a build, meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

import bitdraft
from bitdraft.cli import app
from comparing import failed_row, precision_result, precision_row, runs, save_to, sweep, sweep_row
from in_process import jobs_in_process


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """A; B slower by a fifth at bf16, and the same sweep; one where bf16 fails; one of another text."""
    swept = sweep(runs(), sweep_row("small", 3, runs(0.8, step=2)))
    fp32 = precision_row("fp32", runs())
    slow = precision_result(fp32, precision_row("bf16", runs(1.25)), environment={"torch": "2.14.0"})
    results = {
        "a": precision_result(fp32, precision_row("bf16", runs())),
        "slow": slow,
        "failing": precision_result(fp32, failed_row("bf16")),
        "other": precision_result(fp32, config={"max_new_tokens": 50}),
        "worse": precision_result(fp32, precision_row("bf16", runs(), log_prob=lambda block: -530.0 - block)),
        "drafts": precision_result(fp32),
    }
    folders = {name: save_to(tmp_path / name, precision=result) for name, result in results.items()}
    for name in ("a", "slow", "worse"):
        save_to(folders[name], spec_decode_stdlib=swept)
    slower = sweep(runs(), sweep_row("small", 3, runs(1.0, step=2)))
    save_to(folders["drafts"], precision=results["a"], spec_decode_stdlib=slower)
    return folders


def test_without_a_limit_a_regression_is_shown_and_the_exit_code_is_0(folders: dict[str, Path]) -> None:
    result = invoke(folders["a"], folders["slow"])
    assert result.exit_code == 0, result.output
    for expected in (
        "B is faster in none of 4 rows, slower in 1; 3 are statistically tied.",
        "▼ 0.800",
        "[0.800, 0.800]",
        "small, K = 3",
        "environment.torch",
        "2.14.0",
        "were not measured in turn",
    ):
        assert expected in " ".join(result.output.split()), result.output
    assert not list(folders["slow"].glob("comparison.*"))


@pytest.mark.parametrize(
    ("b", "limit", "code"),
    [
        ("slow", "5%", 2),
        ("slow", "0.05", 2),
        ("slow", "20%", 2),
        ("slow", "0.3", 0),
        ("drafts", "5%", 1),
        ("drafts", "0.05", 1),
        ("drafts", "30%", 0),
        ("failing", "90%", 1),
        ("a", "0%", 0),
        ("slow", "5", 2),
        ("slow", "much", 2),
        ("slow", "nan", 2),
        ("slow", "-1%", 2),
    ],
)
def test_a_regression_of_the_limit_or_more_fails_a_build(
    folders: dict[str, Path], b: str, limit: str, code: int
) -> None:
    result = invoke(folders["a"], folders[b], "--fail-on-regression", limit)
    assert result.exit_code == code, result.output
    if code == 1:
        assert ("plain decoding 0.800×" if b == "drafts" else "bf16") in result.stderr
    if code == 2 and b == "slow" and limit in ("5%", "0.05", "20%"):
        assert (
            "cannot be judged: B looks slower, by itself or by the machine (bf16: tokens/s 0.800×"
            in result.stderr
        )
        assert "Measure both in turn: bitdraft compare --measure A B" in result.stderr
    elif code == 2:
        assert result.stderr.startswith(f"Error: --fail-on-regression {limit}: is no share")
    else:
        assert "throughput, TPOT and TTFT were measured apart" in result.stderr


def test_a_sweep_alone_can_pass(tmp_path: Path) -> None:
    """It has no perplexity, which is no reason to fail."""
    swept = sweep(runs(), sweep_row("small", 3, runs(0.8, step=2)))
    folders = [save_to(tmp_path / name, spec_decode_stdlib=swept) for name in ("a", "b")]
    result = invoke(*folders, "--fail-on-regression", "5%")
    assert result.exit_code == 0, result.output
    alone = precision_result(precision_row("fp32", runs()))
    longer = sweep(runs(), sweep_row("small", 3, runs(0.8, step=2)), config={"max_new_tokens": 7})
    whole = save_to(tmp_path / "c", precision=alone, spec_decode_stdlib=swept)
    other = save_to(tmp_path / "d", precision=alone, spec_decode_stdlib=longer)
    refused = invoke(whole, other, "--fail-on-regression", "5%")
    assert refused.exit_code == 2, refused.output
    assert "spec_decode_stdlib is not compared" in refused.stderr
    for flag in ("--python-b", "--data-root"):
        wrong = invoke(*folders, flag, "/somewhere")
        assert wrong.exit_code == 2
        assert f"{flag} /somewhere: is for what is measured" in wrong.stderr


@pytest.mark.parametrize(("flag", "code"), [("--max-ppl-increase", 1), ("--max-slowdown", 0)])
def test_speed_and_quality_have_limits_of_their_own(folders: dict[str, Path], flag: str, code: int) -> None:
    result = invoke(folders["a"], folders["worse"], flag, "5%")
    assert result.exit_code == code, result.output
    assert ("Regressions (--max-ppl-increase 5%):" in result.stderr) == bool(code)
    assert ("measured apart" in result.stderr) == (not code)
    mixed = invoke(folders["a"], folders["worse"], "--fail-on-regression", "5%", "--max-ppl-increase", "20%")
    assert mixed.exit_code == 0, mixed.output


@pytest.mark.parametrize(("num_prompts", "reason"), [(4, "fewer than 5 prompts"), (10, "no row has a speed")])
def test_a_limit_that_nothing_can_break_is_no_pass(tmp_path: Path, num_prompts: int, reason: str) -> None:
    """Too few prompts, or times that are none: a build must not be green for that."""
    rows = precision_row("fp32", runs()[:num_prompts])
    if num_prompts == 10:
        rows = rows.model_copy(update={"runs": ()})
    folders = [save_to(tmp_path / name, precision=precision_result(rows)) for name in ("a", "b")]
    assert invoke(*folders).exit_code == 0
    result = invoke(*folders, "--fail-on-regression", "5%")
    assert result.exit_code == 2, result.output
    assert "--fail-on-regression 5%: cannot be judged" in result.stderr
    assert reason in result.stderr


def test_what_is_not_comparable_says_why(folders: dict[str, Path]) -> None:
    result = invoke(folders["a"], folders["other"])
    assert result.exit_code == 2
    assert result.stderr == (
        "Error: --max-new-tokens 9 in A, 50 in B: answers of other lengths have other speeds (precision). "
        "Measure B again with --max-new-tokens 9.\n"
    )


def test_a_folder_that_is_none_is_one_line(folders: dict[str, Path], tmp_path: Path) -> None:
    result = invoke(folders["a"], tmp_path / "nowhere")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "does not exist" in result.stderr


def test_files_are_written_where_asked(folders: dict[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "out"
    result = invoke(folders["a"], folders["slow"], "--output", output, "--fail-on-regression", "5%")
    assert result.exit_code == 2  # and written all the same
    assert {path.name for path in output.iterdir()} == {
        f"comparison.{end}" for end in ("json", "csv", "md", "png")
    }
    record = json.loads((output / "comparison.json").read_text())
    assert (record["schema_version"], record["kind"], len(record["rows"])) == (3, "comparison", 4)


def test_both_widths_of_a_terminal_show_the_rows(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for width, titles in (("80", ("Tok/s", "Speedup")), ("140", ("TPOT", "TTFT", "RAM", "Same ids"))):
        monkeypatch.setenv("COLUMNS", width)
        output = invoke(folders["a"], folders["slow"]).output
        assert all(title in output for title in titles), output
        assert "…" not in output


def test_what_was_really_measured_is_read(checkpoint: Path, text_file: Path, tmp_path: Path) -> None:
    """Twice the same sweep with larger batches, and its plan: the texts are the same, the times are not."""
    with jobs_in_process():
        for folder in ("a", "b"):
            for changes in ({"batch_sizes": "1,2"}, {"plan": True}):
                bitdraft.evaluate_spec_decode(
                    model=str(checkpoint),
                    drafts=(f"same={checkpoint}", "ngram"),
                    k=(2,),
                    dataset=f"file:{text_file}",
                    num_prompts=4,
                    max_prompt_tokens=16,
                    max_new_tokens=8,
                    device="cpu",
                    execution="static",
                    output=tmp_path / folder / ("plan" if "plan" in changes else "sweep"),
                    **changes,
                )
    comparison = bitdraft.compare_results(tmp_path / "a", tmp_path / "b")
    assert [row.name.short for row in comparison.rows] == [
        f"{name}{batch}" for batch in ("", ", batch 2") for name in ("K = 0", "same, K = 2", "ngram, K = 2")
    ]
    for row in comparison.rows:
        assert row.same_ids == (4, 4)
        assert row.ratios["throughput_tok_s"].ratio.value > 0
        assert ("speedup" in row.ratios) == bool(row.name.k)
        if row.name.k:
            assert row.ratios["tokens_per_step"].ratio.value == 1
    assert comparison.refused == ()
    assert comparison.plans == ("plan/spec_decode_plan_file-story",)


RUN = subprocess.run


def in_this_process(command: list[str], **settings: Any) -> subprocess.CompletedProcess[str]:
    """What a Python that is named would do."""
    if command[1] == "-c" and command[0] == sys.executable:
        versions = {"bitdraft": "0.1.0", "torch": torch.__version__}
        return subprocess.CompletedProcess(command, 0, json.dumps(versions), "")
    if command[1:3] != ["-m", "bitdraft"]:
        return RUN(command, **settings)
    done = CliRunner().invoke(app, command[3:])
    return subprocess.CompletedProcess(command, done.exit_code, done.stdout, done.stderr)


def test_both_sides_are_measured_in_turn(
    checkpoint: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bitdraft.compare.in_turn.subprocess.run", in_this_process)
    a, b, output = tmp_path / "a", tmp_path / "b", tmp_path / "both"
    with jobs_in_process():
        for folder in (a, b):
            bitdraft.evaluate_spec_decode(
                model=str(checkpoint),
                drafts=("ngram",),
                k=(2,),
                dataset=f"file:{text_file}",
                num_prompts=5,
                max_prompt_tokens=16,
                max_new_tokens=8,
                device="cpu",
                output=folder,
            )
        found = invoke(a, b, "--measure", "--rounds", "2", "--output", output, "--max-slowdown", "99%")
        assert found.exit_code == 0, found.output
        steps = [line.partition(": ")[2] for line in found.stderr.splitlines() if "round" in line]
        assert [step.partition(":")[0] for step in steps] == [
            *("A, round 1", "B, round 1", "B, round 2", "A, round 2")
        ]
        comparison = json.loads((output / "comparison.json").read_text())
        assert comparison["rounds"] == 2
        assert "measured in turn, 2 times each" in " ".join(found.stdout.split())
        assert [row["same_ids"] for row in comparison["rows"]] == [[10, 10], [10, 10]], "of both rounds"
        assert "Not judged" not in found.stderr
        # what is measured is not measured again
        again = invoke(a, b, "--measure", "--rounds", "2", "--output", output)
        assert again.exit_code == 0
        ratios = [row["ratios"] for row in json.loads((output / "comparison.json").read_text())["rows"]]
        assert ratios == [row["ratios"] for row in comparison["rows"]]
        for flags, said in (
            (["--rounds", "1"], "rounds 1: is not between 2 and 20"),
            (["--python-b", "no-python"], "--python-b no-python: cannot be started"),
            (["--python-a", "/usr/bin/false"], "--python-a /usr/bin/false: cannot measure (exit code 1)"),
        ):
            wrong = invoke(a, b, "--measure", *flags, "--output", tmp_path / "wrong")
            assert wrong.exit_code == 2
            assert said in wrong.stderr
