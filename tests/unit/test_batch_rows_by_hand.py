"""Larger batches: every number of a row traced from its raw records with plain Python, every text that of the
prompt alone, and what goes wrong kept to where it went wrong."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import bitdraft
from bitdraft.backends.native import NativeEngine
from bitdraft.metrics.speed import tokens_and_seconds
from bitdraft.present.sweep_files import csv_of, markdown_text
from bitdraft.schema.io import read_result
from bitdraft.schema.records import Generation
from bitdraft.schema.spec_decode import LosslessCheck, SpecDecodeResult, SpecDecodeRow
from bitdraft.spec_decode.batches import groups_of
from bitdraft.spec_decode.candidates import throughput
from bitdraft.stats.selection import LEAST_WORTH
from in_process import jobs_in_process
from tiny import noisy_copy, save_checkpoint

PROMPTS, NEW = 10, 16
ARMS: list[tuple[str | None, int]] = [(None, 0), ("cheap", 1), ("cheap", 3), ("ngram", 1), ("ngram", 3)]
Row = dict[str, Any]


@pytest.fixture(scope="module")
def settings(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("files")
    draft = save_checkpoint(folder / "draft", noisy_copy("gpt_neox", 0, 0.05))
    text = folder / "text.txt"
    text.write_text("".join(f"the cat and the hen number {i} sat in the barn\n" for i in range(90)))
    return {
        "model": str(checkpoint),
        "drafts": (f"cheap={draft}", "ngram"),
        "k": (1, 3),
        "batch_sizes": "1,2,3",
        "dataset": f"file:{text}",
        "num_prompts": PROMPTS,
        "max_prompt_tokens": 20,
        "max_new_tokens": NEW,
        "device": "cpu",
        "execution": "static",
    }


def measure(settings: dict[str, Any], **changes: Any) -> SpecDecodeResult:
    return bitdraft.evaluate_spec_decode(**settings | changes)


@pytest.fixture(scope="module")
def greedy(settings: dict[str, Any]) -> SpecDecodeResult:
    with jobs_in_process():
        return measure(settings)


@pytest.fixture(scope="module")
def sampled(settings: dict[str, Any]) -> SpecDecodeResult:
    with jobs_in_process():
        return measure(settings, temperature=1.0, top_k=50, k=3, batch_sizes=3, num_prompts=6)


def plain(result: SpecDecodeResult) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(result.model_dump_json())
    return loaded


def alone(result: dict[str, Any], draft: str | None, k: int) -> list[Row]:
    """What ran at batch 1."""
    row = next(r for r in result["rows"] if (r["draft"], r["k"], r["batch_size"]) == (draft, k, 1))
    return list(row["runs"])


def larger(result: dict[str, Any]) -> list[Row]:
    return [row for row in result["rows"] if row["batch_size"] > 1]


def groups(row: Row) -> list[list[Row]]:
    runs = iter(row["runs"])
    return [[next(runs) for _ in group] for group in row["groups"]]


def seconds(group: list[Row]) -> float:
    """All rows are submitted at once."""
    assert len({run["submit_s"] for run in group}) == 1
    return float(max(run["emissions"][-1][0] for run in group) - group[0]["submit_s"])


def alone_seconds(runs: list[Row]) -> float:
    return float(sum(run["emissions"][-1][0] - run["submit_s"] for run in runs))


def test_groups_are_consecutive_and_the_rest_is_left_out(greedy: SpecDecodeResult) -> None:
    assert groups_of(7, 3) == [[0, 1, 2], [3, 4, 5]]
    assert groups_of(2, 3) == []
    assert [(row.batch_size, row.draft, row.k) for row in greedy.batches] == [
        (size, draft, k) for size in (2, 3) for draft, k in ARMS
    ]
    for row in greedy.batches:
        assert row.status == "ok", row.reason
        places = [place for group in row.groups for place in group]
        assert places == list(range(PROMPTS // row.batch_size * row.batch_size))
        assert {len(group) for group in row.groups} == {row.batch_size}


def test_speed_of_every_row(greedy: SpecDecodeResult) -> None:
    result = plain(greedy)
    by_arm = {(row["batch_size"], row["draft"], row["k"]): row for row in larger(result)}
    for (size, draft, k), row in by_arm.items():
        own, metrics = groups(row), {name: figure["value"] for name, figure in row["metrics"].items()}
        spent = sum(seconds(group) for group in own)
        num_tokens = len(own) * size * NEW
        assert metrics["throughput_tok_s"] == pytest.approx(num_tokens / spent)
        spans = sum(run["emissions"][-1][0] - run["emissions"][0][0] for group in own for run in group)
        assert metrics["tpot_ms"] == pytest.approx(1000 * spans / (len(own) * size * (NEW - 1)))
        same = alone(result, draft, k)[: len(own) * size]
        assert metrics["over_batch_1"] == pytest.approx(alone_seconds(same) / spent)
        if k:
            base = groups(by_arm[size, None, 0])
            assert metrics["speedup"] == pytest.approx(sum(seconds(group) for group in base) / spent)
            behind, base_behind = (
                sum(seconds(g) - (g[0]["emissions"][0][0] - g[0]["submit_s"]) for g in side)
                for side in (own, base)
            )
            assert metrics["decode_speedup"] == pytest.approx(base_behind / behind)
        else:
            assert set(metrics) == {"throughput_tok_s", "tpot_ms", "over_batch_1"}


def test_acceptance_of_every_row_is_that_of_batch_1(greedy: SpecDecodeResult) -> None:
    result = plain(greedy)
    for row in larger(result):
        if row["k"] == 0:
            continue
        runs = [run for group in groups(row) for run in group]
        num_steps = sum(len(run["steps"]) for run in runs)
        tau = len(runs) * (NEW - 1) / num_steps
        assert row["metrics"]["tokens_per_step"]["value"] == pytest.approx(tau)
        assert row["metrics"]["acceptance_rate"]["value"] == pytest.approx((tau - 1) / row["k"])
        for run, same in zip(runs, alone(result, row["draft"], row["k"]), strict=False):
            assert run["steps"] == same["steps"]


def test_intervals_are_over_groups_from_five_on(greedy: SpecDecodeResult) -> None:
    for row in greedy.batches:
        for name, figure in row.metrics.items():
            assert figure.n == PROMPTS // row.batch_size, name
            assert (figure.low is None) == (row.batch_size == 3), name
            if figure.low is not None and figure.high is not None:
                assert figure.low <= figure.value <= figure.high


def test_greedy_texts_are_those_of_each_prompt_alone(greedy: SpecDecodeResult) -> None:
    for row in greedy.batches:
        num_rows = PROMPTS // row.batch_size * row.batch_size
        assert row.lossless == LosslessCheck(identical=num_rows, num_prompts=num_rows)
        # token ids are left out where they are the baseline's
    for kept in larger(plain(greedy)):
        assert all("token_ids" not in run for run in kept["runs"])
    total = sum(row.lossless.num_prompts for row in greedy.batches if row.lossless)
    sentence = f"Larger batches: all {total} texts, those of plain decoding included, are those of batch 1."
    assert sentence in greedy.reasons


def test_sampled_texts_are_those_of_each_prompt_alone(sampled: SpecDecodeResult) -> None:
    result = plain(sampled)
    baseline = [run["token_ids"] for run in alone(result, None, 0)]
    assert len({tuple(ids) for ids in baseline}) == 6
    differing = 0
    for row in larger(result):
        assert row["lossless"] is None
        expected = alone(result, row["draft"], row["k"])
        for places, group in zip(row["groups"], groups(row), strict=True):
            for place, run in zip(places, group, strict=True):
                text = run.get("token_ids", baseline[place])
                assert text == expected[place].get("token_ids", baseline[place]), (row["draft"], place)
                differing += text != baseline[place]
    assert differing  # the arms draw with seeds of their own


def without_its_own_choice(rows: Sequence[SpecDecodeRow], plain: SpecDecodeRow) -> float:
    """Each group decoded by what is fastest on all the others, over plain decoding."""
    tokens = seconds = 0.0
    for place in range(len(plain.items)):
        sums = []
        for row in rows:
            others = [tokens_and_seconds(item) for i, item in enumerate(row.items) if i != place]
            sums.append(sum(t for t, _ in others) / sum(s for _, s in others))
        chosen = rows[sums.index(max(sums))]
        own = tokens_and_seconds(chosen.items[place])
        tokens, seconds = tokens + own[0], seconds + own[1]
    plain_items = [tokens_and_seconds(item) for item in plain.items]
    return tokens / seconds * sum(s for _, s in plain_items) / sum(t for t, _ in plain_items)


def test_verdict_names_the_best_of_every_size(greedy: SpecDecodeResult) -> None:
    record = greedy.verdict.batches
    assert record is not None
    assert [best.batch_size for best in record.best] == [1, 2, 3]
    for best in record.best[1:]:
        rows = [row for row in greedy.batches if row.batch_size == best.batch_size and row.k]
        (chosen,) = [row for row in rows if (row.draft, row.k) == (best.draft, best.k)]
        faster = [row.metrics["speedup"] for row in rows if throughput(row) > throughput(chosen)]
        assert all((one.high or 0) < LEAST_WORTH for one in faster), "those surely bring nothing"
        plain = next(row for row in greedy.batches if row.batch_size == best.batch_size and not row.k)
        alone = chosen.metrics["speedup"]
        if alone.low is None:
            assert best.speedup == alone
            continue
        assert best.speedup.low is not None
        assert best.speedup.low < alone.low, "it holds for all of the larger batches at once"
        told = min(without_its_own_choice(rows, plain), alone.value)
        assert best.speedup.value == pytest.approx(max(told, best.speedup.low))
    assert record.by_value == (3,)
    assert any("Batch 3: 3 groups are too few to say" in reason for reason in greedy.reasons)


def test_csv_and_markdown_hold_every_batch(greedy: SpecDecodeResult) -> None:
    lines = list(csv.DictReader(io.StringIO(csv_of(greedy))))
    found = [(line["batch_size"], line["draft"], line["k"]) for line in lines]
    assert found == [(str(size), draft or "", str(k)) for size in (1, 2, 3) for draft, k in ARMS]
    last = lines[-1]
    assert (last["same_ids"], last["backend"]) == ("9/9", "native")
    assert float(last["over_batch_1"]) == greedy.batches[-1].metrics["over_batch_1"].value
    assert "\n| 3 | ngram | 3 | " in markdown_text(greedy)


def test_what_goes_wrong_with_an_arm_stays_there(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = NativeEngine.decode_batch

    def failing(self: Any, config: Any, draft: Any, k: int, seeds: Any, *rest: Any, **kw: Any) -> Any:
        if (draft, k, len(seeds), config.max_new_tokens) == ("cheap", 3, 2, NEW):
            raise torch.OutOfMemoryError("no room for three")
        return decode(self, config, draft, k, seeds, *rest, **kw)

    def prepare(self: NativeEngine, prompts: Any, config: Any) -> None:
        if len(prompts) == 3:
            raise torch.OutOfMemoryError("no room for caches")
        own(self, prompts, config)

    own = NativeEngine.prepare_batch
    monkeypatch.setattr(NativeEngine, "decode_batch", failing)
    monkeypatch.setattr(NativeEngine, "prepare_batch", prepare)
    with jobs_in_process():
        result = measure(settings, batch_sizes=(2, 3, 5), num_prompts=5)
    found = {(row.batch_size, row.draft, row.k): (row.status, row.reason) for row in result.batches}
    assert found.pop((2, "cheap", 3)) == ("oom", "OutOfMemoryError: no room for three")
    assert {place: status for place, (status, _) in found.items()} == {
        (size, *arm): "ok" if size == 2 else "oom"
        for size in (2, 3, 5)
        for arm in ARMS
        if (size, *arm) != (2, "cheap", 3)
    }
    assert found[5, None, 0][1] == "MemoryError: not tried, because batch 3 had too little"
    assert all(row.status == "ok" for row in result.sweep)
    reasons = result.reasons
    assert "Batch 2, cheap, K = 3: oom (OutOfMemoryError: no room for three)." in reasons
    assert "Batch 3: oom (OutOfMemoryError: no room for caches)." in reasons


def test_an_interrupt_keeps_the_finished_groups(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode, calls = NativeEngine.decode_batch, []

    def stopping(self: Any, config: Any, draft: Any, k: int, seeds: Any, *rest: Any, **kw: Any) -> Any:
        calls.append(len(seeds))
        # a warm-up, two groups, and in the third
        if calls.count(2) > 3 * 2 + 1:
            raise KeyboardInterrupt
        return decode(self, config, draft, k, seeds, *rest, **kw)

    monkeypatch.setattr(NativeEngine, "decode_batch", stopping)
    with jobs_in_process(), pytest.raises(KeyboardInterrupt):
        measure(settings, k=3, drafts=("ngram",), output=tmp_path)
    result = read_result(tmp_path / "spec_decode_file-text.json", SpecDecodeResult)
    found = {(row.batch_size, row.draft, row.k): row for row in result.batches}
    assert [len(found[2, *arm].groups) for arm in ((None, 0), ("ngram", 3))] == [2, 2]
    assert found[3, "ngram", 3].reason == "not tried, because batch 2 ended: interrupted"
    assert "Batch 2 ended after 2 of 5 groups: interrupted." in result.warnings
    assert (tmp_path / "speculation_batches_file-text.png").exists()


def test_models_that_decode_one_prompt_alone_are_refused_before_the_sweep(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def impossible(self: Any, execution: Any) -> str:
        self.fallback_reason = "the target is run eagerly: it is a test"
        return "eager"

    monkeypatch.setattr(NativeEngine, "_possible", impossible)
    stages: list[str] = []
    with jobs_in_process(), pytest.raises(bitdraft.UserError, match="eagerly: it is a test") as caught:
        bitdraft.evaluate_spec_decode(on_progress=lambda stage, *_: stages.append(stage), **settings)
    assert (caught.value.field, caught.value.value) == ("batch_sizes", "1,2,3")
    assert "warm-up" not in stages


def test_batches_are_static_where_auto_found_one_prompt_faster_eagerly(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int]] = []
    decode = NativeEngine.decode_batch

    def watched(self: Any, config: Any, draft: Any, k: int, seeds: Any, *rest: Any, **kw: Any) -> Any:
        seen.append((type(self._prefilled).__name__, len(seeds)))
        found: list[Generation] = decode(self, config, draft, k, seeds, *rest, **kw)
        return found

    monkeypatch.setattr(NativeEngine, "_choose", lambda self: setattr(self, "mode", "eager"))
    monkeypatch.setattr(NativeEngine, "decode_batch", watched)
    with jobs_in_process():
        result = measure(settings, execution="auto", k=3, drafts=("ngram",), num_prompts=3)
    assert set(seen) == {("PrefilledPrompt", 1), ("StaticPrompts", 2), ("StaticPrompts", 3)}
    assert any("Batch 1 ran eagerly" in note for note in result.warnings)
    assert {row.status for row in result.batches} == {"ok"}
    assert {row.lossless.identical for row in result.batches if row.lossless} == {2, 3}
