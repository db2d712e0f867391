"""Charts hold the results' own numbers."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest

from bitdraft.present.charts import anatomy, batches, overview, precision, recommendation, sweep
from bitdraft.present.charts.plot import Axis, Panel, Plot, Point, figure_text, reach
from bitdraft.present.charts.style import COLOURS, SHAPES, style_at, styles_of
from bitdraft.present.files import write_charts
from bitdraft.present.page.model import Chart
from bitdraft.schema.precision import Quality
from bitdraft.schema.records import Figure
from bitdraft.schema.spec_decode import DraftPlan, SpecDecodeVerdict
from panels import intervals, layers, points, words
from report_results import (
    KS,
    batch_rows,
    figure,
    plan_result,
    precision_result,
    sweep_result,
    sweep_row,
)
from report_results import (
    recommendation as recommendation_result,
)

PNG = b"\x89PNG"


def test_metrics_are_bars_with_their_intervals() -> None:
    throughput, _, ttft, memory = precision.bars(precision_result())
    assert points(throughput, "bar") == [[("FP32", 100.0)], [("BF16", 200.0)]]
    assert intervals(throughput) == [(90.0, 110.0), (180.0, 220.0)]
    assert words(throughput) == ["100.0", "overflow", "200.0"]
    assert "FP32 100.0 [90.0, 110.0] tokens/s, n = 6" in throughput.alt
    assert "FP16 overflow" in throughput.alt
    assert points(memory, "bar") == [[("FP32", 1.0)], [("BF16", 0.5)]]
    assert intervals(memory) == []
    assert "(ms)" in ttft.title


def test_bars_begin_at_zero_and_hold_every_whisker() -> None:
    (low, high) = precision.bars(precision_result())[0].plot.y.domain or (1, 1)
    assert low == 0
    assert high > 220


def test_perplexity_is_its_paired_change_around_zero() -> None:
    panel = precision.perplexity(precision_result())
    ((point,),) = points(panel, "point")
    assert point == (pytest.approx(100 * math.expm1(0.002)), "BF16")
    ((low, high),) = intervals(panel)
    assert [low, high] == pytest.approx([0.1, 0.3], rel=1e-2)
    zero, limit = ([row["x"] for row in rows] for rows in layers(panel, "rule") if "low" not in rows[0])
    assert (zero, limit) == ([0.0], [0.5])
    assert "PPL 30.00, the reference" in words(panel)
    assert "+0.20 · PPL 30.00" in words(panel)


def test_a_limit_far_out_is_said_and_not_drawn() -> None:
    result = precision_result()
    far = result.model_copy(update={"verdict": result.verdict.model_copy(update={"max_ppl_increase": 0.5})})
    panel = precision.perplexity(far)
    assert [row["x"] for rows in layers(panel, "rule") for row in rows if "low" not in row] == [0.0]
    assert "+50 %" in panel.caption


def test_quality_differences_are_in_nats_and_percent() -> None:
    divergence, same, moved = precision.quality(precision_result())
    assert points(divergence, "point") == [[(2e-4, "BF16")]]
    assert points(same, "point") == [[(98.0, "BF16")]]
    assert points(moved, "point") == [[(0.4, "BF16")]]


def test_the_trade_off_is_speed_over_memory_with_the_change_as_label() -> None:
    panel = precision.trade_off(precision_result())
    assert points(panel, "point") == [[(1.0, 100.0)], [(0.5, 200.0)]]
    assert words(panel) == ["FP32", "BF16 +0.20 %"]


def test_random_weights_have_no_quality() -> None:
    result = precision_result()
    rows = tuple(
        row.model_copy(update={"quality": Quality(not_measured="random weights")}) for row in result.rows
    )
    bare = result.model_copy(update={"rows": rows})
    assert words(precision.perplexity(bare)) == ["random weights: quality not measured"]
    assert precision.quality(bare) == []
    assert words(precision.trade_off(bare)) == ["FP32", "BF16"]


def test_throughput_over_k_has_dots_whiskers_and_plain_decoding() -> None:
    panel = sweep.throughput(sweep_result())
    a, ngram = points(panel, "point")
    assert [y for _, y in a] == [140.0, 160.0, 150.0]
    assert [round(x) for x, _ in a] == list(KS)
    assert [y for _, y in ngram] == [90.0, 90.0]
    assert all(x != other for (x, _), (other, _) in zip(a, ngram, strict=False)), "side by side"
    assert intervals(panel)[0] == (126.0, 154.0)
    assert {"plain decoding 100.0", "a", "ngram"} == set(words(panel))
    assert layers(panel, "rect") == [[{"low": 90.0, "high": pytest.approx(110.0)}]]
    (row,) = [row for rows in layers(panel, "point") for row in rows if row["t0"] == "a, K = 3"]
    assert (row["t1"], row["t2"]) == ("160.0 [144.0, 176.0], n = 6", "1.60× [1.44, 1.76]")


def test_what_was_predicted_is_a_thin_line_with_the_measured_on_it() -> None:
    by_k = {
        str(k): {"replay": 1.3, "replay_end_to_end": 1 + k / 10, "tokens_per_step": 2.0} for k in range(2, 5)
    }
    plan = DraftPlan.model_validate({"by_k": by_k, "best_k": {"replay": 4}})
    panel = sweep.throughput(sweep_result(plan={"a": plan}))
    assert points(panel, "line") == [[(2, 120.0), (3, 130.0), (4, 140.0)]]
    assert "thin line: predicted" in panel.caption
    assert points(sweep.speedup(sweep_result(plan={"a": plan})), "line") == [[(2, 1.2), (3, 1.3), (4, 1.4)]]


def test_a_star_is_shared_by_what_is_tied() -> None:
    verdict = SpecDecodeVerdict(speculate=True, draft="a", k=3, indistinguishable=(("a", 3), ("a", 4)))
    panel = sweep.throughput(sweep_result(verdict=verdict))
    a, _, *stars = points(panel, "point")
    assert [y for _, y in a] == [140.0]
    assert sorted(y for rows in stars for _, y in rows) == [150.0, 160.0]
    assert "★ recommended and tied" in panel.caption
    refused = sweep_result(verdict=SpecDecodeVerdict(speculate=False))
    assert "★" not in sweep.throughput(refused).caption


def test_acceptance_over_k_has_the_replay_beside_it() -> None:
    panel = sweep.acceptance(sweep_result())
    replay, joined = points(panel, "line")
    assert replay == [(2, 0.5), (3, pytest.approx(1 / 3)), (4, 0.25)]
    assert joined == [(2, 0.5), (3, pytest.approx(1 / 3))], "without a replay, points are joined"


def test_few_prompts_have_no_whiskers() -> None:
    rows = tuple(sweep_row("a", k, 1.5, wide=None) for k in KS)
    panel = sweep.speedup(sweep_result(rows=(sweep_result().rows[0], *rows)))
    assert intervals(panel) == []


def test_what_is_not_drawn_is_said() -> None:
    assert sweep.comparison(sweep_result()).note == "not drawn: ngram K=4: failed"


def test_anatomy_holds_positions_parts_and_predictions() -> None:
    result = sweep_result()
    shares = points(anatomy.positions(result), "point")[0]
    assert [y for _, y in shares] == pytest.approx([0.8, 0.4, 0.8 / 3, 0.2], abs=1e-6)
    steps = anatomy.step_times(result)
    draft, verify, host = layers(steps, "bar")[:3]
    assert [row["y"] - row["start"] for row in draft] == [1.0, 1.5, 2.0]
    assert [row["y"] - row["start"] for row in verify] == [2.0] * 3
    assert [row["y"] - row["start"] for row in host] == pytest.approx([0.1] * 3)
    assert [y for _, y in points(steps, "tick")[0]] == pytest.approx([2.7, 3.1, 3.5])
    speedups = anatomy.predictions(result)
    assert [y for _, y in points(speedups, "point")[0]] == [1.4, 1.6, 1.5]
    replay, formula = points(speedups, "line")[:2]
    assert [y for _, y in replay] == pytest.approx([1.45, 1.65, 1.55])
    assert [y for _, y in formula] == pytest.approx([1.5, 1.7, 1.6])


def test_costs_are_shown_over_tokens() -> None:
    panel = anatomy.costs(sweep_result())
    target, draft = points(panel, "point")
    assert target == [(1, 2.0), (3, 2.2), (5, 2.4)]
    assert draft == [(1, 0.2)]


def test_batches_begin_with_the_sweep_and_leave_out_what_failed() -> None:
    result = sweep_result(rows=(*sweep_result().rows, *batch_rows()))
    throughput, speedup = batches.batch_panels(result)
    plain, a, _ = points(throughput, "point")
    assert plain == [(1, 100.0), (4, 400.0), (8, 800.0)]
    assert [y for _, y in a] == pytest.approx([160, 480, 720])
    assert [y for _, y in points(speedup, "point")[0]] == [1.6, 1.2, 0.9]
    assert "0.90 at batch 8" in speedup.alt
    assert batches.batch_chart(result).note.startswith("not drawn, because they failed: batch 16")


def test_a_plan_shows_predictions_without_intervals() -> None:
    predicted, acceptance = sweep.plan_panels(plan_result())
    line, star = points(predicted, "point")
    assert [y for _, y in line] == pytest.approx([1.2, 1.3, 1.4])
    assert star == [(4, 1.4)]
    assert [y for _, y in points(acceptance, "point")[0]] == pytest.approx([1 / 2, 1 / 3, 1 / 4], abs=1e-6)
    assert intervals(predicted) == []
    assert "nothing was swept" in predicted.caption


def test_the_front_holds_what_was_measured() -> None:
    panel = recommendation.front(recommendation_result())
    assert points(panel, "point") == [[(0.6, 320.0)], [(0.6, 310.0)], [(1.0, 100.0)]]
    assert {"bf16, a, K = 3", "fp32, plain"} == set(words(panel))
    assert "bf16, a, K = 3: 320.0; fp32, plain: 100.0" in (panel.alt if panel else "")


def test_side_by_side_shows_every_run() -> None:
    panel = overview.precisions([("one", precision_result()), ("two", precision_result(speed=50.0))])
    assert [x for rows in points(panel, "point") for x, _ in rows] == [100.0, 200.0, 50.0, 100.0]
    assert words(panel) == ["one: FP32", "one: BF16", "two: FP32", "two: BF16"]
    row = sweep_result().sweep[1]
    both = overview.speculation([(0, "one", row), (1, "two", row)])
    assert [x for rows in points(both, "point") for x, _ in rows] == [1.6, 1.6]
    assert overview.speculation([(0, "one", row)]) is None


def test_pictures_are_written_in_the_formats_that_are_asked_for(tmp_path: Path) -> None:
    chart = precision.chart(precision_result("a$b_{c}$ <script>"))
    assert write_charts(tmp_path, {"chart": chart}, ("png", "svg")) == ["chart.png", "chart.svg"]
    image = (tmp_path / "chart.png").read_bytes()
    assert image.startswith(PNG)
    assert 1600 < int.from_bytes(image[16:20]) < 2600
    drawn = (tmp_path / "chart.svg").read_text()
    assert "<script" not in drawn
    assert "a$b_{c}$ &lt;script&gt;" in drawn
    assert "Use bf16." in drawn, "the title is the finding"


def test_names_at_the_ends_of_lines_keep_their_distance() -> None:
    plot = Plot(Axis(domain=(0, 10)), Axis(domain=(0, 100)), height=200)
    plot.names([(10, 50.0, "one"), (10, 50.5, "two"), (10, 49.0, "three")])
    moved = [50.0 - mark["mark"]["dy"] * 100 / 200 for mark in plot.layered().to_dict()["layer"]]
    own = [50.0, 50.5, 49.0]
    places = sorted(y + shift - 50.0 for y, shift in zip(own, moved, strict=True))
    assert all(b - a >= 0.99 * 14 * 100 / 200 for a, b in pairwise(places))
    assert sum(places) / 3 == pytest.approx(sum(own) / 3, abs=0.1), "moved no further than needed"


def test_a_domain_holds_values_and_intervals() -> None:
    low, high = reach([Figure(value=2.0, low=1.0, high=4.0), 3.0])
    assert low < 1
    assert high > 4
    assert reach([Figure(value=2.0, low=1.0, high=4.0)], zero=True)[0] == 0
    assert reach([]) != (0.0, 0.0)
    low, high = reach([5.0])
    assert low < 5 < high


def test_no_two_of_42_series_look_alike() -> None:
    assert len({style_at(index) for index in range(len(COLOURS) * len(SHAPES))}) == 42


def test_a_draft_has_one_colour_whatever_stands_beside_it() -> None:
    alone, together = styles_of(["draft-medium"]), styles_of(["draft-small", "draft-medium", "ngram"])
    assert alone["draft-medium"] == together["draft-medium"]
    assert len({style.colour for style in together.values()}) == 3
    many = styles_of([f"draft-{index}" for index in range(6)])
    assert len({style.colour for style in many.values()}) == 6, "as many as there are colours"
    assert len(styles_of([f"draft-{index}" for index in range(9)])) == 9


def test_figures_without_an_interval_say_their_count_alone() -> None:
    assert figure_text(Figure(value=1.234, n=3), 2, "ms") == "1.23 ms, n = 3"
    assert figure_text(figure(2.0), 1, "ms") == "2.0 [1.8, 2.2] ms, n = 6"


def test_a_chart_of_no_number_is_refused() -> None:
    plot = Plot(Axis(), Axis())
    plot.dots([Point(1, math.nan)], style_at(0))
    with pytest.raises(ValueError, match="JSON compliant"):
        Chart.of(Panel("", "", "", plot))
