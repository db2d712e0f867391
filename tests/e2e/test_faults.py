"""What goes wrong on real machines: each is a row or a clear end, and what was finished is kept.

Two runs in one folder, a lost Ray node and a killed process are in `test_interrupted_runs` and `test_ray`.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

import bitdraft
from bitdraft.errors import UserError
from bitdraft.runs.executors.inline import Inline
from bitdraft.schema.precision import PrecisionResult
from bitdraft.schema.records import Generation
from bitdraft.schema.spec_decode import SpecDecodeResult
from bitdraft.spec_decode.worker import Worker
from in_process import full_after, jobs_in_process
from tiny import noisy_copy, save_checkpoint, tiny_model

SMALL: dict[str, Any] = {"max_prompt_tokens": 20, "max_new_tokens": 8, "device": "cpu"}


def measure(checkpoint: Path, text: Path, output: Path, **changes: Any) -> PrecisionResult:
    settings = SMALL | {"num_prompts": 2, "precisions": ("fp32", "bf16"), "ppl_max_tokens": 300}
    return bitdraft.evaluate_precision(
        model=str(checkpoint), dataset=f"file:{text}", output=output, **settings | changes
    )


def sweep(checkpoint: Path, text: Path, output: Path | None, **changes: Any) -> SpecDecodeResult:
    settings = SMALL | {"num_prompts": 3, "drafts": ("ngram",), "k": (2,), "execution": "eager"}
    return bitdraft.evaluate_spec_decode(
        model=str(checkpoint), dataset=f"file:{text}", output=output, **settings | changes
    )


@pytest.fixture
def in_process() -> Iterator[pytest.MonkeyPatch]:
    with jobs_in_process() as patch:
        yield patch


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("faults") / "story.txt"
    path.write_text("".join(f"the cat and the hen number {i} sat in the barn\n" for i in range(120)))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run for all faults of a process: each is tried again as the next one."""
    return tmp_path_factory.mktemp("faults") / "run"


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [
        ("segv", "failed", "the process ended with SIGSEGV"),
        ("oom", "oom", "can't allocate memory"),
        ("stop", "failed", "no sign of life for 8 s, so it was ended (--cell-timeout)"),
        ("clock", "ok", None),
    ],
)
def test_a_process_that_goes_wrong_is_a_row(  # noqa: PLR0917 - its parameters are cases and fixtures
    fault: str,
    status: str,
    reason: str | None,
    folder: Path,
    checkpoint: Path,
    text: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FAULT", fault)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    monkeypatch.setattr("bitdraft.precision.evaluate._CELLS", "faulty_cells")
    result = measure(checkpoint, text, folder, retry_failed=True, cell_timeout_s=8)
    fp32, bf16 = result.rows
    assert (fp32.status, bf16.status) == ("ok", status), bf16.reason
    if reason is not None:
        assert reason in str(bf16.reason)
    else:
        assert bf16.metrics["throughput_tok_s"].value > 0
    assert (folder / "precision.json").exists()


def test_a_shard_that_is_cut_off_is_a_clear_end(text: Path, tmp_path: Path) -> None:
    checkpoint = save_checkpoint(tmp_path / "model", tiny_model())
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"model.safetensors") as caught:
        measure(checkpoint, text, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert caught.value.field == "model"


def test_a_shard_that_breaks_after_the_check_is_a_clear_end_that_keeps_the_rest(
    text: Path, tmp_path: Path, in_process: pytest.MonkeyPatch
) -> None:
    """As on a network's disk: whole when it is looked at, torn when the second format is loaded."""
    checkpoint = save_checkpoint(tmp_path / "model", tiny_model())
    weights = checkpoint / "model.safetensors"
    real = Inline.submit

    def submit(self: Inline, cell: Any, *given: Any) -> None:
        if cell.name == "bf16":
            weights.write_bytes(weights.read_bytes()[:-1000])
        real(self, cell, *given)

    in_process.setattr(Inline, "submit", submit)
    with pytest.raises(UserError, match="truncated or corrupt") as caught:
        measure(checkpoint, text, tmp_path / "out")
    assert isinstance(caught.value.result, PrecisionResult)
    assert [(row.precision, row.status) for row in caught.value.result.rows] == [("fp32", "ok")]


def nan_checkpoint(folder: Path) -> Path:
    checkpoint = save_checkpoint(folder, tiny_model())
    weights = load_file(checkpoint / "model.safetensors")
    weights["embed_out.weight"][5] = math.nan
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    return checkpoint


@pytest.mark.usefixtures("in_process")
def test_a_target_of_nan_is_refused_by_its_weight_or_rows_with_a_reason(text: Path, tmp_path: Path) -> None:
    broken = nan_checkpoint(tmp_path / "broken")
    with pytest.raises(UserError, match="holds numbers that are not finite"):
        measure(broken, text, tmp_path / "precision")
    result = sweep(broken, text, tmp_path / "sweep")
    assert {row.status for row in result.rows} <= {"overflow", "failed"}
    assert all("not finite" in str(row.reason) for row in result.rows)
    assert result.verdict.speculate is None


@pytest.mark.usefixtures("in_process")
def test_a_draft_of_nan_loses_its_rows_alone(checkpoint: Path, text: Path, tmp_path: Path) -> None:
    drafts = (f"broken={nan_checkpoint(tmp_path / 'broken')}", "ngram")
    result = sweep(checkpoint, text, tmp_path / "out", drafts=drafts)
    assert {(row.draft, row.status) for row in result.sweep} == {("broken", "overflow"), ("ngram", "ok")}


def test_an_exception_in_a_memory_cell_costs_the_memory_alone(
    checkpoint: Path, text: Path, tmp_path: Path, in_process: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise UserError("device", "cpu", "has no counter", "Do without")

    in_process.setattr("bitdraft.spec_decode.cells.measure_memory", fail)
    result = sweep(checkpoint, text, tmp_path / "out")
    assert [row.status for row in result.rows] == ["ok", "ok"]
    assert "peak_ram_gb" not in result.rows[0].metrics
    assert any("has no counter" in note for note in result.warnings)


@pytest.mark.usefixtures("in_process")
def test_texts_that_all_end_at_once_end_nothing(text: Path, tmp_path: Path) -> None:
    """The first token is EOS on every prompt: no step at all, and no figure is a division by none."""
    target = tiny_model()
    target.generation_config.eos_token_id = list(range(target.config.vocab_size))
    checkpoint = save_checkpoint(tmp_path / "model", target)
    draft = save_checkpoint(tmp_path / "draft", noisy_copy("gpt_neox", 0, 0.05))
    result = sweep(
        checkpoint, text, tmp_path / "out", ignore_eos=False, num_prompts=6, drafts=(str(draft), "ngram")
    )
    assert all(len(run.token_ids) == 1 for row in result.rows for run in row.runs)
    assert result.summary


@pytest.mark.parametrize("code", [28, 30], ids=["full", "read-only"])
@pytest.mark.usefixtures("in_process")
def test_a_disk_that_takes_no_more_ends_no_measuring(
    code: int, checkpoint: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", full_after(6, code))
    with pytest.raises(UserError) as caught:
        measure(checkpoint, text, tmp_path / "out")
    assert isinstance(caught.value.result, PrecisionResult)
    assert [row.status for row in caught.value.result.rows] == ["ok", "ok"]
    assert os.strerror(code) in caught.value.problem
    monkeypatch.undo()
    with jobs_in_process():
        again = measure(checkpoint, text, tmp_path / "out")
    assert [row.status for row in again.rows] == ["ok", "ok"], "and the same command goes on"


@pytest.mark.usefixtures("in_process")
def test_a_small_disk_that_is_full(checkpoint: Path, text: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no right to mount a file system")
    try:
        with pytest.raises(UserError) as caught:
            measure(checkpoint, text, disk / "out", num_prompts=10)
        assert isinstance(caught.value.result, PrecisionResult)
        assert [row.status for row in caught.value.result.rows] == ["ok", "ok"]
        assert "No space left on device" in caught.value.problem
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("execution", ["eager", "static"])
@pytest.mark.parametrize("kind", ["bug", "unexplained"])
def test_another_text_is_held_against_a_control_that_runs_in_the_same_way(
    checkpoint: Path, text: Path, in_process: pytest.MonkeyPatch, execution: str, kind: str
) -> None:
    """A loop that says another token at one place, at every precision or in the measured runs alone; such a
    (draft, K) is recommended by no verdict, however fast it is."""
    decode, engines = Worker.decode, []

    def faulty(worker: Worker, engine: Any, draft: str | None, k: int, index: int) -> Generation:
        if engine not in engines:
            engines.append(engine)
        run = decode(worker, engine, draft, k, index)
        if (draft, k, index) != ("ngram", 2, 1) or (kind != "bug" and engine is not engines[0]):
            return run
        ids = list(run.token_ids)
        ids[3] = (ids[3] + 7) % 50
        return run.model_copy(update={"token_ids": tuple(ids)})

    in_process.setattr(Worker, "decode", faulty)
    result = sweep(checkpoint, text, None, num_prompts=5, k=(2, 3), execution=execution)
    fast, other = result.sweep
    assert fast.lossless is not None
    [found] = fast.lossless.divergences
    assert (found.kind, found.prompt, found.position) == (kind, 1, 3)
    assert found.control_precision == "fp64"
    assert [engine.mode for engine in engines[:2]] == [execution] * 2, "the sweep, and the control"
    assert other.lossless is not None
    assert other.lossless.num_unexplained == 0
    assert result.verdict.k != 2
    assert any("ngram, K = 2 is not recommended" in reason for reason in result.reasons)
    # the text that was changed is compared with no replay
    assert fast.replay_check is not None
    assert fast.replay_check.num_compared == 4
    assert any(one.startswith("Replay: the steps of 9 of 10 runs") for one in result.reasons)


def test_without_a_control_nothing_is_taken_for_a_tie(
    checkpoint: Path, text: Path, in_process: pytest.MonkeyPatch
) -> None:
    decode = Worker.decode

    def faulty(worker: Worker, engine: Any, draft: str | None, k: int, index: int) -> Generation:
        run = decode(worker, engine, draft, k, index)
        ids = (run.token_ids[0] + 1, *run.token_ids[1:])
        return run if draft is None else run.model_copy(update={"token_ids": ids})

    def none(*_: Any) -> Any:
        raise MemoryError("no room for the wider model")

    in_process.setattr(Worker, "decode", faulty)
    in_process.setattr("bitdraft.spec_decode.control.wider_model", none)
    result = sweep(checkpoint, text, None, num_prompts=5)
    [row] = result.sweep
    assert row.lossless is not None
    assert {one.kind for one in row.lossless.divergences} == {"unchecked"}
    assert result.verdict.speculate is False
    assert any("could not be rechecked" in one for one in result.warnings)
    assert row.replay_check is not None
    assert (row.replay_check.agrees, row.replay_check.num_compared) == (None, 0)
    assert any(one.startswith("Replay: the steps of 0 of 5 runs") for one in result.reasons)


def test_a_plan_predicts_every_draft(checkpoint: Path, text: Path, in_process: pytest.MonkeyPatch) -> None:
    """Five drafts and four K: each is timed, though there are more of them than products to time."""
    drafts = ("ngram", *(f"d{index}={checkpoint}" for index in range(6)))
    result = sweep(checkpoint, text, None, drafts=drafts, k=(1, 2, 3, 4), plan=True)
    assert set(result.plan) == {"ngram", *(f"d{index}" for index in range(6))}
    assert set(result.costs.draft_cost) == set(result.plan)
