"""Nothing that people share names where things lie on the machine that measured."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdraft.api import evaluate_precision
from bitdraft.config import SpecDecodeConfig, make_config
from bitdraft.present.page.page import write_report
from bitdraft.schema.findings import Finding
from bitdraft.schema.io import load_result
from bitdraft.schema.places import places_of, without_places
from in_process import jobs_in_process


def cleared(text: str, places: dict[str, str]) -> str:
    return without_places(Finding(code="a.b", text=text), places).text


def test_places_become_names_and_other_words_stay(tmp_path: Path) -> None:
    for name in ("models/a", "models/ab", "results"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "text.txt").write_text("x")
    settings = {"model": str(tmp_path / "models" / "a"), "drafts": ("demo/draft-small", "ngram")}
    config = make_config(SpecDecodeConfig, settings | {"dataset": f"file:{tmp_path}/text.txt"})
    places = places_of(config, tmp_path / "results")
    assert cleared(f"{tmp_path}/models/a cannot be read", places) == "path/to/a cannot be read"
    assert cleared(f"{tmp_path}/models/a/config.json", places) == "path/to/a/config.json"
    assert cleared(f"{tmp_path}/models/ab", places) == f"{tmp_path}/models/ab"
    assert cleared(f"file:{tmp_path}/text.txt", places) == "file:path/to/text.txt"
    assert cleared("demo/draft-small", places) == "demo/draft-small"
    assert cleared(f"in {Path.home()}/x", places) == "in ~/x"


def test_hub_ids_are_no_places() -> None:
    config = make_config(SpecDecodeConfig, {"model": "EleutherAI/pythia-70m", "drafts": ("ngram",)})
    assert "EleutherAI/pythia-70m" not in places_of(config, None)


@given(st.text(), st.dictionaries(st.text(min_size=2).map(lambda s: f"/{s}"), st.just("path/to/x")))
def test_what_names_no_place_is_left_alone(text: str, places: dict[str, str]) -> None:
    if not any(place in text for place in places):
        finding = Finding(code="a.b", text=text)
        assert without_places(finding, places) is finding


@pytest.mark.parametrize("include", [False, True])
def test_files_and_page_hold_no_whole_path(
    checkpoint: Path, text_file: Path, tmp_path: Path, include: bool
) -> None:
    with jobs_in_process():
        result = evaluate_precision(
            str(checkpoint),
            dataset=f"file:{text_file}",
            precisions="fp32,bf16",
            num_prompts=2,
            max_prompt_tokens=16,
            max_new_tokens=4,
            ppl_max_tokens=100,
            rounds=1,
            output=tmp_path / "out",
            include_paths=include,
        )
    assert result.config.model == str(checkpoint), "in memory it is what was asked"
    write_report(tmp_path / "out")
    for name in ("precision.json", "precision.md", "precision.csv", "report.html"):
        text = (tmp_path / "out" / name).read_text()
        assert (str(checkpoint.parent) in text) == (include and name in ("precision.json", "report.html"))
    found = load_result(tmp_path / "out" / "precision.json")
    assert found.model.name == checkpoint.name
    assert found.model.content
    assert include or found.config.model_dump()["model"] == f"path/to/{checkpoint.name}"
