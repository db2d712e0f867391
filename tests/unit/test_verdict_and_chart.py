"""Verdicts on constructed rows where the right answer is known, and what is drawn and written of them."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest

from bitdraft.api import evaluate_precision
from bitdraft.config import PrecisionConfig, make_config
from bitdraft.metrics.speed import speed_figures
from bitdraft.precision import evaluate
from bitdraft.precision import verdict as verdict_module
from bitdraft.precision.verdict import (
    process_noise,
    ratio_of_rows,
    stand_in,
    warnings_of,
    with_process_noise,
)
from bitdraft.present.charts.precision import chart
from bitdraft.present.precision_files import csv_of, markdown_text
from bitdraft.present.precision_table import precision_table
from bitdraft.present.sentences import with_sentences
from bitdraft.runs.cell import Cell
from bitdraft.schema.precision import PrecisionRaw, PrecisionResult, PrecisionRow, ProtocolCard, Quality
from bitdraft.schema.records import Figure
from in_process import jobs_in_process
from said import Said, sentences
from tiny import generation

LIMIT = 0.005


def decide(*args: Any) -> Said:
    return Said(*verdict_module.decide(*args))


def ok_row(
    precision: str,
    token_s: float,
    delta: float | None = None,
    *,
    gib: float = 1.0,
    calibration_s: float = 1e-3,
    num_prompts: int = 10,
) -> PrecisionRow:
    """A row of prompts at `token_s` a token; prompts differ alike in every row."""
    runs = [
        generation(0, [token_s * (1 + 0.1 * prompt) * (i + 1) for i in range(8)])
        for prompt in range(num_prompts)
    ]
    card = ProtocolCard(protocol="sliding", window=64, stride=32, num_scored_tokens=1000)
    change = None
    if delta is not None:
        change = Figure(value=delta, low=delta - 1e-4, high=delta + 1e-4, n=50)
    metrics = {**speed_figures(runs), "ppl": Figure(value=20.0), "peak_ram_gb": Figure(value=gib)}
    return PrecisionRow(
        precision=precision,
        status="ok",
        metrics=metrics,
        quality=Quality(protocol=card, delta_ln_ppl=change),
        runs=tuple(runs),
        raw=PrecisionRaw(calibration_s=(calibration_s,) * 2),
    )


def failed(precision: str, status: str) -> PrecisionRow:
    return PrecisionRow.model_validate({"precision": precision, "status": status, "reason": "a reason"})


def test_a_clear_winner_is_named_with_its_numbers() -> None:
    rows = [ok_row("fp32", 0.02), ok_row("fp16", 0.02, 1e-4), ok_row("bf16", 0.01, 5e-4, gib=0.6)]
    verdict = decide(rows, "fp32", LIMIT, "fp32")
    assert verdict.precision == "bf16"
    assert verdict.summary.startswith("Use bf16. Against fp32: 2.00×")
    assert "perplexity +0.050 %" in verdict.summary
    assert "peak RAM 0.60 against 1.00 GiB" in verdict.summary
    assert verdict.indistinguishable == ()


def test_a_tie_in_speed_is_called_one_and_memory_decides() -> None:
    rows = [ok_row("fp32", 0.01), ok_row("bf16", 0.01, 1e-4, gib=0.6)]
    verdict = decide(rows, "fp32", LIMIT, "fp32")
    assert verdict.precision == "bf16"
    assert verdict.indistinguishable == ("bf16", "fp32")
    assert "Statistically tied in speed with fp32; it takes less memory" in verdict.summary


def test_a_full_tie_stays_at_the_reference() -> None:
    rows = [ok_row("fp32", 0.01), ok_row("bf16", 0.01, 1e-4)]
    verdict = decide(rows, "fp32", LIMIT, "fp32")
    assert verdict.precision == "fp32"
    assert "Statistically tied in speed with bf16; it is the reference" in verdict.summary


def test_the_quality_limit_binds_by_the_intervals_upper_end() -> None:
    fast = ok_row("bf16", 0.005, 0.00495)  # value inside the limit, upper end 0.00505 outside
    verdict = decide([ok_row("fp32", 0.01), fast], "fp32", LIMIT, "fp32")
    assert verdict.precision == "fp32"
    assert any("bf16 is out: its perplexity may be" in reason for reason in verdict.reasons)
    assert decide([ok_row("fp32", 0.01), fast], "fp32", 0.02, "fp32").precision == "bf16"


def test_a_slow_half_precision_is_not_recommended() -> None:
    verdict = decide([ok_row("fp32", 0.01), ok_row("fp16", 0.03, 1e-5, gib=0.5)], "fp32", LIMIT, "fp32")
    assert verdict.precision == "fp32"
    assert "No other measured precision is faster" in verdict.summary


def test_a_difference_below_the_machines_drift_is_no_difference() -> None:
    rows = [ok_row("fp32", 0.0115), ok_row("bf16", 0.01, 1e-4, calibration_s=1.3e-3)]
    assert decide(rows, "fp32", LIMIT, "fp32").indistinguishable == ("bf16", "fp32")
    assert any("changed by 30 %" in warning for warning in sentences(warnings_of(rows)))


def test_a_machine_that_changed_its_pace_by_more_is_no_judge_of_speed() -> None:
    rows = [ok_row("fp32", 0.01), ok_row("bf16", 0.001, 1e-4, calibration_s=3.4e-2)]
    verdict = decide(rows, "fp32", LIMIT, "fp32")
    assert verdict.precision is None
    assert verdict.summary.startswith("Speeds of precisions are not compared")
    assert "34-fold" in verdict.summary
    assert verdict.comparisons[0].ppl_change is not None, "quality holds"
    assert decide(rows[:1], "fp32", LIMIT, "fp32").precision == "fp32", "nothing is compared"


def test_nor_is_one_whose_alike_processes_differ_widely() -> None:
    rows = [ok_row("fp32", 0.01), ok_row("bf16", 0.005, 1e-4)]
    slow = ok_row("fp32", 0.02).runs
    both = [
        rows[0].model_copy(update={"more_runs": (slow,)}),
        rows[1].model_copy(update={"more_runs": (rows[1].runs,)}),
    ]
    verdict = decide(both, "fp32", LIMIT, "fp32")
    assert verdict.precision is None
    assert verdict.summary.startswith("Speeds of precisions are not compared")
    table = precision_table(result(*both))
    assert "Speed ×" not in [column.title for column in table.columns], "nor shown"


def test_what_was_measured_at_a_changed_pace_is_measured_again_in_turn(
    checkpoint: Path, text_file: Path
) -> None:
    settings: dict[str, Any] = {"dataset": f"file:{text_file}", "max_prompt_tokens": 16, "num_prompts": 2}
    settings |= {"precisions": "fp32,bf16", "rounds": 1, "ppl_max_tokens": 100, "max_new_tokens": 4}
    drifts = iter([2.0, 1.0])
    with jobs_in_process() as patch:
        patch.setattr(evaluate, "machine_drift", lambda _: next(drifts))
        result = evaluate_precision(str(checkpoint), **settings)
    assert [len(row.rounds) for row in result.rows] == [3, 3]
    assert any("timed 2 more times, in turn" in reason for reason in result.reasons)
    assert len(repr(result.rows[0])) < 200


def test_no_difference_counts_that_is_smaller_than_the_drift_however_small_that_is() -> None:
    rows = [ok_row("fp32", 0.0107), ok_row("bf16", 0.01, 1e-4, calibration_s=1.09e-3)]
    assert decide(rows, "fp32", LIMIT, "fp32").indistinguishable == ("bf16", "fp32")
    assert not any("changed by" in warning for warning in sentences(warnings_of(rows)))


def test_one_stall_of_the_machine_hides_nothing() -> None:
    base = ok_row("fp32", 0.02)
    stalled = base.raw.model_copy(update={"calibration_s": (*[1e-3] * 15, 0.1)})
    rows = [base.model_copy(update={"raw": stalled}), ok_row("bf16", 0.01, 1e-4)]
    verdict = decide(rows, "fp32", LIMIT, "fp32")
    assert verdict.precision == "bf16"
    assert verdict.indistinguishable == ()
    assert not any("changed by" in warning for warning in sentences(warnings_of(rows)))


def test_too_few_prompts_or_blocks_decide_nothing() -> None:
    rows = [ok_row("fp32", 0.02, num_prompts=4), ok_row("bf16", 0.01, 1e-4, num_prompts=4)]
    verdict = decide(rows, "fp32", LIMIT, "fp32")
    assert (verdict.precision, verdict.indistinguishable) == ("fp32", ("bf16", "fp32"))
    row = ok_row("bf16", 0.01)
    quality = row.quality.model_copy(update={"delta_ln_ppl": Figure(value=0.0, n=3)})
    verdict = decide(
        [ok_row("fp32", 0.02), row.model_copy(update={"quality": quality})], "fp32", LIMIT, "fp32"
    )
    assert verdict.precision == "fp32"
    assert "3 blocks of scored text are too few" in verdict.reasons[0]


def test_among_tied_the_reason_given_is_true() -> None:
    """fp32 is the fastest by value but heavier; the light ones are chosen for their memory."""
    rows = [
        ok_row("fp32", 0.0099, gib=2.0, calibration_s=1.3e-3),
        ok_row("fp16", 0.0101, 0.0),
        ok_row("bf16", 0.01, 0.0),
    ]
    verdict = decide(rows, "fp32", LIMIT, "fp32")
    assert verdict.precision == "fp16"
    assert "in speed with fp32 and bf16; it takes less memory" in verdict.summary


def test_a_single_precision_is_not_compared() -> None:
    assert "No other precision was measured" in decide([ok_row("bf16", 0.01)], "bf16", LIMIT, "fp32").summary


def test_one_overflowing_precision_leaves_the_others() -> None:
    verdict = decide(
        [ok_row("fp32", 0.02), failed("fp16", "overflow"), ok_row("bf16", 0.01, 0.0)], "fp32", LIMIT, "fp16"
    )
    assert verdict.precision == "bf16"
    assert verdict.reasons[0] == "fp16 is out: overflow (a reason)."
    assert "stored in fp16" in verdict.reasons[1]


@pytest.mark.parametrize("status", ["oom", "overflow", "failed"])
def test_without_a_reference_or_another_to_compare_with_nothing_is_recommended(status: str) -> None:
    verdict = decide([failed("fp32", status), ok_row("bf16", 0.01)], "fp32", LIMIT, "fp32")
    assert verdict.precision is None
    assert verdict.summary.startswith("Quality could not be judged, because fp32")
    assert any(f"fp32 is out: {status}" in reason for reason in verdict.reasons)


def test_another_takes_the_place_of_a_failed_reference() -> None:
    worse = math.log1p(LIMIT) + 2e-4
    rows = [failed("fp32", "oom"), ok_row("fp16", 0.02), ok_row("bf16", 0.01, worse)]
    verdict = decide(rows, "fp32", LIMIT, "fp32")
    assert verdict.precision == "fp16", "the gate holds"
    assert verdict.summary.startswith(
        "fp32 could not be the reference: quality is compared with that of fp16."
    )
    within = decide([*rows[:2], ok_row("bf16", 0.01, 1e-4)], "fp32", LIMIT, "fp32")
    assert within.precision == "bf16"


def test_the_one_that_rounds_least_takes_the_references_place() -> None:
    assert stand_in(["fp16", "bf16"], "fp32") == "fp16"
    assert stand_in(["bf16", "fp32"], "fp16") == "fp32"
    assert stand_in(["bf16", "fp16"], "bf16") == "bf16"
    assert stand_in([], "fp32") == "fp32"


def test_everything_failed_recommends_nothing() -> None:
    verdict = decide([failed("fp32", "oom"), failed("fp16", "failed")], "fp32", LIMIT, "fp32")
    assert verdict.precision is None


def result(*rows: PrecisionRow, name: str = "org/model") -> PrecisionResult:
    verdict, findings = verdict_module.decide(rows, "fp32", LIMIT, "fp32")
    fields: dict[str, Any] = {
        "config": {"max_new_tokens": 8, "backend": "native", "ppl_protocol": "sliding"},
        "environment": {
            "cpu": "a CPU",
            "torch": "2",
            "transformers": "5",
            "time_utc": "now",
            "device": "cpu",
        },
        "model": {"name": name, "stored_dtype": "fp32"},
        "text": {"dataset": "stdlib", "sha256": "0" * 64, "prompt_ids": ["a"]},
    }
    found = PrecisionResult(rows=rows, verdict=verdict, findings=findings, **fields)
    return with_sentences(found)


ROWS = (ok_row("fp32", 0.02), failed("fp16", "unsupported"), ok_row("bf16", 0.01, 5e-4))


def test_the_chart_is_a_png_whatever_failed() -> None:
    for rows in (ROWS, ROWS[:1], ROWS[1:2], (failed("fp32", "oom"), ok_row("bf16", 0.01))):
        assert chart(result(*rows, name="a$b_{c}$ <script>")).png().startswith(b"\x89PNG")


def test_a_single_prompt_draws_without_intervals() -> None:
    row = ok_row("fp32", 0.02)
    metrics = {name: Figure(value=figure.value) for name, figure in row.metrics.items()}
    assert chart(result(row.model_copy(update={"metrics": metrics}))).png().startswith(b"\x89PNG")


def test_best_values_follow_the_direction_of_each_column() -> None:
    table = precision_table(result(*ROWS))
    best = {
        column.key: {place for place, row in enumerate(table.rows) if row[index].mark == "best"}
        for index, column in enumerate(table.columns)
    }
    assert best["throughput_tok_s"] == best["tpot_ms"] == best["ttft_ms"] == {2}
    assert best["ppl"] == best["delta_ln_ppl"] == set(), "a difference of quality is the paired one's to say"


def test_csv_has_a_line_a_precision_and_an_end_a_figure() -> None:
    records = list(csv.DictReader(io.StringIO(csv_of(ROWS))))
    assert [record["status"] for record in records] == ["ok", "unsupported", "ok"]
    assert float(records[2]["delta_ln_ppl_high"]) == pytest.approx(6e-4)
    assert records[1]["throughput_tok_s"] == ""


def test_random_weights_have_speed_and_memory_alone() -> None:
    rows = [
        row.model_copy(update={"quality": Quality(not_measured="random weights")})
        for row in (ok_row("fp32", 0.02), ok_row("bf16", 0.01, gib=0.6))
    ]
    for row in rows:
        del row.metrics["ppl"]
    verdict = decide(rows, "fp32", LIMIT, "none")
    assert verdict.precision is None
    assert "Random weights: quality not measured. By speed and memory alone: bf16." in verdict.summary
    assert "2.00×" in verdict.summary
    assert "perplexity" not in verdict.summary
    shown = result(*rows, failed("fp16", "oom"))
    keys = {column.key for column in precision_table(shown).columns}
    assert not {"ppl", "delta_ln_ppl", "kl_divergence"} & keys
    assert "PPL" not in markdown_text(shown)
    assert chart(shown).png().startswith(b"\x89PNG")
    lost = decide([failed("fp32", "oom"), rows[1]], "fp32", LIMIT, "none")
    assert "quality not measured" in lost.summary
    assert lost.reasons == ["fp32 is out: oom (a reason)."]


def test_markdown_holds_verdict_and_best_values() -> None:
    text = markdown_text(result(*ROWS))
    assert "Use bf16." in text
    assert "| fp16 | unsupported | a reason |  |" in text
    assert text.count("**") >= 6


def test_precisions_are_measured_in_turn(checkpoint: Path, text_file: Path) -> None:
    """A B C, then C B A, then A B C again: only timed behind the first round."""

    def cells_of(*precisions: str, rounds: int | None = None) -> list[Cell]:
        settings = {"model": str(checkpoint), "dataset": f"file:{text_file}", "max_prompt_tokens": 16}
        settings |= {"precisions": precisions, "rounds": rounds, "ppl_max_tokens": 200, "max_new_tokens": 4}
        config = make_config(PrecisionConfig, settings)
        return evaluate.cells_of(config, evaluate.prepare(config))[1:]

    cells = cells_of("fp32", "fp16", "bf16", rounds=3)
    names = ["fp32", "fp16", "bf16"]
    assert [cell.payload["precision"] for cell in cells] == [*names, *names[::-1], *names]
    assert [cell.name for cell in cells[2:5]] == ["bf16", "bf16, round 2", "fp16, round 2"]
    assert [len(cell.payload["windows"]) > 0 for cell in cells] == [True] * 3 + [False] * 6
    assert len({json.dumps(cell.identity) for cell in cells}) == 9
    assert len(cells_of("fp32", "bf16")) == 4, "two rounds where precisions are compared"
    assert len(cells_of("fp32")) == 1


def test_the_noise_between_processes_is_in_every_comparison_by_hand() -> None:
    """Of fp32 the second process is e^0.04 slower than the first, of bf16 as fast: a variance of
    0.5 · 0.04² / 2 on two degrees of freedom, of which a ratio of means over two rounds has the whole."""
    rows = [ok_row("fp32", 0.02), ok_row("bf16", 0.0197, 1e-4)]
    slow = ok_row("fp32", 0.02 * math.exp(0.04)).runs
    both = [
        rows[0].model_copy(update={"more_runs": (slow,)}),
        rows[1].model_copy(update={"more_runs": (rows[1].runs,)}),
    ]
    noise = process_noise(both)
    assert noise is not None
    assert noise.variance == pytest.approx(0.0004)
    assert noise.degrees == 2
    ratio = ratio_of_rows(both[1], both[0], noise)
    half = 4.3027 * 0.02  # Student's t on two degrees of freedom
    assert ratio.high == pytest.approx(ratio.value * math.exp(half), rel=1e-3)
    speed = with_process_noise(both)[0].metrics["throughput_tok_s"]
    before = both[0].metrics["throughput_tok_s"]
    assert speed.high is not None
    assert before.high is not None
    assert speed.high > before.high
    assert process_noise(rows) is None
    # alone bf16 is faster by 1.5 % in every prompt; between processes that says nothing
    assert decide(rows, "fp32", LIMIT, "fp32").indistinguishable == ()
    assert decide(both, "fp32", LIMIT, "fp32").indistinguishable == ("bf16", "fp32")
    assert "alike ones differ in speed by 2.0 %" in " ".join(decide(both, "fp32", LIMIT, "fp32").reasons)


def test_processes_that_differ_wildly_are_a_warning() -> None:
    row = ok_row("fp32", 0.02)
    busy = row.model_copy(update={"more_runs": (ok_row("fp32", 0.06).runs,)})
    assert any("differ in speed by 2.2 times" in one for one in sentences(warnings_of([busy])))
    assert not any("alike ones differ" in one for one in decide([busy], "fp32", LIMIT, "fp32").reasons)


def test_what_a_device_cannot_run_leaves_the_only_other_format_the_choice() -> None:
    row = ok_row("Q4_K_M", 0.01)
    alone = row.model_copy(update={"quality": row.quality.model_copy(update={"delta_ln_ppl": None})})
    for status, expected in (("unsupported", "Q4_K_M"), ("failed", None)):
        assert decide([failed("fp8", status), alone], "fp8", LIMIT, None).precision == expected
