"""Synthetic acceptance: stated agreement, everything else real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import bitdraft
from bitdraft.backends.base import EngineSetup
from bitdraft.backends.native import NativeEngine
from bitdraft.config import DecodingConfig, SamplingConfig, SpecDecodeConfig, make_config
from bitdraft.engine.static import forward
from bitdraft.errors import UserError
from bitdraft.present.charts.sweep import about
from bitdraft.present.sweep_files import csv_of, markdown_text
from bitdraft.schema.records import Generation
from bitdraft.schema.spec_decode import LosslessCheck, SpecDecodeResult
from bitdraft.spec_decode.synthetic import MOST_TURNS, agreement_bits, oracle_tokens, run_with_oracle, stays
from bitdraft.spec_decode.worker import Worker
from bitdraft.spec_decode.workload import prepare
from in_process import jobs_in_process
from tiny import VOCAB, save_checkpoint, tiny_model, tokens

ALPHA, NEW, PROMPTS = 0.7, 24, 5


def test_bits_are_as_many_as_stated_and_the_same_again() -> None:
    bits = agreement_bits(ALPHA, 20_000, seed=1, index=3)
    assert sum(bits) / len(bits) == pytest.approx(ALPHA, abs=0.02)
    assert bits == agreement_bits(ALPHA, 20_000, seed=1, index=3)
    # a longer output begins alike; other prompts and seeds do not
    assert bits[:50] == agreement_bits(ALPHA, 50, seed=1, index=3)
    assert bits != agreement_bits(ALPHA, 20_000, seed=1, index=4)
    assert bits != agreement_bits(ALPHA, 20_000, seed=2, index=3)
    assert not any(agreement_bits(0.0, 100, 0, 0))
    assert all(agreement_bits(1.0, 100, 0, 0))


def test_what_the_draft_says_by_hand() -> None:
    assert oracle_tokens([4, 9, 2], [True, False, True, False], vocab_size=10) == [4, 0, 2, 1]


def generation(*token_ids: int) -> Generation:
    return Generation(
        prompt_tokens=1,
        submit_s=0.0,
        emissions=((1.0, len(token_ids)),),
        token_ids=token_ids,
        finish_reason="length",
    )


def test_oracle_tokens_follow_a_run_that_leaves_the_text() -> None:
    said: list[list[list[int]]] = []

    def decode(oracle_ids: list[list[int]]) -> list[Generation]:
        # rounding makes the second row's target say 7 in place of 5, whatever it is offered
        said.append(oracle_ids)
        return [generation(1, 2), generation(7, 8)]

    bits = [[True, False, True], [True, True, True]]
    runs, texts = run_with_oracle(decode, [(1, 2, 3), (5, 6, 9)], bits, vocab_size=10)
    assert said == [[[1, 3, 3], [5, 6, 9]], [[1, 3, 0], [7, 8, 0]]]
    assert texts == [(1, 2), (7, 8)]
    assert all(map(stays, runs, texts))


def test_a_run_that_never_stays_ends_and_can_be_told() -> None:
    turns = iter(range(100))

    def decode(oracle_ids: list[list[int]]) -> list[Generation]:
        return [generation(next(turns))]

    runs, texts = run_with_oracle(decode, [(50,)], [[True]], vocab_size=100)
    assert runs[0].token_ids == (MOST_TURNS - 1,)
    assert texts == [(MOST_TURNS - 2,)]
    assert not stays(runs[0], texts[0])


@pytest.mark.parametrize("execution", ["eager", "static", "recorded"])
@pytest.mark.parametrize("k", [1, 4])
def test_a_draft_with_oracle_tokens_is_kept_where_it_was_told_to_agree(
    execution: Any, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if execution == "recorded":
        execution = "static"
    else:
        monkeypatch.setattr(forward, "sample_of", lambda _: None)
    config = DecodingConfig(max_new_tokens=NEW)
    target, draft = tiny_model(), tiny_model("gpt_neox", 1)
    runs = NativeEngine(EngineSetup(target, {"draft": draft}, SamplingConfig(), execution=execution))
    runs.prepare(tokens(0, 20), config)
    text = runs.decode(config, None, 0, 0).token_ids
    bits = agreement_bits(ALPHA, NEW, 0, 0)
    run = runs.decode(config, "draft", k, 0, oracle_tokens(text, bits, VOCAB))
    assert run.token_ids == text
    place = 1
    for step in run.steps:
        kept = 0
        while kept < step.num_drafted and bits[place + kept]:
            kept += 1
        assert step.num_accepted == kept
        place += kept + 1
    assert place == NEW
    # and the next run says what it likes again
    free = runs.decode(config, "draft", k, 0)
    assert sum(step.num_accepted for step in free.steps) < sum(step.num_accepted for step in run.steps)


def test_nothing_is_recorded_while_a_run_is_timed(
    checkpoint: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drafts that are made to say something go a way of their own, which the warm-up goes, too."""
    grown_s: dict[int, list[float]] = {}
    real = Worker.decode

    def prepared_s(engine: Any, draft: str | None) -> float:
        return float(sum(engine.execution(model)["preparation_s"] for model in (None, draft)))

    def decode(self: Worker, engine: Any, draft: str | None, k: int, index: int) -> Generation:
        before_s = prepared_s(engine, draft)
        found = real(self, engine, draft, k, index)
        grown_s.setdefault(self.config.max_new_tokens, []).append(prepared_s(engine, draft) - before_s)
        return found

    monkeypatch.setattr(Worker, "decode", decode)
    with jobs_in_process():
        bitdraft.evaluate_spec_decode(
            model=str(checkpoint),
            drafts=f"same={checkpoint}",
            k=(2, 3),
            dataset=f"file:{text_file}",
            synthetic_acceptance=ALPHA,
            num_prompts=2,
            max_prompt_tokens=20,
            max_new_tokens=NEW,
            device="cpu",
            execution="static",
        )
    brief = min(grown_s)
    assert brief < NEW
    assert max(grown_s[brief]) > 0
    # the memory's runs, each in a process of its own elsewhere, have no warm-up
    assert grown_s[NEW][:6] == [0.0] * 6


@pytest.fixture(scope="module")
def result(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> SpecDecodeResult:
    folder = tmp_path_factory.mktemp("synthetic")
    draft = save_checkpoint(folder / "draft", tiny_model("gpt_neox", 1))
    text = folder / "text.txt"
    text.write_text("".join(f"the cat and the hen number {i} sat in the barn\n" for i in range(80)))
    with jobs_in_process():
        return bitdraft.evaluate_spec_decode(
            model=str(checkpoint),
            drafts=str(draft),
            k=(2, 5),
            dataset=f"file:{text}",
            synthetic_acceptance=ALPHA,
            batch_sizes=(1, 2),
            num_prompts=PROMPTS,
            max_prompt_tokens=20,
            max_new_tokens=NEW,
            device="cpu",
            output=folder / "out",
        )


def test_a_synthetic_sweep_is_lossless_and_the_replay_of_its_bits(result: SpecDecodeResult) -> None:
    bits = [agreement_bits(ALPHA, NEW, 0, index) for index in range(PROMPTS)]
    for row in result.sweep:
        assert row.lossless == LosslessCheck(identical=PROMPTS, num_prompts=PROMPTS)
        assert row.replay_check is not None
        assert row.replay_check.num_identical == PROMPTS
        first = row.acceptance_by_position[0]
        assert first.share == pytest.approx(ALPHA, abs=0.2)
        # one step by hand: it begins at output token 1
        steps = row.runs[0].steps
        kept = next((i for i, agrees in enumerate(bits[0][1:]) if not agrees), NEW)
        assert steps[0].num_accepted == min(kept, row.k)
    assert result.replay["draft"][1].acceptance_rate == pytest.approx(ALPHA, abs=0.15)


def test_batches_take_oracle_tokens_too(result: SpecDecodeResult) -> None:
    assert [(row.draft, row.k, row.status) for row in result.batches] == [
        (None, 0, "ok"),
        ("draft", 2, "ok"),
        ("draft", 5, "ok"),
    ]
    for row in result.batches:
        assert row.lossless == LosslessCheck(identical=4, num_prompts=4)
    tau = {row.k: row.metrics["tokens_per_step"].value for row in result.batches if row.k}
    assert tau[5] > tau[2] > 1.5


def test_everything_says_that_it_is_synthetic(
    result: SpecDecodeResult, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert "synthetic acceptance 0.7" in about(result)
    assert "synthetic acceptance 0.7" in markdown_text(result).splitlines()[0]
    header, *lines = csv_of(result).splitlines()
    assert header.split(",")[0] == "synthetic_acceptance"
    assert {line.split(",")[0] for line in lines} == {"0.7"}
    assert result.summary.startswith("Synthetic acceptance of 0.7: speeds are measured")
    assert result.config.synthetic_acceptance == ALPHA
    folder = next(tmp_path_factory.getbasetemp().glob("synthetic*/out"))
    names = {path.name for path in folder.iterdir()}
    assert {"spec_decode_synthetic_file-text.json", "speculative_comparison_synthetic_file-text.png"} <= names


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"synthetic_acceptance": 1.5}, "probability from 0 to 1"),
        ({"synthetic_acceptance": 0.5, "temperature": 1.0}, "greedy decoding"),
        ({"synthetic_acceptance": 0.5, "backend": "transformers"}, "--backend native"),
        ({"synthetic_acceptance": 0.5, "drafts": ("demo/draft-small", "ngram")}, "without ngram"),
    ],
)
def test_what_means_nothing_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        prepare(make_config(SpecDecodeConfig, settings))
    assert caught.value.field == "synthetic_acceptance"
    assert message in f"{caught.value.problem}. {caught.value.remedy}"
