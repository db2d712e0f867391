"""K schedules: speedups by hand from costs and replay, choices by simulation, and the command's files."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from bitdraft.cli import app
from bitdraft.config import SpecDecodeConfig, make_config
from bitdraft.errors import UserError
from bitdraft.schema.findings import codes
from bitdraft.schema.io import read_result
from bitdraft.schema.records import Figure
from bitdraft.schema.spec_decode import SpecDecodeResult
from bitdraft.spec_decode.grid import NUM_ROUNDS, _texts
from bitdraft.spec_decode.records import Agreement, GridPoint, PromptRecord, Records
from bitdraft.spec_decode.schedule import findings_of, points_of, schedule_of
from bitdraft.spec_decode.theory import CostSample
from bitdraft.spec_decode.workload import prepare
from in_process import jobs_in_process

DRAFTS = ("demo/draft-small",)


def grid_point(
    batch_size: int, plain_s: float, verify_s: dict[int, float], draft_s: float, spread: float = 0.0
) -> GridPoint:
    """Costs whose rounds differ by this share."""
    chance = np.random.default_rng(batch_size)

    def rounds(seconds: float) -> list[float]:
        return [seconds * math.exp(spread * chance.normal()) for _ in range(NUM_ROUNDS)]

    target = {1: rounds(plain_s), **{k + 1: rounds(seconds) for k, seconds in verify_s.items()}}
    return GridPoint(batch_size, 64, CostSample(target, {"d": rounds(draft_s)}), 1.0)


def test_a_speedup_by_hand() -> None:
    tau = Figure(value=2.5, low=2.0, high=3.0, n=20)
    (found,) = points_of(grid_point(4, 1.0, {3: 1.1}, 0.1), {("d", 3): tau})
    assert found.speedup.value == pytest.approx(2.5 / (3 * 0.1 + 1.1))
    assert found.speedup.low == pytest.approx(2.0 / 1.4)
    assert (found.plain_ms, found.step_ms) == pytest.approx((1000, 1400))
    (noisy,) = points_of(grid_point(4, 1.0, {3: 1.1}, 0.1, spread=0.2), {("d", 3): tau})
    assert noisy.speedup.low is not None
    assert found.speedup.low is not None
    assert noisy.speedup.low / noisy.speedup.value < found.speedup.low / found.speedup.value


def records_of(points: list[GridPoint], share_kept: float) -> Records:
    """Twenty prompts whose drafts agree at this rate."""
    config = make_config(
        SpecDecodeConfig, {"schedule": True, "k": (1, 3), "max_new_tokens": 64, "num_prompts": 20}
    )
    records = Records(config, ["d"])
    chance = np.random.default_rng(0)
    for _ in range(20):
        keeps = [float(one) for one in chance.random(64) < share_kept]
        records.prompts.append(PromptRecord(tuple(range(64)), {}, {"d": Agreement(keeps=keeps)}, None, {}))
    records.grid = points
    return records


def test_k_is_0_from_the_batch_size_on_where_speculation_does_not_pay() -> None:
    # alone, three more tokens are nearly free; in a large batch each costs as much as the first
    points = [
        grid_point(1, 1.0, {1: 1.0, 3: 1.05}, 0.05, 0.01),
        grid_point(8, 1.0, {1: 1.9, 3: 3.7}, 0.2, 0.01),
    ]
    found = schedule_of(records_of(points, 0.8))
    assert [(one.batch_size, one.k, one.pays) for one in found.choices] == [(1, 3, True), (8, 0, False)]
    assert found.batch_sizes == [1, 8]
    assert {"schedule.pays", "schedule.context", "schedule.time"} <= set(codes(findings_of(found)))
    refused = schedule_of(records_of(points[1:], 0.8))
    assert findings_of(refused)[0].code == "schedule.refuse"


def test_what_is_open_is_not_speculated_on() -> None:
    found = schedule_of(records_of([grid_point(1, 1.0, {1: 1.5, 3: 1.9}, 0.2, 0.4)], 0.7))
    assert [(one.k, one.pays) for one in found.choices] == [(0, None)]
    assert findings_of(found)[0].code == "schedule.open"


def test_equal_costs_are_rarely_said_to_pay() -> None:
    """Where a step brings what it costs, noise makes it pay in few of many experiments."""
    num_wrong = 0
    for seed in range(100):
        records = records_of([], 0.5)
        chance = np.random.default_rng(seed + 1)
        tau = 1 + 0.5 + 0.5**2 + 0.5**3
        records.prompts.clear()
        for _ in range(20):
            keeps = [float(one) for one in chance.random(400) < 0.5]
            own = {"d": Agreement(keeps=keeps)}
            records.prompts.append(PromptRecord(tuple(range(400)), {}, own, None, {}))
        rounds = {size: [s * math.exp(0.03 * chance.normal()) for _ in range(NUM_ROUNDS)] for size, s in
                  ((1, 1.0), (2, 1.5), (4, tau))}  # fmt: skip
        records.config = records.config.model_copy(update={"max_new_tokens": 400})
        records.grid = [GridPoint(1, 64, CostSample(rounds, {"d": [1e-6] * NUM_ROUNDS}), 1.0)]
        num_wrong += schedule_of(records).choices[0].pays is True
    assert num_wrong <= 5


def test_rows_begin_at_other_places_and_are_as_long_as_asked() -> None:
    found = _texts([[1, 2, 3], [4, 5]], 2, 7)
    assert [len(text) for text in found] == [7, 7]
    assert found[0] == [1, 2, 3, 4, 5, 1, 2]
    assert found[0] != found[1]


def test_the_command_writes_the_schedule(tmp_path: Path) -> None:
    words = ["spec-decode", "--draft", "demo/draft-small", "--schedule", "--k", "1,2", "--batch-size", "1,2"]
    words += ["--contexts", "8,24", "--num-prompts", "5", "--max-prompt-tokens", "16"]
    words += ["--max-new-tokens", "12", "--device", "cpu", "-o", str(tmp_path)]
    with jobs_in_process():
        found = CliRunner().invoke(app, words)
        assert found.exit_code == 0, found.output
        again = CliRunner().invoke(app, words)
    assert again.exit_code == 0, again.output
    result = read_result(tmp_path / "spec_decode_plan_stdlib.json", SpecDecodeResult)
    places = [(one.batch_size, one.context) for one in result.schedule.choices]
    assert places == [(1, 8), (1, 24), (2, 8), (2, 24)]
    assert len(result.schedule.points) == 8
    assert result.schedule.grid_s > 0
    assert result.schedule.sweep_s > 0
    lines = list(csv.DictReader((tmp_path / "spec_decode_plan_stdlib_schedule.csv").open()))
    assert len(lines) == 8
    assert (tmp_path / "speculation_schedule_stdlib.png").exists()
    assert "K by batch size and context" in (tmp_path / "spec_decode_plan_stdlib.md").read_text()
    assert "K by batch size and context" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"contexts": "64"}, "are of a schedule"),
        ({"schedule": True, "contexts": "100000"}, "room for"),
        ({"schedule": True, "contexts": "0"}, "outside 1"),
        ({"schedule": True, "backend": "transformers"}, "--backend native"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        prepare(make_config(SpecDecodeConfig, {"drafts": DRAFTS, "num_prompts": 2, **settings}))
    assert expected in str(caught.value)


def test_a_schedule_is_of_several_batch_sizes_unless_others_were_named() -> None:
    assert make_config(SpecDecodeConfig, {"schedule": True}).batch_sizes == (1, 2, 4, 8)
    assert make_config(SpecDecodeConfig, {"schedule": True, "batch_sizes": "1,16"}).batch_sizes == (1, 16)
    assert make_config(SpecDecodeConfig, {"schedule": True}).plan
