"""Exports: what engines and planners are told, against their documented forms, and what is refused. The real
parsers of vLLM and llama.cpp are in tests/peers."""

from __future__ import annotations

import itertools
import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import bitdraft
from bitdraft.cli import app
from bitdraft.config import ServeBenchConfig, make_config
from bitdraft.errors import UserError
from bitdraft.export import TARGETS
from bitdraft.export.setting import Setting, k_by_batch_size, rates_of, setting_of_servers, setting_of_sweep
from bitdraft.export.targets import ranges_of
from bitdraft.schema.environment import Environment, ModelRecord
from bitdraft.schema.records import Figure
from bitdraft.schema.serving import ServingResult, ServingRow, ServingVerdict
from bitdraft.schema.spec_decode import (
    PositionAcceptance,
    Schedule,
    ScheduleChoice,
    SchedulePoint,
    SpecDecodeResult,
)
from in_process import jobs_in_process

LENGTHS = {1: 1.8, 2: 2.4, 3: 2.85, 9: 3.4}
SETTING = Setting("org/Target-1B", "org/draft", 3, LENGTHS, (0.8, 0.6, 0.45), {1: 3, 4: 2, 8: 0}, "a text")


def exported(name: str, setting: Setting = SETTING) -> str:
    return TARGETS[name](setting)


def test_vllm_has_k_by_batch_size_as_inclusive_ranges() -> None:
    found = json.loads(exported("vllm-config"))
    assert found == {
        "method": "draft_model",
        "model": "org/draft",
        "num_speculative_tokens": 3,
        "num_speculative_tokens_per_batch_size": [[1, 3, 3], [4, 7, 2], [8, 8, 0]],
    }
    words = shlex.split(exported("vllm"))
    assert words[:4] == ["vllm", "serve", "org/Target-1B", "--speculative-config"]
    assert json.loads(words[4]) == found


@given(st.dictionaries(st.integers(1, 300), st.integers(0, 8), min_size=1, max_size=8))
def test_ranges_are_consecutive_and_say_each_measured_size(by_size: dict[int, int]) -> None:
    found = ranges_of(by_size)
    assert found[0][0] == 1
    assert found[-1][1] == max(by_size)
    assert all(one[1] + 1 == other[0] for one, other in itertools.pairwise(found))
    assert all(one[2] != other[2] for one, other in itertools.pairwise(found))
    for size, k in by_size.items():
        assert [own for first, last, own in found if first <= size <= last] == [k]


def test_lengths_count_the_targets_token_where_an_engine_does() -> None:
    assert exported("aiconfigurator") == "--nextn 3 --nextn-accepted 1.85"
    assert exported("synthetic-tensorrt-llm") == "TLLM_SPEC_DECODE_FORCE_NUM_ACCEPTED_TOKENS=1.85"
    assert exported("synthetic-sglang").split()[0] == "SGLANG_SIMULATE_ACC_LEN=2.85"
    # conditional: 0.6 / 0.8 and 0.45 / 0.6
    assert exported("aiconfigurator-0.10") == "--nextn 3 --nextn-accept-rates 0.8,0.75,0.75,0,0"


def test_synthetic_acceptance_is_by_position_where_that_is_known() -> None:
    vllm = json.loads(exported("synthetic-vllm"))
    assert vllm["rejection_sample_method"] == "synthetic"
    assert vllm["synthetic_acceptance_rates"] == [0.8, 0.6, 0.45]
    assert "num_speculative_tokens_per_batch_size" not in vllm
    assert exported("synthetic-llama-server") == "--spec-synth-rates 0.8,0.6,0.45"
    unknown = Setting("T", "D", 3, LENGTHS)
    assert json.loads(exported("synthetic-vllm", unknown))["synthetic_acceptance_length"] == 2.85
    assert exported("synthetic-llama-server", unknown) == "--spec-synth-len 2.85"
    with pytest.raises(UserError, match="by position"):
        exported("aiconfigurator-0.10", unknown)
    with pytest.raises(UserError, match="acceptance of nothing"):
        exported("synthetic-tensorrt-llm", Setting("T", "D", 1, {1: 1.0}))


def test_inferencex_has_every_k_up_to_8() -> None:
    found = yaml.safe_load(exported("inferencex"))
    assert found == {"target-1b": {"thinking_off": {1: 1.8, 2: 2.4, 3: 2.85}}}


def test_tensorrt_llm_takes_a_schedule_whose_first_k_is_the_largest() -> None:
    found = yaml.safe_load(exported("tensorrt-llm"))["speculative_config"]
    assert found["draft_len_schedule"] == {3: 3, 7: 2, 8: 0}
    assert found["max_draft_len"] == 3
    other = Setting("T", "D", 3, LENGTHS, (), {1: 2, 4: 3})
    assert "draft_len_schedule" not in yaml.safe_load(exported("tensorrt-llm", other))["speculative_config"]


def test_prompt_lookup_has_each_engines_own_words() -> None:
    own = Setting("T", "ngram", 3, LENGTHS)
    config = json.loads(exported("vllm-config", own))
    assert config["method"] == "ngram"
    assert "model" not in config
    assert "--spec-ngram-simple-size-m 3" in exported("llama-server", own)
    assert "NGRAM" in exported("sglang", own)
    assert yaml.safe_load(exported("tensorrt-llm", own))["speculative_config"]["decoding_type"] == "NGram"


def test_sglang_has_a_place_for_the_token_before_the_draft() -> None:
    words = exported("sglang").split()
    assert words[words.index("--speculative-num-steps") + 1] == "3"
    assert words[words.index("--speculative-num-draft-tokens") + 1] == "4"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_rates_never_rise(shares: list[float]) -> None:
    found = rates_of([PositionAcceptance(position=i + 1, share=share) for i, share in enumerate(shares)])
    assert all(after <= before for before, after in itertools.pairwise(found))
    assert all(own <= share for own, share in zip(found, shares, strict=True))
    assert rates_of([PositionAcceptance(position=1)]) == ()


def point(size: int, context: int, k: int, speedup: float) -> SchedulePoint:
    figure = Figure(value=speedup, low=speedup - 0.01, high=speedup + 0.01, n=9)
    return SchedulePoint(
        batch_size=size, context=context, draft="d", k=k, plain_ms=1, step_ms=1, speedup=figure
    )


def schedule(points: list[SchedulePoint]) -> Schedule:
    places = dict.fromkeys((one.batch_size, one.context) for one in points)
    choices = []
    for size, context in places:
        here = [one for one in points if (one.batch_size, one.context) == (size, context)]
        best = max(here, key=lambda one: one.speedup.value)
        pays = best.speedup.value > 1
        choices.append(
            ScheduleChoice(
                batch_size=size,
                context=context,
                k=best.k if pays else 0,
                draft="d",
                best_k=best.k,
                speedup=best.speedup,
                pays=pays,
            )
        )
    return Schedule(points=tuple(points), choices=tuple(choices))


def test_k_holds_at_all_contexts_or_at_one() -> None:
    found = schedule(
        [
            point(1, 64, 2, 1.5),
            point(1, 64, 4, 1.9),
            point(1, 1024, 2, 1.4),
            point(1, 1024, 4, 1.1),
            point(8, 64, 2, 1.3),
            point(8, 64, 4, 1.2),
            point(8, 1024, 2, 0.9),
            point(8, 1024, 4, 0.8),
        ]
    )
    # the least of K = 2 is 1.4, that of K = 4 is 1.1; at batch 8 it does not pay behind 1024 tokens
    assert k_by_batch_size(found, "d") == {1: 2, 8: 0}
    assert k_by_batch_size(found, "d", 64) == {1: 4, 8: 2}
    with pytest.raises(UserError, match="Choose from 64, 1024"):
        k_by_batch_size(found, "d", 128)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small sweep."""
    found = tmp_path_factory.mktemp("sweep")
    settings: dict[str, Any] = {"num_prompts": 5, "max_prompt_tokens": 16, "max_new_tokens": 16}
    with jobs_in_process():
        bitdraft.evaluate_spec_decode(
            drafts=("demo/draft-small",), k=(1, 3), output=found, device="cpu", **settings
        )
    return found


def test_the_command_prints_one_target_alone(folder: Path) -> None:
    words = ["export", str(folder), "--draft", "draft-small", "--k", "3", "--to", "vllm-config"]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert "draft-small, K = 3: " in found.stderr
    assert told["num_speculative_tokens"] == 3
    assert (Path(told["model"]) / "config.json").exists()


def test_all_targets_are_of_the_replay(folder: Path) -> None:
    result = bitdraft.load_result(folder)
    assert isinstance(result, SpecDecodeResult)
    setting = setting_of_sweep(result, "draft-small", 3)
    replayed = result.replay["draft-small"]
    assert setting.tokens_per_step == {k: one.tokens_per_step for k, one in replayed.items()}
    found = bitdraft.export_result(folder, draft="draft-small", k=3)
    assert set(found) == set(TARGETS)
    golden = yaml.safe_load(found["inferencex"])["target"]["thinking_off"]
    assert golden == {k: round(replayed[k].tokens_per_step, 2) for k in range(1, 9)}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--to", "nothing"], "no such target"),
        (["--mode", "fast"], "no such mode"),
        (["--draft", "other"], "was not measured"),
        (["--draft", "draft-small", "--k", "40"], "was not measured"),
        (["--draft", "draft-small", "--k", "0"], "plain decoding"),
        (["--draft", "draft-small", "--context", "64"], "not in the schedule"),
    ],
)
def test_what_cannot_be_exported_is_refused(more: list[str], expected: str, folder: Path) -> None:
    found = CliRunner().invoke(app, ["export", str(folder), *more])
    assert found.exit_code == 2
    assert expected in " ".join(found.output.split())


def test_a_refused_draft_is_exported_by_name_alone(folder: Path) -> None:
    result = bitdraft.load_result(folder)
    assert isinstance(result, SpecDecodeResult)
    refused = result.model_copy(
        update={"verdict": result.verdict.model_copy(update={"speculate": False, "draft": None, "k": None})}
    )
    with pytest.raises(UserError, match="recommends no draft"):
        setting_of_sweep(refused, None, None)
    setting = setting_of_sweep(refused, "draft-small", 1)
    assert setting.k == 1
    assert any(note.startswith("This is not what the verdict recommends") for note in setting.notes)


def test_that_mean_and_rates_differ_is_said() -> None:
    alike = Setting("t", "d", 2, {2: 1.75}, (0.5, 0.25), measured="here")
    assert alike.notes == ["d, K = 2: here"]
    (_, note) = replace(alike, tokens_per_step={2: 1.6}).notes
    assert "1.60 over all, 1.75 by the rates" in note


@pytest.mark.parametrize("speculate", [False, None])
def test_what_is_not_shown_to_pay_is_exported_by_name_alone(speculate: bool | None, folder: Path) -> None:
    result = bitdraft.load_result(folder)
    assert isinstance(result, SpecDecodeResult)
    verdict = result.verdict.model_copy(update={"speculate": speculate, "draft": "draft-small", "k": 1})
    with pytest.raises(UserError, match="recommends no draft"):
        setting_of_sweep(result.model_copy(update={"verdict": verdict}), None, None)


def test_a_named_k_is_no_schedule(folder: Path) -> None:
    result = bitdraft.load_result(folder)
    assert isinstance(result, SpecDecodeResult)
    own = [point(1, 64, 3, 0.5).model_copy(update={"draft": "draft-small"})]
    scheduled = result.model_copy(update={"schedule": schedule(own)})
    assert setting_of_sweep(scheduled, "draft-small", 3).by_batch_size == {}


def servers(best: str | None, **tokens_per_step: float | None) -> ServingResult:
    """A plain server, and others at K = 4 of which some tell their acceptance."""
    rows = [ServingRow(server="plain", load=1, status="ok")]
    for name, value in tokens_per_step.items():
        metrics = {} if value is None else {"tokens_per_step": Figure(value=value)}
        rows.append(ServingRow(server=name, load=1, status="ok", k=4, metrics=metrics))
    return ServingResult(
        config=make_config(ServeBenchConfig, {"servers": ("plain=http://a", "spec=http://b")}),
        environment=Environment(),
        model=ModelRecord(name="org/Target-1B"),
        rows=tuple(rows),
        verdict=ServingVerdict(best={} if best is None else {"1": best}),
    )


@pytest.mark.parametrize(
    ("best", "told", "server", "k", "expected"),
    [
        ("spec", {"spec": 2.5}, None, None, 2.5),
        (None, {"spec": 2.5}, "spec", None, 2.5),
        (None, {"spec": 2.5, "more": 3.0}, "more", 4, 3.0),
        (None, {"spec": 2.5, "more": 3.0}, "spec", None, 2.5),
        (None, {"spec": 2.5}, None, 4, 2.5),
        (None, {"spec": 2.5}, None, None, r"recommends none that speculates .*--server NAME \(of spec"),
        ("plain", {"spec": 2.5}, None, None, "recommends none that speculates"),
        ("spec", {"spec": 2.5}, "plain", None, "tells no acceptance, or no K. Choose from spec"),
        ("spec", {"spec": 2.5}, "other", None, "was not measured. Choose from spec"),
        ("spec", {"spec": 2.5}, "spec", 3, "was not measured. Choose from spec"),
        ("spec", {"spec": None}, "spec", 4, "holds no server that tells its acceptance and K"),
    ],
)
def test_of_servers_the_one_that_pays_or_is_named(
    best: str | None,
    told: dict[str, float | None],
    server: str | None,
    k: int | None,
    expected: float | str,
) -> None:
    result = servers(best, **told)
    if isinstance(expected, float):
        found = setting_of_servers(result, server, k, "org/draft")
        assert (found.k, found.length, found.draft) == (4, expected, "org/draft")
        return
    with pytest.raises(UserError, match=expected):
        setting_of_servers(result, server, k, "org/draft")
