"""A run on disk: what a kill leaves is read, what is there is not measured again, nothing is overwritten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitdraft.config.running import RunOptions
from bitdraft.errors import UserError
from bitdraft.runs import store
from bitdraft.runs.cell import Cell, Event, fingerprint
from bitdraft.runs.executors.inline import Inline
from bitdraft.runs.journal import Journal, read_events
from bitdraft.runs.schedule import run_cells
from bitdraft.runs.store import Run, default_folder
from bitdraft.schema.manifest import Manifest, counted_files, read_manifest, unfinished_runs
from in_process import full_after
from toy_cells import HERE, counting

CONFIG = {"model": "a", "k": [2, 3]}


class Watched(Inline):
    """Which cells were really computed, and behind how many events."""

    def __init__(self) -> None:
        self.submitted: list[tuple[str, int]] = []

    def submit(self, cell: Cell, done: Any, on_event: Any) -> None:
        self.submitted.append((cell.name, len(done)))
        super().submit(cell, done, on_event)


def measured(
    folder: Path | None,
    *cells: Cell,
    config: dict[str, Any] | None = None,
    files: tuple[str, ...] = (),
    **options: Any,
) -> tuple[dict[str, Any], list[Event], list[tuple[str, int]]]:
    """A whole run: failures by cell, all events, and what was computed."""
    executor, events = Watched(), []
    with Run("toy", config or CONFIG, folder, RunOptions(**options)) as run:
        ended = run_cells(run, cells, executor, lambda _, event: events.append(event))
        for name in files:
            assert folder is not None
            (folder / name).write_text("{}")
        run.finish(files)
    return ended, events, executor.submitted


def numbers(events: list[Event]) -> list[int]:
    return [event["n"] for event in events if event["event"] == "number"]


# --- journals -------------------------------------------------------------------------------------

values = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8))
own_events = st.lists(st.dictionaries(st.sampled_from("abc"), values, max_size=3), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(own_events, st.data())
def test_whatever_a_kill_cuts_off_the_rest_is_read_and_gone_on_with(
    tmp_path_factory: pytest.TempPathFactory, fields: list[dict[str, Any]], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("journal") / "cells" / "a.jsonl"
    journal = Journal(path, {"id": "a", "name": "a"})
    events = [{"event": "row", **found} for found in fields]
    for event in events:
        journal.append(event)
    journal.close()
    whole = path.read_bytes()
    kept = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:kept])
    again = Journal(path, {"id": "a", "name": "a"})
    assert again.events == events[: len(again.events)]
    num_whole = max(0, whole[:kept].count(b"\n") - 1)
    assert len(again.events) == num_whole
    for event in events[num_whole:]:
        again.append(event)
    again.close()
    assert path.read_bytes() == whole


def test_a_line_that_is_no_event_ends_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"event":"cell","id":"a"}\n{"event":"row"}\n[1]\n{"event":"row"}\n')
    events, length = read_events(path)
    assert ([event["event"] for event in events], length) == (["cell", "row"], 42)


def test_a_journal_of_another_cell_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"event":"cell","id":"b"}\n')
    with pytest.raises(UserError, match="is no journal of this cell"):
        Journal(path, {"id": "a", "name": "a"})


def test_a_full_disk_keeps_events_in_memory_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", full_after(2))
    journal = Journal(tmp_path / "cells" / "a.jsonl", {"id": "a", "name": "a"})
    for n in range(3):
        journal.append({"event": "row", "n": n})
    assert [event["n"] for event in journal.events] == [0, 1, 2]
    assert journal.problem is not None
    assert "No space left on device" in journal.problem


# --- runs ------------------------------------------------------------------------------------------


def test_a_finished_run_is_shown_again_without_measuring(tmp_path: Path) -> None:
    first = measured(tmp_path, counting("one"), counting("two", 2))
    assert first[2] == [("one", 0), ("two", 0)]
    assert numbers(first[1]) == [0, 1, 2, 0, 1]
    before = read_manifest(tmp_path)
    assert before is not None
    assert (before.state, before.shown_again) == ("finished", False)
    ended, events, submitted = measured(tmp_path, counting("one"), counting("two", 2))
    assert (ended, submitted) == ({"one": None, "two": None}, [])
    assert numbers(events) == [0, 1, 2, 0, 1]
    after = read_manifest(tmp_path)
    assert after is not None
    assert (after.finished_utc, after.shown_again) == (before.finished_utc, True)


def test_what_an_interrupt_has_left_is_gone_on_with(tmp_path: Path) -> None:
    def interrupt(_: Cell, event: Event) -> None:
        if event.get("n") == 1:
            raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        Run("toy", CONFIG, tmp_path, RunOptions()) as run,
    ):
        run_cells(run, [counting("one", 4), counting("two")], Inline(), interrupt)
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert manifest.state == "interrupted"
    _, events, submitted = measured(tmp_path, counting("one", 4), counting("two"))
    assert submitted == [("one", 2), ("two", 0)]
    assert numbers(events) == [0, 1, 2, 3, 0, 1, 2]


def test_a_failure_is_an_end_until_it_is_tried_again(tmp_path: Path) -> None:
    failing = counting("one", 3, fail_at=1)
    ended, _, _ = measured(tmp_path, failing, counting("two"))
    assert ended["one"].reason == "ValueError: cannot count 1"
    assert ended["two"] is None
    ended, events, submitted = measured(tmp_path, counting("one", 3), counting("two"))
    assert ended["one"].reason == "ValueError: cannot count 1"
    assert (submitted, numbers(events)) == ([], [0, 0, 1, 2])
    ended, events, submitted = measured(tmp_path, counting("one", 3), counting("two"), retry_failed=True)
    assert ended == {"one": None, "two": None}
    assert submitted == [("one", 0)]


def test_another_configuration_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    measured(tmp_path, counting())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json*")}
    with pytest.raises(UserError) as caught:
        measured(tmp_path, counting(), config={"model": "b", "k": [2, 3], "seed": 1})
    error = caught.value
    assert (error.field, error.value) == ("output", tmp_path)
    assert 'model "a" there, "b" here; seed not set there, 1 here' in error.problem
    assert "--fresh" in error.remedy
    with pytest.raises(UserError, match="holds a run of toy, this is spec-decode"):
        Run("spec_decode", CONFIG, tmp_path, RunOptions()).__enter__()
    assert {path: path.read_bytes() for path in before} == before


def test_fresh_measures_anew_and_removes_only_its_own(tmp_path: Path) -> None:
    measured(tmp_path, counting())
    (tmp_path / "notes.txt").write_text("mine")
    _, _, submitted = measured(tmp_path, counting("other", 2), config={"model": "b"}, fresh=True)
    assert submitted == [("other", 0)]
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert len(list((tmp_path / "cells").iterdir())) == 1


def test_fresh_keeps_old_results_until_there_are_new_ones(tmp_path: Path) -> None:
    measured(tmp_path, counting(), files=("old.json", "precision.json"))
    with pytest.raises(UserError, match="no such device"):
        measured(tmp_path, Cell("ask", f"{HERE}:ask_badly", {}), fresh=True)
    assert (tmp_path / "old.json").exists()
    assert (tmp_path / "precision.json").exists()
    measured(tmp_path, counting("other", 2), fresh=True, files=("precision.json",))
    assert not (tmp_path / "old.json").exists()
    assert (tmp_path / "precision.json").exists()


def test_what_was_damaged_is_measured_again_and_dated_anew(tmp_path: Path) -> None:
    measured(tmp_path, counting("one"), counting("two"))
    journal = next((tmp_path / "cells").glob("one-*"))
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:2]) + lines[2][:5])
    _, events, submitted = measured(tmp_path, counting("one"), counting("two"))
    assert submitted == [("one", 1)]
    assert numbers(events) == [0, 1, 2, 0, 1, 2]
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert not manifest.shown_again


def test_results_that_no_manifest_names_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "spec_decode_x.json").write_text("{}")
    with pytest.raises(UserError, match=r"holds spec_decode_x\.json, which no run's manifest names"):
        measured(tmp_path, counting())
    assert measured(tmp_path, counting(), fresh=True)[2] == [("count", 0)]


def test_a_checkpoint_that_changed_is_refused(tmp_path: Path) -> None:
    measured(tmp_path, counting("one", 3))
    with pytest.raises(UserError, match="one was measured with another checkpoint, text, command or version"):
        measured(tmp_path, counting("one", 4))


def test_another_machine_is_refused_unless_mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = counting("one", 3), counting("two")
    with pytest.raises(KeyboardInterrupt), Run("toy", CONFIG, tmp_path, RunOptions()) as run:
        run_cells(run, cells, Inline(), _stop_at_two)
    real = store.versions()
    monkeypatch.setattr(store, "versions", lambda: real | {"torch": "1.0"})
    with pytest.raises(UserError) as caught:
        measured(tmp_path, *cells)
    assert f"torch {real['torch']} → 1.0" in caught.value.problem
    assert "--mix-machines" in caught.value.remedy
    _, _, submitted = measured(tmp_path, *cells, mix_machines=True)
    assert submitted[0] == ("one", 2)
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert len(manifest.mixed) == 1
    # a finished one is shown whatever the machine
    monkeypatch.setattr(store, "versions", lambda: real | {"torch": "2.0"})
    assert measured(tmp_path, *cells)[2] == []


def test_what_had_failed_is_not_measured_on_another_machine_unless_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = counting("one"), counting("two", fail_at=1)
    assert measured(tmp_path, *cells)[0]["two"] is not None
    real = store.versions()
    monkeypatch.setattr(store, "versions", lambda: real | {"torch": "1.0"})
    with pytest.raises(UserError, match="with other versions"):
        measured(tmp_path, *cells, retry_failed=True)
    assert measured(tmp_path, *cells)[2] == [], "it is shown as it is"
    for _ in range(2):
        measured(tmp_path, *cells, retry_failed=True, mix_machines=True)
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert len(manifest.mixed) == 1


def test_a_finished_run_whose_journal_is_gone_is_not_completed_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(tmp_path, counting())
    real = store.versions()
    monkeypatch.setattr(store, "versions", lambda: real | {"torch": "1.0"})
    for path in (tmp_path / "cells").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="with other versions"):
        measured(tmp_path, counting())


def test_a_run_says_that_it_goes_on(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Run("toy", CONFIG, tmp_path, RunOptions()) as run:
        run_cells(run, [counting()], Inline(), _stop_at_two)
    assert _state(tmp_path) == "interrupted"
    with Run("toy", CONFIG, tmp_path, RunOptions()) as run:
        run.begin([counting()])
        assert _state(tmp_path) == "running", "as a kill would leave it"
    measured(tmp_path, counting())
    with Run("toy", CONFIG, tmp_path, RunOptions()) as run:
        run.begin([counting()])  # and is left before its end, as by an interrupt
    assert _state(tmp_path) == "finished", "nothing of it was touched"


def _state(folder: Path) -> str:
    manifest = read_manifest(folder)
    assert manifest is not None
    return manifest.state


def test_a_line_that_is_damaged_before_others_is_refused(tmp_path: Path) -> None:
    measured(tmp_path, counting())
    (path,) = (tmp_path / "cells").iterdir()
    first, second, *others = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([first, second[:5] + b"\n", *others]))
    with pytest.raises(UserError, match="line 2 is damaged, with others behind it"):
        measured(tmp_path, counting())
    assert path.read_bytes().endswith(others[-1]), "nothing is lost"


def test_what_is_measured_anew_is_shown_until_it_is_there(tmp_path: Path) -> None:
    measured(tmp_path, counting(), files=("precision.json",))
    with pytest.raises(KeyboardInterrupt), Run("toy", CONFIG, tmp_path, RunOptions(fresh=True)) as run:
        run_cells(run, [counting()], Inline(), _stop_at_two)
    assert counted_files(tmp_path, "precision.json") == [tmp_path / "precision.json"]
    (note,) = unfinished_runs(tmp_path)
    assert note.endswith("what is shown of it is of before")


def test_a_damaged_manifest_hides_no_result(tmp_path: Path) -> None:
    for name in ("good", "bad"):
        measured(tmp_path / name, counting(), files=("precision.json",))
    (tmp_path / "bad" / "run.json").write_text("{")
    assert len(counted_files(tmp_path, "precision.json")) == 2
    (note,) = unfinished_runs(tmp_path)
    assert note.startswith("of the run in bad, run.json cannot be read")


def _stop_at_two(_: Cell, event: Event) -> None:
    if event.get("n") == 1:
        raise KeyboardInterrupt


def test_two_runs_do_not_write_to_one_folder(tmp_path: Path) -> None:
    with Run("toy", CONFIG, tmp_path, RunOptions()) as run:
        run_cells(run, [counting()], Inline(), lambda *_: None)
        with pytest.raises(UserError, match="another run is writing there"):
            measured(tmp_path, counting())
    assert measured(tmp_path, counting())[2] == []


def test_a_request_that_measured_nothing_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "out"
    asking = Cell("ask", f"{HERE}:ask_badly", {})
    with pytest.raises(UserError, match="no such device"):
        measured(folder, asking)
    assert not folder.exists()


def test_without_a_folder_all_is_the_same_but_kept() -> None:
    ended, events, submitted = measured(None, counting())
    assert (ended, numbers(events), submitted) == ({"count": None}, [0, 1, 2], [("count", 0)])


def test_a_folder_that_cannot_be_written_is_told_before_anything_runs(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        measured(blocked / "out", counting())


def test_folders_are_named_after_what_is_asked(tmp_path: Path) -> None:
    found = default_folder(tmp_path, "org/a model", "recommendation", CONFIG)
    assert found.name == f"a-model-recommend-{fingerprint(CONFIG, 8)}"
    assert fingerprint({"b": 1, "a": 2}) == fingerprint({"a": 2, "b": 1}) != fingerprint({"a": 2, "b": 2})


def test_a_cells_identity_decides_its_id_and_its_payload_does_not() -> None:
    cell = Cell("a b/c", "x:y", {"folder": "/here"}, {"hash": 1})
    assert cell.id == Cell("a b/c", "x:y", {"folder": "/there"}, {"hash": 1}).id
    assert cell.id != Cell("a b/c", "x:y", {"folder": "/here"}, {"hash": 2}).id
    assert cell.id.startswith("a-b-c-")


def test_only_files_that_a_run_counts_are_found(tmp_path: Path) -> None:
    for name in ("one", "two", "none"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "precision.json").write_text("{}")
    for name, files in (("one", ["precision.json"]), ("two", [])):
        stamp = {"created_utc": "x", "updated_utc": "x"}
        manifest = Manifest(kind="precision", config={}, versions={}, machine={}, files=files, **stamp)
        (tmp_path / name / "run.json").write_text(json.dumps(manifest.model_dump(mode="json")))
    found = {path.parent.name for path in counted_files(tmp_path, "precision.json")}
    assert found == {"one", "none"}, "an interrupted `--fresh` counts no old file; other files are as ever"
