"""One table, in Markdown, CSV, the terminal and the page."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from bitdraft.present.page.raw_section import flat, precision_tables, sweep_tables
from bitdraft.present.precision_table import precision_table
from bitdraft.present.recommendation_files import recommendation_table
from bitdraft.present.sweep_table import best_rows, plan_table, sweep_table
from bitdraft.present.table import Cell, Column, Table, Value, best_of, csv_text, interval_hint, markdown
from bitdraft.present.terminal import print_table, show_precision, show_recommendation, show_spec_decode
from bitdraft.schema.findings import answer
from bitdraft.schema.records import Figure, Generation
from bitdraft.schema.spec_decode import SpecDecodeVerdict
from report_results import (
    batch_rows,
    figure,
    plan_result,
    precision_result,
    recommendation,
    sweep_result,
    sweep_row,
)


def texts(table: Table) -> list[list[str]]:
    """What the cells show."""
    return [
        [column.both(cell) for column, cell in zip(table.columns, row, strict=True)] for row in table.rows
    ]


def place(table: Table, title: str) -> int:
    return [column.title for column in table.columns].index(title)


def test_the_best_share_their_mark_with_what_is_tied() -> None:
    far, near = Figure(value=10, low=9, high=11), Figure(value=12, low=10.5, high=13)
    low = Figure(value=5, low=4, high=6)
    assert best_of([far, near, low], higher_is_better=True) == {0, 1}
    assert best_of([far, near, low], higher_is_better=False) == {2}
    assert best_of([far, near], higher_is_better=True) == set(), "nothing is distinguishable"
    assert best_of([far, None], higher_is_better=True) == set()
    single = [Figure(value=value) for value in (1.0, 1.05, 1.2)]
    assert best_of(single, higher_is_better=False) == {0, 1}


def test_markdown_is_aligned_escaped_and_marked() -> None:
    rows = [[Cell("a|b"), Cell(figure(2.0), "best")], [Cell("c\nd"), Cell(Figure(value=1.0), "worse")]]
    table = Table("t", [Column("Name"), Column("Value ×", "value", 1)], rows)
    assert markdown(table) == [
        "| Name | Value × |",
        "| --- | ---: |",
        "| a\\|b | **2.0 [1.8, 2.2]** |",
        "| c d | ▼ 1.0 |",
    ]


def test_csv_has_units_ends_and_no_dashes() -> None:
    records: list[dict[str, Value]] = [
        {"draft": None, "peak_ram_gb": Figure(value=0.5), "peak_ram_gb_loading": 0.4, "speedup": None},
        {"draft": "a", "speedup": figure(2.0)},
    ]
    lines = list(csv.DictReader(io.StringIO(csv_text(records))))
    assert (lines[0]["draft"], lines[0]["peak_ram_gib"], lines[0]["speedup"]) == ("", "0.5", "")
    assert (lines[1]["speedup"], lines[1]["speedup_low"], lines[1]["speedup_n"]) == ("2.0", "1.8", "6")
    assert lines[0]["peak_ram_gib_loading"] == "0.4"
    assert "–" not in csv_text(records)


def test_a_precision_is_a_row_with_the_paired_speed() -> None:
    table = precision_table(precision_result())
    speed, change, status = (place(table, title) for title in ("Speed ×", "ΔPPL %", "Status"))
    assert [row[0].value for row in table.rows] == ["fp32", "fp16", "bf16"]
    assert texts(table)[2][speed] == "2.00 [1.90, 2.10]"
    assert table.rows[2][place(table, "Tok/s")].mark == "best"
    assert table.rows[2][change].mark == "bad", "the interval of its change is above 0"
    assert texts(table)[1][status : status + 2] == ["overflow", "non-finite numbers from layer.3"]
    assert "MBU (" not in interval_hint(table)
    assert "RAM GiB (a single value)" in interval_hint(table)


def test_a_sweeps_table_has_every_row_and_marks_what_is_recommended() -> None:
    verdict = SpecDecodeVerdict(speculate=True, draft="a", k=3, indistinguishable=(("a", 3), ("a", 4)))
    result = sweep_result(verdict=verdict)
    table = sweep_table(result, result.rows, "t")
    assert [(row[0].value, row[1].value) for row in table.rows] == [
        ("plain decoding", 0),
        ("a", 2),
        ("a", 3),
        ("a", 4),
        ("ngram", 2),
        ("ngram", 3),
        ("ngram", 4),
    ]
    speedup = place(table, "Speedup")
    assert [i for i, row in enumerate(table.rows) if row[speedup].mark == "best"] == [2, 3]
    assert [i for i, row in enumerate(table.rows) if row[speedup].mark == "bad"] == [4, 5]
    assert table.groups == {1, 4}
    assert texts(table)[6][place(table, "Status")] == "failed"
    assert texts(table)[0][place(table, "Same ids")] == "", "the others are compared with it"
    assert [(row.draft, row.k) for row in best_rows(result)] == [(None, 0), ("a", 3), ("a", 4), ("ngram", 2)]


def test_batches_are_compared_within_their_size() -> None:
    result = sweep_result(rows=(*sweep_result().rows, *batch_rows()))
    table = sweep_table(result, result.batches, "t")
    assert [row[0].value for row in table.rows] == [4, 4, 8, 8, 16]
    assert texts(table)[4][place(table, "Status")] == "oom"
    assert "RAM GiB" not in [column.title for column in table.columns]


def test_a_plan_is_a_table_of_predictions() -> None:
    table = plan_table(plan_result())
    assert [row[2].mark for row in table.rows] == ["", "", "best"]
    assert texts(table)[2][2:] == ["1.40", "1.10", "2.00"]


def test_a_recommendations_table_names_every_standing() -> None:
    table = recommendation_table(recommendation(), list(recommendation().contenders))
    assert [row[0].value for row in table.rows] == ["chosen", "tied", "slower", "predicted", "out"]
    assert texts(table)[0][place(table, "ΔPPL %")] == "+0.200 [+0.100, +0.300]"
    assert texts(table)[3][place(table, "Predicted")] == "1.20"


def test_a_narrow_terminal_names_what_it_leaves_out() -> None:
    console = Console(width=40, record=True, file=io.StringIO())
    columns = [Column("Name"), Column("A", digits=1), Column("Less important", digits=1, rank=1)]
    rows = [[Cell("a name of some length"), Cell(1.0), Cell(2.0)]]
    print_table(console, Table("t", columns, rows), with_intervals=False)
    shown = console.export_text()
    assert "No room here for Less important" in shown
    assert "2.0" not in shown


@pytest.mark.parametrize("width", [80, 200])
def test_the_verdict_is_the_last_thing_on_a_screen_of_24_lines(width: int) -> None:
    shows: tuple[tuple[Callable[..., None], Any], ...] = (
        (show_precision, precision_result()),
        (show_spec_decode, sweep_result()),
        (show_recommendation, recommendation()),
    )
    for show, result in shows:
        console = Console(width=width, record=True, file=io.StringIO())
        show(console, result)
        lines = console.export_text().rstrip().splitlines()
        assert lines[-1] == result.summary
        assert len(lines) <= 22, "two are left for the prompt and the page"
        assert max(map(len, lines)) <= width
        verbose = Console(width=width, record=True, file=io.StringIO())
        show(verbose, result, verbose=True)
        text = verbose.export_text()
        assert all(reason in " ".join(text.split()) for reason in result.reasons)
        assert text.rstrip().splitlines()[-1] == result.summary


def test_raw_tables_hold_every_figure() -> None:
    (figures,) = precision_tables(precision_result())
    assert len(figures.rows) == 6 + 6 + 4
    assert texts(figures)[0] == ["fp32", "throughput_tok_s", "100", "90", "110", "6", ""]
    with_batches = sweep_result(rows=(*sweep_result().rows, *batch_rows()))
    names = [table.title for table in sweep_tables(with_batches)]
    assert names == ["Figures", "Realised K", "Replay of every K"]
    assert texts(sweep_tables(sweep_result())[1])[0] == ["a", "2", "0: 3, 2: 97", "2"]


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
    assert [column.title for column in prompts.columns] == ["Prompt", "Tokens", "FP32 tok/s", "FP32 TTFT ms"]
    assert texts(prompts) == [["one", "5", "10.0", "100.00"], ["two", "5", "5.0", "200.00"]]
    own = sweep_row("a", 3, 2.0).model_copy(update={"runs": (run(0, 0.1, 0.5), run(10, 10.2, 11.0))})
    base = sweep_result().rows[0].model_copy(update={"runs": plain})
    prompts = sweep_tables(sweep_result(rows=(base, sweep_row("a", 2, 1.5), own), text=text))[1]
    assert prompts.columns[-1].title == "a, K = 3 ×"
    assert texts(prompts) == [
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


def test_on_a_machine_too_noisy_to_compare_no_speed_is_best() -> None:
    result = precision_result()
    told = answer("precision.too_drifted", "fp32", drift=1.5)
    for findings, is_marked in ((result.findings, True), ((told, *result.findings), False)):
        table = precision_table(result.model_copy(update={"findings": findings}))
        at = place(table, "Tok/s")
        assert any(row[at].mark == "best" for row in table.rows) == is_marked
