"""The charts and tables of the report hold the results' own numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from bitdraft.present.page import (
    anatomy_section,
    batch_section,
    overview,
    precision_section,
    recommendation_section,
    sweep_section,
    theme,
)
from bitdraft.present.page.discover import Folder, Found
from bitdraft.present.page.model import Chart, Section, Table, script_json
from bitdraft.present.page.raw_section import flat, precision_tables, sweep_tables
from bitdraft.present.page.run import build_run
from bitdraft.schema.precision import Quality
from bitdraft.schema.recommendation import Choice, Limits
from bitdraft.schema.records import Figure, Generation
from bitdraft.schema.spec_decode import SpecDecodeResult
from report_results import (
    KS,
    batch_rows,
    divergence,
    figure,
    plan_result,
    precision_result,
    recommendation,
    said,
    sweep_result,
    sweep_row,
)


def trace(chart: Chart | None, name: str) -> dict[str, Any]:
    """The one that the legend shows under a name."""
    assert chart is not None
    (found,) = [t for t in chart.data if t.get("name") == name and t.get("showlegend") is not False]
    return found


def with_batches() -> SpecDecodeResult:
    """A sweep, and larger batches behind it."""
    return sweep_result(rows=(*sweep_result().rows, *batch_rows()))


def tables_of(section: Section) -> dict[str, Table]:
    blocks = [*section.blocks, *(block for part in section.parts for block in part.blocks)]
    return {block.title: block for block in blocks if isinstance(block, Table)}


def test_metrics_are_bars_with_their_intervals() -> None:
    throughput, _, ttft, ppl, memory = precision_section.metric_charts(precision_result())
    fp32, bf16 = throughput.data
    assert (fp32["x"], fp32["y"], bf16["x"], bf16["y"]) == ([0], [100.0], [2], [200.0])
    assert fp32["error_y"]["array"] == pytest.approx([10])
    assert bf16["error_y"]["arrayminus"] == pytest.approx([20])
    assert fp32["hovertext"] == ["FP32 100.0 [90.0, 110.0] tokens/s, n = 6"]
    assert throughput.layout["xaxis"]["ticktext"] == ["FP32<br>100.0", "FP16", "BF16<br>200.0"]
    assert [note["text"] for note in throughput.layout["annotations"]] == ["overflow"]
    assert "FP16 overflow" in throughput.alt
    assert [bar["y"] for bar in memory.data] == [[1.0], [0.5]]
    assert memory.data[0]["error_y"] == {"visible": False}
    assert "(ms)" in ttft.title
    assert ppl.data[0]["y"] == [30.0]


def test_quality_differences_are_in_percent_and_nats() -> None:
    change, divergence_chart, same, moved = precision_section.quality_charts(precision_result())
    (point,) = change.data
    assert point["x"] == pytest.approx([100 * math.expm1(0.002)])
    assert point["error_x"]["array"] == pytest.approx([100 * (math.expm1(0.003) - math.expm1(0.002))])
    assert change.layout["shapes"][0]["x0"] == pytest.approx(0.5)
    assert divergence_chart.data[0]["x"] == pytest.approx([2e-4])
    assert divergence_chart.log_axis == "x"
    assert same.data[0]["x"] == pytest.approx([98])
    assert moved.data[0]["x"] == pytest.approx([0.4])


def test_a_limit_far_out_is_said_and_not_drawn() -> None:
    result = precision_result()
    far = result.model_copy(update={"verdict": result.verdict.model_copy(update={"max_ppl_increase": 0.5})})
    change = precision_section.quality_charts(far)[0]
    assert change.layout["shapes"] == []
    assert "+50 %" in change.caption


def test_the_trade_off_holds_speed_quality_and_memory() -> None:
    chart = precision_section.trade_off_chart(precision_result())
    fp32, bf16 = trace(chart, "FP32"), trace(chart, "BF16")
    assert (fp32["x"], fp32["y"]) == ([0.0], [1.0])
    assert (bf16["x"], bf16["y"]) == (pytest.approx([0.2]), [2.0])
    assert bf16["marker"]["size"] == pytest.approx(fp32["marker"]["size"] / math.sqrt(2))


def test_random_weights_have_no_quality() -> None:
    result = precision_result()
    rows = tuple(
        row.model_copy(update={"quality": Quality(not_measured="random weights")}) for row in result.rows
    )
    bare = result.model_copy(update={"rows": rows})
    assert len(precision_section.metric_charts(bare)) == 4
    assert precision_section.quality_charts(bare) == []
    assert precision_section.trade_off_chart(bare) is None
    assert [part.title for part in precision_section.section(bare, "Precision").parts] == ["Trade-off"]


def test_throughput_over_k_has_bands_a_baseline_and_a_star() -> None:
    chart = sweep_section.throughput_chart(sweep_result())
    own = trace(chart, "a")
    assert (own["x"], own["y"]) == (list(KS), [140.0, 160.0, 150.0])
    (band,) = [t for t in chart.data if t["legendgroup"] == "a" and t.get("fill") == "toself"]
    assert band["x"] == [2, 3, 4, 4, 3, 2]
    assert band["y"] == pytest.approx([154, 176, 165, 135, 144, 126])
    assert trace(chart, "K = 0")["y"] == [100.0, 100.0]
    assert (trace(chart, "fastest")["x"], trace(chart, "fastest")["y"]) == ([3], [160.0])
    assert (
        own["hovertext"][1] == "a, K = 3<br>160.0 [144.0, 176.0] tok/s, n = 6<br>1.60× [1.44, 1.76] of K = 0"
    )
    assert "not drawn: ngram K = 4: failed" in chart.caption
    assert chart.log_axis == "y"


def test_acceptance_over_k_has_the_replay_beside_it() -> None:
    chart = sweep_section.acceptance_chart(sweep_result())
    assert trace(chart, "a")["y"] == pytest.approx([1 / 2, 1 / 3, 1 / 4])
    (replay,) = [t for t in chart.data if t.get("name") == "a" and t.get("showlegend") is False]
    assert (replay["x"], replay["y"]) == ([2, 3, 4], pytest.approx([1 / 2, 1 / 3, 1 / 4]))
    assert trace(chart, "a")["mode"] == "markers"
    assert trace(chart, "ngram")["mode"] == "lines+markers"  # without a replay, points are joined


def test_few_prompts_have_neither_bands_nor_bars() -> None:
    rows = tuple(sweep_row("a", k, 1.5, wide=None) for k in KS)
    chart = sweep_section.throughput_chart(sweep_result(rows=(sweep_result().rows[0], *rows)))
    assert not [t for t in chart.data if t["legendgroup"] == "a" and t.get("fill")]
    assert "error_y" not in trace(chart, "a")
    assert "[" not in trace(chart, "a")["hovertext"][0].partition("of K")[0]


def test_anatomy_holds_positions_parts_and_predictions() -> None:
    result = sweep_result()
    positions = anatomy_section.positions_chart(result)
    assert trace(positions, "a")["y"] == pytest.approx([0.8, 0.4, 0.8 / 3, 0.2])
    first, second = anatomy_section.step_charts(result)
    assert [trace(first, part)["y"] for part in ("draft", "verify", "host")] == [
        [1.0, 1.5, 2.0],
        [2.0] * 3,
        [0.1] * 3,
    ]
    assert trace(first, "predicted from costs")["y"] == pytest.approx([2.7, 3.1, 3.5])
    assert "ngram" in second.title
    (speedups,) = anatomy_section.predictions_charts(result)
    assert trace(speedups, "a")["y"] == [1.4, 1.6, 1.5]
    hidden = [t["y"] for t in speedups.data if t.get("name") == "a" and t.get("showlegend") is False]
    assert hidden == [pytest.approx([1.45, 1.65, 1.55]), pytest.approx([1.5, 1.7, 1.6])]


def test_costs_are_shown_over_tokens() -> None:
    (section,) = anatomy_section.costs(sweep_result())
    (chart,) = [block for block in section.blocks if isinstance(block, Chart)]
    assert (trace(chart, "target")["x"], trace(chart, "target")["y"]) == ([1, 3, 5], [2.0, 2.2, 2.4])
    assert trace(chart, "a")["y"] == [0.2]
    values = [[cell.value for cell in row] for row in tables_of(section)["Costs"].rows]
    assert values[1][1:] == [3.0, 2.2, 1.1]


def test_a_sweeps_table_has_every_row_and_marks_the_best() -> None:
    table = tables_of(sweep_section.section(sweep_result(), "title"))["Every draft and K"]
    assert [(row[0].text, row[1].text) for row in table.rows] == [
        ("–", "0"),
        ("a", "2"),
        ("a", "3"),
        ("a", "4"),
        ("ngram", "2"),
        ("ngram", "3"),
        ("ngram", "4"),
    ]
    speedup = list(table.columns).index("Speedup")
    assert [place for place, row in enumerate(table.rows) if row[speedup].is_best] == [2]
    assert table.rows[2][speedup].value == 1.6
    assert table.rows[2][speedup].spread == "[1.44, 1.76]"
    assert table.rows[6][2].text == "failed: a reason"


def test_lossless_counts_and_names_where_texts_part() -> None:
    result = sweep_result()
    baseline, first, *others = result.rows
    rows = (baseline, first.model_copy(update={"lossless": divergence()}), *others)
    section = sweep_section.section(result.model_copy(update={"rows": rows}), "title")
    (part,) = [part for part in section.parts if part.title == "Lossless"]
    assert "29 of 30 runs gave the token ids of K = 0" in part.blocks[0].text  # type: ignore[union-attr]
    assert [cell.text for cell in tables_of(part)["Where texts part"].rows[0]] == [
        "a",
        "2",
        "3",
        "7",
        "rounding tie",
        "0.01000",
        "fp32",
    ]


def test_batches_begin_with_the_sweep_and_leave_out_what_failed() -> None:
    result = with_batches()
    section = batch_section.section(result)
    throughput, speedup = [block for block in section.blocks if isinstance(block, Chart)]
    assert (trace(throughput, "K = 0")["x"], trace(throughput, "K = 0")["y"]) == ([1, 4, 8], [100, 400, 800])
    assert trace(throughput, "a")["y"] == pytest.approx([160, 480, 720])
    assert trace(speedup, "a")["y"] == [1.6, 1.2, 0.9]
    assert "batch 8: 0.90" in speedup.alt
    assert [row[3].text for row in tables_of(section)["Larger batches"].rows] == ["ok"] * 4 + ["oom: no room"]


def test_a_plan_shows_predictions_without_intervals() -> None:
    section = sweep_section.section(plan_result(), "Plan")
    predicted, acceptance = sweep_section.plan_charts(plan_result())
    assert trace(predicted, "a")["y"] == pytest.approx([1.2, 1.3, 1.4])
    assert trace(acceptance, "a")["y"] == pytest.approx([1 / 2, 1 / 3, 1 / 4])
    assert [row[2].is_best for row in tables_of(section)["The plan"].rows] == [False, False, True]
    assert "nothing was swept" in section.blocks[0].text  # type: ignore[union-attr]


def test_the_front_holds_what_was_measured() -> None:
    chart = recommendation_section.front_chart(recommendation())
    bf16, fp32 = trace(chart, "BF16, PPL +0.200 %"), trace(chart, "FP32")
    assert (bf16["x"], bf16["y"]) == ([0.6, 0.6], [320.0, 310.0])
    assert bf16["marker"]["symbol"] == ["triangle-up", "triangle-up-open"]
    assert (fp32["x"], fp32["y"]) == ([1.0], [100.0])
    assert trace(chart, "chosen")["y"] == [320.0]
    section = recommendation_section.section(recommendation(), "Recommendation")
    rows = tables_of(section)["All ways to run it"].rows
    assert [row[3].text for row in rows] == [
        "chosen",
        "same speed",
        "slower",
        "predicted",
        "out: overflow",
    ]
    assert rows[0][3].is_best
    assert rows[3][6].value == 1.2
    assert recommendation_section.choice_facts(recommendation())[1] == ("Speculate", "yes")


def test_a_recommendation_without_anything_is_shown() -> None:
    bare = recommendation().model_copy(
        update={
            "contenders": (),
            "choice": Choice(),
            "snippets": {},
            "stages": (),
            "findings": said("Nothing was found."),
            "limits": Limits(),
        }
    )
    section = recommendation_section.section(bare, "Recommendation")
    assert (len(section.blocks), section.parts) == (1, [])


def test_side_by_side_shows_every_folder() -> None:
    folders = [
        Folder(where, where.name, (Found("p", precision_result(speed=s)), Found("s", sweep_result())), ())
        for where, s in ((Path("x/one"), 100.0), (Path("x/two"), 50.0))
    ]
    runs = [build_run(folder) for folder in folders]
    chart = overview.precision_chart(runs)
    assert trace(chart, "one")["y"] == [100.0, 200.0]
    assert trace(chart, "two")["y"] == [50.0, 100.0]
    assert trace(chart, "two")["x"] == [0, 2]
    best = overview.speculation_chart(runs)
    assert best is not None
    assert [point["x"] for point in best.data] == [[1.6], [1.6]]
    tables = tables_of(overview.section(runs))
    assert [row[0].text for row in tables["Precision"].rows] == ["one"] * 3 + ["two"] * 3
    assert tables["Speculation"].rows[0][2].text == "a, K = 3"


def test_raw_tables_hold_every_figure() -> None:
    (figures,) = precision_tables(precision_result())
    assert len(figures.rows) == 6 + 6 + 4
    assert [cell.text for cell in figures.rows[0]] == [
        "fp32",
        "throughput_tok_s",
        "100",
        "90",
        "110",
        "6",
        "–",
    ]
    names = [table.title for table in sweep_tables(with_batches())]
    assert names == ["Figures", "Realised K", "Replay of every K"]
    realised = sweep_tables(sweep_result())[1]
    assert [cell.text for cell in realised.rows[0]] == ["a", "2", "0: 3, 2: 97", "2"]


def run(submit_s: float, first_s: float, last_s: float) -> Generation:
    """Ten tokens, the first at `first_s`."""
    return Generation(
        prompt_tokens=5,
        submit_s=submit_s,
        emissions=((first_s, 1), (last_s, 9)),
        token_ids=tuple(range(10)),
        finish_reason="length",
    )


def test_raw_tables_hold_every_prompt() -> None:
    text = {"dataset": "stdlib", "prompt_ids": ["one", "two"]}
    plain = (run(0, 0.1, 1.0), run(10, 10.2, 12.0))
    result = precision_result(text=text)
    rows = (result.rows[0].model_copy(update={"runs": plain}), *result.rows[1:])
    prompts = precision_tables(result.model_copy(update={"rows": rows}))[1]
    assert prompts.columns == ["Prompt", "Tokens", "FP32 tok/s", "FP32 TTFT (ms)"]
    assert [[cell.text for cell in row] for row in prompts.rows] == [
        ["one", "5", "10.0", "100.00"],
        ["two", "5", "5.0", "200.00"],
    ]
    own = sweep_row("a", 3, 2.0).model_copy(update={"runs": (run(0, 0.1, 0.5), run(10, 10.2, 11.0))})
    base = sweep_result().rows[0].model_copy(update={"runs": plain})
    prompts = sweep_tables(sweep_result(rows=(base, sweep_row("a", 2, 1.5), own), text=text))[1]
    assert prompts.columns[-1] == "a, K = 3 (×)"
    assert [[cell.text for cell in row] for row in prompts.rows] == [
        ["one", "5", "10.0", "100.00", "2.00"],
        ["two", "5", "5.0", "200.00", "2.00"],
    ]


def test_records_are_flattened_with_readable_names() -> None:
    record = {"ram_gb": 16.0, "ceilings": {"copy_gb_s": 20.0}, "ignore_eos": True, "none": None, "k": [1, 2]}
    assert flat(record | {"num_parameters": 7904640}) == [
        ("RAM (GiB)", "16.0"),
        ("ceilings: copy (GB/s)", "20.0"),
        ("EOS ignored", "yes"),
        ("k", "1, 2"),
        ("parameters", "7,904,640"),
    ]


def test_figures_without_an_interval_say_their_count_alone() -> None:
    assert theme.figure_text(Figure(value=1.234, n=3), 2, "ms") == "1.23 ms, n = 3"
    assert theme.figure_text(figure(2.0), 1, "ms") == "2.0 [1.8, 2.2] ms, n = 6"


def test_names_reach_plotly_as_text() -> None:
    name = "<b>&amp;</b>"
    own = theme.line(name, [1], [2], theme.SeriesStyle("#0072B2"), [f"{name}\nline"])
    assert own["name"] == "&lt;b&gt;&amp;amp;&lt;/b&gt;"
    assert own["hovertext"] == ["&lt;b&gt;&amp;amp;&lt;/b&gt;<br>line"]


def test_json_in_a_script_cannot_end_it() -> None:
    value = {"name": "</script><!-- \u2028 & <script>"}
    text = script_json(value)
    assert text.isascii()
    assert not set("<>&") & set(text)
    assert json.loads(text) == value
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_json({"value": math.nan})
