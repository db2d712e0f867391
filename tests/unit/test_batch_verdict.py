"""Whether speculation pays over the batch size, on constructed rows where the right answer is known; their
chart; and results of before there were batches."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from bitdraft.config import SpecDecodeConfig, make_config
from bitdraft.errors import UserError
from bitdraft.present.charts.batches import batch_chart
from bitdraft.present.sentences import with_sentences
from bitdraft.present.sweep_files import markdown_text
from bitdraft.present.terminal import show_spec_decode
from bitdraft.schema.records import Figure
from bitdraft.schema.spec_decode import (
    BatchVerdict,
    CostRecord,
    LosslessCheck,
    SpecDecodeResult,
    SpecDecodeRow,
)
from bitdraft.spec_decode import verdict as verdict_module
from bitdraft.spec_decode.records import GroupRecord, PromptRecord, Records
from said import Said
from tiny import generation

Rows = list[SpecDecodeRow]
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


def rows_of(speedups: dict[int, float], wide: float | None = 0.02, n: int = 8) -> tuple[Rows, Rows]:
    """At every batch size K = 0, draft a at these speedups, and draft b, which is slower: batch 1, then the
    larger ones."""
    rows: list[SpecDecodeRow] = []
    batches: list[SpecDecodeRow] = []
    for size, speedup in speedups.items():
        for draft, k, value in ((None, 0, 1.0), ("a", 2, speedup), ("b", 2, speedup * 0.9)):
            checked = LosslessCheck(identical=8, num_prompts=8) if size > 1 else None
            row = SpecDecodeRow(
                batch_size=size,
                draft=draft,
                k=k,
                status="ok",
                metrics=metrics(value, wide, n),
                lossless=checked,
                runs=(RUN,),
            )
            (batches if size > 1 else rows).append(row)
    return rows, batches


RUN = generation(0, [0.1, 0.2])


def of_batches(rows: Rows, batches: Rows) -> Said:
    """What is said of batches alone."""
    verdict, findings = verdict_module.decide([*rows, *batches], CostRecord())
    return Said(verdict.batches, [one for one in findings if one.code.startswith("batch.")])


def decide(*args: Any, **kw: Any) -> tuple[BatchVerdict, list[str]]:
    found = of_batches(*rows_of(*args, **kw))
    assert isinstance(found._verdict, BatchVerdict)
    return found._verdict, found.reasons


def test_it_pays_everywhere() -> None:
    record, reasons = decide(EVERYWHERE)
    assert reasons == [
        "Batch 4: a, K = 2 is 1.30× [1.27, 1.32] plain decoding.",
        "Batch 8: a, K = 2 is 1.10× [1.07, 1.12] plain decoding.",
        "Speculation pays at every batch size that was measured.",
        "Larger batches: all 48 texts, those of plain decoding included, are those of batch 1.",
    ]
    assert (record.stops_at, record.by_value) == (None, ())
    assert [(best.batch_size, best.draft, best.k, best.pays) for best in record.best] == [
        (size, "a", 2, True) for size in (1, 4, 8)
    ]


def test_it_stops_at_8() -> None:
    record, reasons = decide({1: 1.5, 4: 1.1, 8: 0.8, 16: 0.91})
    assert (
        "Batch 8: even the fastest, a, K = 2, is slower than plain decoding (0.80× [0.77, 0.82])." in reasons
    )
    assert "From batch 8 on speculation does not pay (best 0.91×)." in reasons
    assert record.stops_at == 8


def test_a_tie_does_not_pay() -> None:
    record, reasons = decide({1: 1.5, 4: 1.01})
    assert any(
        "a, K = 2, is statistically tied with plain decoding (1.01× [0.98, 1.03])" in r for r in reasons
    )
    assert "From batch 4 on speculation does not pay (best 1.01×)." in reasons
    assert [best.pays for best in record.best] == [True, False]


def test_it_never_pays() -> None:
    record, reasons = decide({1: 0.9, 4: 0.8})
    assert "Speculation pays at no batch size that was measured." in reasons
    assert record.stops_at == 1


def test_it_pays_in_between() -> None:
    record, reasons = decide({1: 0.9, 2: 1.2, 4: 1.1, 8: 0.9})
    assert "Speculation pays at batch 2 and 4 alone." in reasons
    assert record.stops_at == 8


def test_a_wide_interval_is_open_and_neither_pays_nor_ends_it() -> None:
    record, reasons = decide({1: 1.5, 4: 1.2, 8: 1.3}, wide=0.3)
    assert "Batch 4: open. The fastest that may pay, a, K = 2, is 1.20×" in " ".join(reasons)
    assert "Speculation pays at batch 1; at batch 4 and 8 it is open." in reasons
    assert [best.pays for best in record.best] == [True, None, None]
    assert (record.stops_at, record.by_value) == (None, ())
    rows, batches = rows_of({1: 1.5, 16: 0.7})
    _, wide = rows_of({8: 0.98}, wide=0.3)
    found = of_batches(rows, [*wide, *batches])
    assert "From batch 16 on speculation does not pay (best 0.70×); at batch 8 it is open." in found.reasons
    rows, batches = rows_of({1: 0.8, 16: 0.7})
    found = of_batches(rows, [*wide, *batches])
    assert (
        "Speculation is shown to pay at no batch size that was measured; at batch 8 it is open."
        in found.reasons
    )


def test_without_intervals_it_is_by_value() -> None:
    record, reasons = decide({1: 1.5, 4: 0.9}, wide=None, n=1)
    none = "By value none is faster: the best, a, K = 2, has 0.90× the speed of plain decoding."
    assert f"Batch 4: 1 group is too few to say. {none}" in reasons
    assert any(
        "From batch 4 on speculation does not pay (best 0.90×); all of this by value" in r for r in reasons
    )
    assert [best.pays for best in record.best] == [None, None]
    assert (record.stops_at, record.by_value) == (4, (1, 4))
    rows, batches = rows_of({1: 1.5, 4: 1.3})
    _few_rows, few_batches = rows_of({8: 1.1, 16: 1.05}, wide=None, n=2)
    reasons = of_batches(rows, [*batches, *few_batches]).reasons
    sentence = "Speculation pays at every batch size that was measured; at batch 8 and 16 by value alone."
    assert sentence in reasons


def test_failed_arms_and_batches_are_reasons_and_the_rest_decides() -> None:
    rows, batches = rows_of(EVERYWHERE)
    failed = [row.model_copy(update=LOST) for row in batches]
    partly = of_batches(rows, [batches[0], failed[1], *batches[2:]])
    assert "Batch 4, a, K = 2: oom (no room)." in partly.reasons
    assert "Batch 4: b, K = 2 is 1.17× [1.14, 1.19] plain decoding." in partly.reasons
    wholly = of_batches(rows, [*batches[:3], *failed[3:]])
    assert [reason for reason in wholly.reasons if "Batch 8" in reason] == ["Batch 8: oom (no room)."]
    assert [best.batch_size for best in wholly.best] == [1, 4]
    drafts_lost = of_batches(rows, [batches[0], *failed[1:3], *batches[3:]])
    assert "Batch 4: no draft finished, so that nothing is known of speculation there." in drafts_lost.reasons
    nothing = of_batches(rows, failed)
    assert not any("Speculation pays" in reason for reason in nothing.reasons)


def test_other_texts_are_said_to_be_unchecked() -> None:
    rows, batches = rows_of({1: 1.5, 4: 1.1})
    batches[1] = batches[1].model_copy(update={"lossless": LosslessCheck(identical=7, num_prompts=8)})
    reasons = of_batches(rows, batches).reasons
    assert any(
        reason.startswith("Larger batches: 23 of 24 texts, those of plain decoding") for reason in reasons
    )
    sampled = [row.model_copy(update={"lossless": None}) for row in batches]
    assert not any("Larger" in reason for reason in of_batches(rows, sampled).reasons)


def result_of(rows: Rows, batches: Rows) -> SpecDecodeResult:
    fields: dict[str, Any] = {
        "config": {"k": [2], "max_new_tokens": 13},
        "environment": {"cpu": "a processor", "torch": "2", "transformers": "5", "time_utc": "now"},
        "model": {"name": "a $model$"},
        "text": {"dataset": "story", "sha256": "0" * 64, "prompt_ids": ["1"] * 8},
    }
    return with_sentences(SpecDecodeResult(rows=(*rows, *batches), **fields))


@pytest.mark.parametrize("case", ["all", "few groups", "some failed", "one draft lost"])
def test_chart_and_tables_are_made_whatever_failed(case: str) -> None:
    rows, batches = rows_of(EVERYWHERE)
    if case == "few groups":
        batches = rows_of(EVERYWHERE, wide=None)[1]
    failed = {"some failed": {3, 4, 5}, "one draft lost": {1, 4}}.get(case, set())
    batches = [r.model_copy(update=LOST) if place in failed else r for place, r in enumerate(batches)]
    result = result_of(rows, batches)
    assert batch_chart(result).png().startswith(b"\x89PNG\r\n\x1a\n")
    assert markdown_text(result).count("| oom |") == len(failed)
    for width in (80, 140):
        console = Console(width=width, record=True)
        with console.capture() as capture:
            show_spec_decode(console, result)
        assert "Several prompts at once" in capture.get()
        assert sum("oom" in line for line in capture.get().splitlines() if "│" in line) == len(failed)


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
    def ended(num_prompts: int) -> Records:
        records = Records(make_config(SpecDecodeConfig, {"batch_sizes": (2, 4, 8), "k": 3}), ["a"])
        empty = PromptRecord(text=(), runs={}, agreement={}, costs=None, kv_bytes={})
        records.prompts = [empty] * 8
        records.groups = {2: [GroupRecord((0, 1), {})] * 4, 4: [GroupRecord((0, 1, 2, 3), {})]}
        records.end_early(num_prompts, "oom", "killed")
        return records

    assert ended(9).failures == {}  # the sweep itself was not at its end
    assert ended(9).notes[0].code == "spec.ended_early"
    records = ended(8)
    expected = {
        (None, 0, 4): ("oom", "killed"),
        (None, 0, 8): ("oom", "not tried, because batch 4 ended: killed"),
    }
    assert records.failures == expected
    records.end_early(8, "failed", "interrupted")
    assert records.failures == expected
