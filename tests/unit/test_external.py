"""Engines in processes of their own: steps from their counts, against the replay; programs; commands."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitdraft.config import SpecDecodeConfig, make_config
from bitdraft.errors import UserError
from bitdraft.external.base import EngineSetup
from bitdraft.external.llama_server import command_of
from bitdraft.external.programs import find_program
from bitdraft.external.steps import counts_of_totals, emissions_of, steps_of_counts
from bitdraft.external.vllm import engine_words
from bitdraft.schema.records import Divergence, Step
from bitdraft.spec_decode.replay import model_chain, steps_of


def engine_counts(keeps: list[int], k: int, *, drafts_beyond: bool) -> list[tuple[int, int]]:
    """What an engine counts of such a draft: it keeps tokens as long as they agree, up to K, whether or not
    the request has room for them (vLLM), or drafts what fits alone (llama.cpp)."""
    produced, found = 1, []
    while produced < len(keeps):
        room = k if drafts_beyond else min(k, len(keeps) - produced - 1)
        kept = 0
        while kept < room and (produced + kept >= len(keeps) or keeps[produced + kept]):
            kept += 1
        found.append((room, kept))
        produced += kept + 1
    return found


@settings(max_examples=300)
@given(st.lists(st.integers(0, 1), min_size=2, max_size=40), st.integers(1, 12), st.booleans())
def test_steps_are_the_replays_whatever_an_engine_drafts_beyond_the_end(
    keeps: list[int], k: int, drafts_beyond: bool
) -> None:
    counts = engine_counts(keeps, k, drafts_beyond=drafts_beyond)
    found = steps_of_counts(counts, len(keeps), k, len(keeps))
    assert found == steps_of(model_chain(keeps, 1, len(keeps)), k)
    # llama.cpp tells totals with each token; where nothing fits, nothing is counted
    totals, drafted, kept = [(0, 0)], 0, 0
    for step in found:
        drafted, kept = drafted + step.num_drafted, kept + step.num_accepted
        totals += [(drafted, kept)] * (step.num_accepted + 1)
    told = counts_of_totals(totals)
    assert told == [(step.num_drafted, step.num_accepted) for step in found]
    assert steps_of_counts(told, len(keeps), k, len(keeps)) == found


@pytest.mark.parametrize("last", [0, 1])
def test_a_drafted_eos_has_nothing_behind_it(last: int) -> None:
    # the fourth token is EOS, in a request for 20; vLLM goes on counting behind it
    keeps = [0, 1, 1, last]
    counts = [(4, 4)] if last else [(4, 2)]
    assert steps_of_counts(counts, 4, 4, 20) == steps_of(model_chain(keeps, 1, 20), 4)


@pytest.mark.parametrize("counts", [[(2, 2)], [(2, 2), (2, 2), (2, 2), (2, 0)]])
def test_counts_of_another_number_of_tokens_are_refused(counts: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="step"):
        steps_of_counts(counts, 9, 2, 9)


def test_tokens_of_a_step_come_together() -> None:
    steps = [Step(2, 2), Step(2, 0), Step(1, 1, True)]
    assert emissions_of([1.0, 2.0, 2.1, 2.2, 3.0, 4.0, 4.1], steps) == (
        (1.0, 1),
        (2.2, 3),
        (3.0, 1),
        (4.1, 2),
    )
    assert emissions_of([1.0, 2.0], ()) == ((1.0, 1), (2.0, 1))


def setup(draft: Path | None, k: int, **values: Any) -> EngineSetup:
    config = make_config(SpecDecodeConfig, {"backend": "vllm", "device": "cpu", **values})
    return EngineSetup("x", Path("program"), Path("T"), draft, k, 300, config, Path())


def test_llama_server_drafts_k_whatever_its_confidence() -> None:
    words = command_of(setup(Path("D"), 3, threads=2, engine_args="--no-repack -c 512"))
    assert words[words.index("-md") + 1] == "D"
    assert words[words.index("--spec-draft-n-max") + 1] == "3"
    assert words[words.index("--spec-draft-p-min") + 1] == "0"
    assert words[-3:] == ["--no-repack", "-c", "512"]
    assert "-md" not in command_of(setup(None, 0))


def test_vllm_is_told_its_speculation_once() -> None:
    words = engine_words(setup(Path("D"), 3))
    told = json.loads(words[words.index("--speculative-config") + 1])
    assert told == {"method": "draft_model", "model": "D", "num_speculative_tokens": 3}
    assert words[words.index("--dtype") + 1] == "float32"
    assert "--speculative-config" not in engine_words(setup(None, 0))


def test_a_program_is_found_where_it_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "llama-server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    named = make_config(SpecDecodeConfig, {"backend": "llama-server", "engine_program": program})
    asked = make_config(SpecDecodeConfig, {"backend": "llama-server"})
    assert find_program(named) == program
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + os.environ["PATH"])
    monkeypatch.delenv("BITDRAFT_LLAMA_SERVER", raising=False)
    assert find_program(asked) == program
    monkeypatch.setenv("BITDRAFT_LLAMA_SERVER", str(tmp_path / "none"))
    with pytest.raises(UserError, match="is no program"):
        find_program(asked)
    monkeypatch.setenv("BITDRAFT_VLLM_PYTHON", sys.executable)
    assert find_program(make_config(SpecDecodeConfig, {"backend": "vllm"})) == Path(sys.executable)
    monkeypatch.delenv("BITDRAFT_VLLM_PYTHON")
    with pytest.raises(UserError, match="no vLLM is installed"):
        find_program(make_config(SpecDecodeConfig, {"backend": "vllm"}))


def test_precisions_are_files_of_the_same_numbers_for_llama_server() -> None:
    def of(**values: Any) -> tuple[str, str | None]:
        config = make_config(SpecDecodeConfig, {"backend": "llama-server", **values})
        return config.precision, config.draft_precision

    assert of() == ("gguf-f32", None)
    assert of(precision="bf16", draft_precision="fp16") == ("gguf-bf16", "gguf-f16")
    assert of(precision="Q8_0") == ("Q8_0", None)
    assert of(model="a/model-q4_k_m.gguf")[0] == "Q4_K_M"


@pytest.mark.parametrize(
    ("repeats", "gap", "expected"),
    [
        (True, 1e-4, "rounding tie"),
        (True, 0.3, "unexplained"),
        (True, None, "unexplained"),
        (False, 0.3, "engine noise"),
        (None, 1e-4, "unchecked"),
    ],
)
def test_what_a_difference_of_an_engine_is(repeats: bool | None, gap: float | None, expected: str) -> None:
    found = Divergence(prompt=0, position=3, logit_gap=gap, tie_lead=1e-3, own_repeats=repeats)
    assert found.kind == expected
    assert Divergence.model_validate(found.model_dump()) == found
