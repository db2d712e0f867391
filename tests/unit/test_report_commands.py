"""The command that a report names gives the configuration that the result keeps."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from typer.testing import CliRunner

from bitdraft.cli import app
from bitdraft.config import PrecisionConfig, RecommendConfig, SpecDecodeConfig
from bitdraft.config.commands import command_of, ranges


def test_defaults_are_not_written() -> None:
    assert (
        command_of("precision", PrecisionConfig().model_dump(mode="json")) == "bitdraft precision demo/target"
    )
    assert (
        command_of("spec_decode", SpecDecodeConfig().model_dump(mode="json"))
        == "bitdraft spec-decode demo/target"
    )


def test_settings_become_flags() -> None:
    config = PrecisionConfig(
        model="org/model",
        precisions=("fp32", "bf16"),
        num_prompts=8,
        ignore_eos=False,
        max_ppl_increase=0.01,
        random_weights=True,
        ppl_protocol="llama.cpp",
    )
    command = command_of("precision", config.model_dump(mode="json", exclude={"output", "data_root"}))
    assert command == (
        "bitdraft precision org/model --precisions fp32,bf16 --ppl-protocol llama.cpp --max-ppl-increase "
        "0.01 --num-prompts 8 --stop-at-eos --random-weights"
    )


def test_a_recommendation_is_asked_again() -> None:
    config = RecommendConfig(budget_s=600, min_speedup=1.1, drafts=("ngram",))
    command = command_of("recommendation", config.model_dump(mode="json", exclude={"output", "data_root"}))
    assert command == "bitdraft recommend demo/target --draft ngram --min-speedup 1.1 --budget 600s"


def test_what_a_search_left_out_is_no_flag() -> None:
    config = SpecDecodeConfig(only=(("ngram", 3),))
    assert command_of("spec_decode", config.model_dump(mode="json")) == "bitdraft spec-decode demo/target"


def test_drafts_batches_and_k_have_forms_of_their_own() -> None:
    config = SpecDecodeConfig(drafts=("x=org/x", "ngram"), k=(1, 3, 4, 5), batch_sizes=(1, 4), plan=True)
    command = command_of("spec_decode", config.model_dump(mode="json"))
    assert (
        command
        == "bitdraft spec-decode demo/target --draft x=org/x --draft ngram --k 1,3-5 --batch-size 1,4 --plan"
    )


def test_a_name_cannot_leave_its_word() -> None:
    model = "it's; rm -rf $HOME `x` <b>"
    command = command_of("precision", {"model": model, "dataset": "file:a b.txt"})
    assert shlex.split(command) == ["bitdraft", "precision", model, "--dataset", "file:a b.txt"]


def test_an_older_or_newer_configuration_is_read_as_far_as_it_is_known() -> None:
    assert (
        command_of("spec_decode", {"k": [2], "a_later_setting": 5})
        == "bitdraft spec-decode demo/target --k 2"
    )


@pytest.mark.parametrize(
    ("numbers", "text"), [([3], "3"), ([3, 4], "3-4"), ([1, 2, 4, 6, 7, 8], "1-2,4,6-8"), ([5, 1], "1,5")]
)
def test_ranges(numbers: list[int], text: str) -> None:
    assert ranges(numbers) == text


CONFIGS: list[tuple[str, PrecisionConfig | SpecDecodeConfig]] = [
    (
        "precision",
        PrecisionConfig(
            model="a b/c",
            revision="r",
            dataset="file:x y.txt",
            reference="bf16",
            precisions=("bf16",),
            ppl_max_tokens=99,
            kl_max_tokens=0,
            num_warmup=2,
            backend="transformers",
            seed=3,
            device="cpu",
            allow_pickle=True,
            trust_remote_code=True,
            execution="eager",
            max_ppl_increase=0.0125,
        ),
    ),
    (
        "spec-decode",
        SpecDecodeConfig(
            model="m",
            drafts=("a=x", "ngram"),
            k=(1, 2, 9),
            batch_sizes=(1, 2, 8),
            precision="bf16",
            draft_precision="fp32",
            temperature=0.7,
            top_k=5,
            top_p=0.9,
            synthetic_acceptance=0.8,
            max_new_tokens=7,
            ignore_eos=False,
            num_prompts=3,
            min_text_chars=0,
            max_prompt_tokens=9,
        ),
    ),
]


@pytest.mark.parametrize(("name", "config"), CONFIGS, ids=["precision", "spec-decode"])
def test_the_command_line_reads_the_same_configuration(
    name: str, config: PrecisionConfig | SpecDecodeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def capture(config: Any, **_: Any) -> None:
        seen.append(config)
        raise KeyboardInterrupt

    monkeypatch.setattr("bitdraft.api.evaluate_precision", capture)
    monkeypatch.setattr("bitdraft.api.evaluate_spec_decode", capture)
    kind = name.replace("-", "_")
    words = shlex.split(command_of(kind, config.model_dump(mode="json", exclude={"output", "data_root"})))
    CliRunner().invoke(app, words[1:])
    assert [own.model_copy(update={"output": None}) for own in seen] == [config]
