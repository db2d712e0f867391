"""A time limit ends what runs and keeps what is finished; what is being written is written whole."""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from bitdraft.api import recommend_deployment
from bitdraft.errors import Interrupted
from bitdraft.runs.deadline import alarm_after, undisturbed
from bitdraft.schema.findings import codes
from in_process import jobs_in_process


def test_it_rings_when_time_is_up_and_not_after() -> None:
    with pytest.raises(Interrupted), alarm_after(0.02):
        time.sleep(1)
    with alarm_after(0.05):
        pass
    time.sleep(0.08)
    with alarm_after(math.inf):
        time.sleep(0.01)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_alarm_that_is_lost_in_a_finaliser_rings_again() -> None:
    class Lost:
        def __del__(self) -> None:
            time.sleep(0.06)

    def work() -> None:
        with alarm_after(0.02):
            Lost()
            time.sleep(5)

    start_s = time.monotonic()
    with pytest.raises(Interrupted):
        work()
    assert time.monotonic() - start_s < 3


def test_what_ends_because_of_it_is_not_broken_off() -> None:
    done = []

    def work() -> None:
        with alarm_after(0.02):
            try:
                time.sleep(1)
            finally:
                time.sleep(2.2)
                done.append("put away")

    with pytest.raises(Interrupted):
        work()
    assert done == ["put away"]


def test_it_waits_for_what_must_not_be_broken_off() -> None:
    done = []

    def write() -> None:
        with alarm_after(0.02):
            with undisturbed():
                time.sleep(0.06)
                done.append("written")
            time.sleep(1)

    with pytest.raises(Interrupted):
        write()
    assert done == ["written"]


def test_other_threads_are_left_alone() -> None:
    done = []

    def work() -> None:
        with alarm_after(0.01):
            time.sleep(0.05)
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]


@pytest.mark.parametrize("where", ["spec_decode.cells.measure", "spec_decode.cells.measure_memory"])
def test_a_search_whose_time_is_up_answers_from_what_was_measured(
    checkpoint: Path, text_file: Path, tmp_path: Path, where: str
) -> None:
    """A cell that never ends: in the plan, or behind a sweep."""
    module, name = where.rsplit(".", 1)
    settings: dict[str, Any] = {"dataset": f"file:{text_file}", "num_prompts": 5, "max_prompt_tokens": 16}
    settings |= {"max_new_tokens": 12, "ppl_max_tokens": 100, "kl_max_tokens": 0, "rounds": 1}
    settings |= {"precisions": "fp32", "k": "1-2", "drafts": (f"own={checkpoint}", "ngram")}
    with jobs_in_process() as patch:
        # rings in seconds, whatever is left of the budget
        patch.setattr("bitdraft.recommend.search.alarm_after", lambda _: alarm_after(8))
        patch.setattr("bitdraft.recommend.search.CONCLUDING_S", 1e9)

        def endless(*_: object, **__: object) -> None:
            time.sleep(600)

        patch.setattr(f"bitdraft.{module}.{name}", endless)
        start_s = time.monotonic()
        result = recommend_deployment(str(checkpoint), output=tmp_path, budget_s=300, **settings)
        spent_s = time.monotonic() - start_s
    assert spent_s < 20
    assert result.is_complete
    assert result.choice.precision == "fp32"
    assert "budget.time" in codes(result.findings)
    assert (tmp_path / "recommendation.json").exists()
