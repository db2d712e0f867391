"""Whether speculation pays over the batch size, on constructed rows where the right answer is known; their
chart; and results of before there were batches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bitdraft.config import SpecDecodeConfig, make_config
from bitdraft.errors import UserError
from bitdraft.schema.history import SCHEMA_VERSION
from bitdraft.schema.io import load_result, to_json
from bitdraft.schema.records import Figure
from bitdraft.schema.results import BatchRow, SpecDecodeResult, SpecDecodeRow
from bitdraft.present.charts.batches import batch_chart
from bitdraft.spec_decode.batch_verdict import with_batches
from bitdraft.present.sweep_files import markdown_text
from bitdraft.spec_decode.records import Records
from bitdraft.present.terminal import show_spec_decode

Row = SpecDecodeRow | BatchRow
VERDICT: dict[str, Any] = {"summary": "Speculate.", "reasons": ["First."]}
LOST: dict[str, Any] = {"status": "oom", "reason": "no room", "metrics": {}, "lossless": None}
EVERYWHERE = {1: 1.5, 4: 1.3, 8: 1.1}


def figure(value: float, wide: float | None = 0.02, n: int = 8) -> Figure:
    if wide is None:
        return Figure(value=value, n=n)
    return Figure(value=value, low=value - wide, high=value + wide, n=n)


def metrics(speedup: float, wide: float | None, n: int) -> dict[str, Figure]:
    rate = figure(100 * speedup, None if wide is None else 100 * wide, n)
    own = {"throughput_tok_s": rate, "speedup": figure(speedup, wide, n), "acceptance_rate": figure(0.5)}
    return own | {"tokens_per_step": figure(2.0), "tpot_ms": figure(3.0), "over_batch_1": figure(1.2)}


def rows_of(
    speedups: dict[int, float], wide: float | None = 0.02, n: int = 8
) -> tuple[list[SpecDecodeRow], list[BatchRow]]:
    """At every batch size K = 0, draft a at these speedups, and draft b, which is slower."""
    rows, batches = [], []
    for size, speedup in speedups.items():
        for draft, k, value in (("–", 0, 1.0), ("a", 2, speedup), ("b", 2, speedup * 0.9)):
            figures = metrics(value, wide, n)
            fields: dict[str, Any] = {"draft": draft, "k": k, "status": "ok", "metrics": figures}
            if size > 1:
                batches.append(
                    BatchRow(batch_size=size, lossless={"identical": 8, "num_prompts": 8}, **fields)
                )
            elif k:
                rows.append(SpecDecodeRow(backend="native", **fields))
    return rows, batches


def decide(*args: Any, **kw: Any) -> tuple[dict[str, Any], list[str]]:
    rows, batches = rows_of(*args, **kw)
    verdict = with_batches(VERDICT, rows, batches)
    assert verdict["reasons"][0] == "First."
    return verdict["batches"], verdict["reasons"][1:]


def test_it_pays_everywhere() -> None:
    record, reasons = decide(EVERYWHERE)
    assert reasons == [
        "Batch 4: a, K = 2 is 1.30× [1.28, 1.32] plain decoding.",
        "Batch 8: a, K = 2 is 1.10× [1.08, 1.12] plain decoding.",
        "Speculation pays at every batch size that was measured.",
        "Larger batches: all 48 texts, those of K = 0 included, are those of batch 1.",
    ]
    assert (record["stops_at"], record["by_value"]) == (None, [])
    assert [(best["batch_size"], best["draft"], best["k"], best["pays"]) for best in record["best"]] == [
        (size, "a", 2, True) for size in (1, 4, 8)
    ]


def test_it_stops_at_8() -> None:
    record, reasons = decide({1: 1.5, 4: 1.1, 8: 0.8, 16: 0.91})
    assert (
        "Batch 8: even the fastest, a, K = 2, is slower than plain decoding (0.80× [0.78, 0.82])." in reasons
    )
    assert "From batch 8 on speculation does not pay (best 0.91×)." in reasons
    assert record["stops_at"] == 8


def test_a_tie_does_not_pay() -> None:
    record, reasons = decide({1: 1.5, 4: 1.01})
    assert any("a, K = 2, cannot be told from plain decoding (1.01× [0.99, 1.03])" in r for r in reasons)
    assert "From batch 4 on speculation does not pay (best 1.01×)." in reasons
    assert [best["pays"] for best in record["best"]] == [True, False]


def test_it_never_pays() -> None:
    record, reasons = decide({1: 0.9, 4: 0.8})
    assert "Speculation pays at no batch size that was measured." in reasons
    assert record["stops_at"] == 1


def test_it_pays_in_between() -> None:
    record, reasons = decide({1: 0.9, 2: 1.2, 4: 1.1, 8: 0.9})
    assert "Speculation pays at batch 2 and 4 alone." in reasons
    assert record["stops_at"] == 8


def test_without_intervals_it_is_by_value() -> None:
    record, reasons = decide({1: 1.5, 4: 0.9}, wide=None, n=1)
    few = "Batch 4: 1 group is too few to say. By value the best is a, K = 2: 0.90× plain decoding."
    assert few in reasons
    assert any(
        "From batch 4 on speculation does not pay (best 0.90×); all of this by value" in r for r in reasons
    )
    assert [best["pays"] for best in record["best"]] == [None, None]
    assert (record["stops_at"], record["by_value"]) == (4, [1, 4])
    rows, batches = rows_of({1: 1.5, 4: 1.3})
    few_rows, few_batches = rows_of({8: 1.1, 16: 1.05}, wide=None, n=2)
    reasons = with_batches(VERDICT, [*rows, *few_rows], [*batches, *few_batches])["reasons"]
    sentence = "Speculation pays at every batch size that was measured; at batch 8 and 16 by value alone."
    assert sentence in reasons


def test_failed_arms_and_batches_are_reasons_and_the_rest_decides() -> None:
    rows, batches = rows_of(EVERYWHERE)
    failed = [row.model_copy(update=LOST) for row in batches]
    partly = with_batches(VERDICT, rows, [batches[0], failed[1], *batches[2:]])
    assert "Batch 4, a, K = 2: oom (no room)." in partly["reasons"]
    assert "Batch 4: b, K = 2 is 1.17× [1.15, 1.19] plain decoding." in partly["reasons"]
    wholly = with_batches(VERDICT, rows, [*batches[:3], *failed[3:]])
    assert [reason for reason in wholly["reasons"] if "Batch 8" in reason] == ["Batch 8: oom (no room)."]
    assert [best["batch_size"] for best in wholly["batches"]["best"]] == [1, 4]
    drafts_lost = with_batches(VERDICT, rows, [batches[0], *failed[1:3], *batches[3:]])
    assert (
        "Batch 4: no draft finished, so that nothing is known of speculation there." in drafts_lost["reasons"]
    )
    nothing = with_batches(VERDICT, rows, failed)
    assert not any("Speculation pays" in reason for reason in nothing["reasons"])


def test_other_texts_are_said_to_be_unchecked() -> None:
    rows, batches = rows_of({1: 1.5, 4: 1.1})
    batches[1] = batches[1].model_copy(update={"lossless": {"identical": 7, "num_prompts": 8}})
    reasons = with_batches(VERDICT, rows, batches)["reasons"]
    assert any(reason.startswith("Larger batches: 23 of 24 texts, those of K = 0") for reason in reasons)
    sampled = [row.model_copy(update={"lossless": None}) for row in batches]
    assert not any("Larger" in reason for reason in with_batches(VERDICT, rows, sampled)["reasons"])


def result_of(rows: list[SpecDecodeRow], batches: list[BatchRow]) -> SpecDecodeResult:
    config = {"k": [2], "plan": False, "temperature": 0.0, "ignore_eos": True, "max_new_tokens": 13}
    config |= {"precision": "fp32", "draft_precision": None, "backend": "native"}
    return SpecDecodeResult(
        config=config,
        environment={"cpu": "a processor", "torch": "2", "transformers": "5", "time_utc": "now"},
        model={"name": "a $model$"},
        drafts={},
        text={"dataset": "story", "sha256": "0" * 64, "prompt_ids": ["1"] * 8},
        baseline={"metrics": {"throughput_tok_s": figure(100.0).model_dump()}},
        rows=tuple(rows),
        batches=tuple(batches),
        verdict=with_batches(VERDICT, rows, batches),
    )


@pytest.mark.parametrize("case", ["all", "few groups", "some failed", "one draft lost"])
def test_chart_and_tables_are_made_whatever_failed(case: str) -> None:
    rows, batches = rows_of(EVERYWHERE)
    if case == "few groups":
        batches = rows_of(EVERYWHERE, wide=None)[1]
    failed = {"some failed": {3, 4, 5}, "one draft lost": {1, 4}}.get(case, set())
    batches = [r.model_copy(update=LOST) if place in failed else r for place, r in enumerate(batches)]
    result = result_of(rows, batches)
    assert batch_chart(result).startswith(b"\x89PNG\r\n\x1a\n")
    assert markdown_text(result).count("| oom |") == len(failed)
    for width in (80, 140):
        console = Console(width=width, record=True)
        with console.capture() as capture:
            show_spec_decode(console, result)
        assert "Several prompts at once" in capture.get()
        assert sum("oom" in line for line in capture.get().splitlines() if "│" in line) == len(failed)


def test_a_version_1_file_is_read_as_it_was(tmp_path: Path) -> None:
    result = result_of(rows_of({1: 1.5})[0], [])
    data = json.loads(to_json(result)) | {"schema_version": 1}
    del data["batches"]
    path = tmp_path / "spec_decode_story.json"
    path.write_text(json.dumps(data))
    loaded = load_result(path, SpecDecodeResult)
    assert (loaded.schema_version, loaded.batches, loaded.rows) == (1, (), result.rows)
    assert result.schema_version == SCHEMA_VERSION
    assert "Several prompts" not in markdown_text(loaded)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("1,4,8", (1, 4, 8)),
        ("8,2", (1, 2, 8)),
        (4, (1, 4)),
        ("2-4", (1, 2, 3, 4)),
        ((64,), (1, 64)),
        (1, (1,)),
    ],
)
def test_batch_sizes_hold_1_and_are_in_order(given: Any, expected: tuple[int, ...]) -> None:
    assert make_config(SpecDecodeConfig, {"batch_sizes": given}).batch_sizes == expected
    assert SpecDecodeConfig().batch_sizes == (1,)


@pytest.mark.parametrize("given", ["", "0", "four", "8-2", "1,65", 0, 65, (), "1-9999999999"])
def test_other_batch_sizes_are_refused(given: Any) -> None:
    with pytest.raises(UserError, match="Give numbers from 1 to 64, as 1,4,8") as caught:
        make_config(SpecDecodeConfig, {"batch_sizes": given})
    assert caught.value.field == "batch_sizes"


def test_a_process_that_ends_in_a_batch_is_its_failure() -> None:
    records = Records(make_config(SpecDecodeConfig, {"batch_sizes": (2, 4, 8)}), ["a"])
    records.prompts = [{}] * 8
    records.batches = [{"batch_size": size} for size in (2, 2, 2, 2, 4)]
    assert not records.end_batches(9, "oom", "killed")  # the sweep itself was not at its end
    assert records.end_batches(8, "oom", "killed")
    assert records.batch_failures == {
        (4, None, 0): ("oom", "killed"),
        (8, None, 0): ("oom", "not tried, because batch 4 ended: killed"),
    }
    assert not records.end_batches(8, "failed", "interrupted")
