"""What is found, what the page says, and that nothing of a file becomes markup. No browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

import bitdraft
from bitdraft.cli import app
from bitdraft.errors import UserError
from bitdraft.present.page import page
from bitdraft.present.page.discover import read_folders
from bitdraft.present.page.page import write_report
from bitdraft.present.page.run import build_run
from bitdraft.schema.io import to_json
from bitdraft.schema.manifest import Manifest
from earlier import earlier_files
from report_results import (
    MARKUP,
    batch_rows,
    plan_result,
    precision_result,
    recommendation,
    said,
    save,
    sweep_result,
)

VOID = {"meta", "link", "br", "img"}


class Reader(HTMLParser):
    """Tags, visible text, and that every element is closed in its turn."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)


BUNDLE = page._vega.__wrapped__


def read(path: Path) -> tuple[Reader, str]:
    html = path.read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    return reader, " ".join(" ".join(reader.text).split())


@pytest.fixture(autouse=True)
def _small_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library itself is for the browser's tests."""
    monkeypatch.setattr(page, "_vega", lambda: "'vega'")


def full(folder: Path, name: str = "org/model") -> Path:
    return save(
        folder,
        recommendation=recommendation(name),
        precision=precision_result(name),
        spec_decode_stdlib=sweep_result(name, rows=(*sweep_result(name).rows, *batch_rows())),
        spec_decode_plan_stdlib=plan_result(name),
    )


def test_the_page_holds_every_part_with_the_verdict_on_top(tmp_path: Path) -> None:
    path = write_report(full(tmp_path))
    assert path == tmp_path / "report.html"
    _, text = read(path)
    parts = [
        "What to deploy",
        "Deploy bf16 with a, K = 3.",
        "320 tokens/s",
        "Why. It is the fastest within the limits.",
        "6 prompts",
        "1 warning",
        "Speed over memory, every way that was measured",
        "Warnings",
        "A warning of the recommendation.",
        "All ways to run it",
        "Ready to run",
        "model = load('<here>') # & there",
        "vLLM was not measured.",
        "Use bf16.",
        "Throughput (tokens/s)",
        "Trade-off",
        "Quality against the reference",
        "Speculate with a, K = 3.",
        "Speedup (× plain decoding)",
        "Acceptance by position",
        "Predicted and measured",
        "Lossless",
        "Several prompts at once",
        "Costs",
        "Predicted speedup",
        "Environment",
        "Protocols",
        "Raw numbers",
        "How to reproduce",
        "bitdraft precision org/model --num-prompts 6 --max-new-tokens 100",
    ]
    text = text[text.index("What to deploy") :]  # behind the list of sections
    places = [text.find(part) for part in parts]
    assert -1 not in places, parts[places.index(-1)]
    assert places == sorted(places), "in this order"
    assert "bitdraft spec-decode org/model --k 2-4 --max-new-tokens 100" in text


def test_the_same_results_give_the_same_page(tmp_path: Path) -> None:
    full(tmp_path)
    first = write_report(tmp_path, tmp_path / "a.html").read_bytes()
    assert write_report([str(tmp_path)], str(tmp_path / "new" / "b.html")).read_bytes() == first


def test_several_folders_stand_side_by_side(tmp_path: Path) -> None:
    one, two = full(tmp_path / "one"), save(tmp_path / "two", deep__precision=precision_result("org/other"))
    path = write_report([one, two, one])
    assert path == one / "report.html"
    reader, text = read(path)
    headings = [tag for tag, _ in reader.tags if re.fullmatch("h[1-6]", tag)]
    assert (headings.count("h1"), headings.count("h2")) == (1, 3)
    assert "2 runs side by side" in text
    assert "nothing is paired between them" in text
    ids = {attributes["id"] for _, attributes in reader.tags if "id" in attributes}
    links = [str(a["href"]) for tag, a in reader.tags if tag == "a"]
    assert {link.removeprefix("#") for link in links} <= ids
    assert len(ids) == sum("id" in attributes for _, attributes in reader.tags)


def test_results_of_subfolders_are_told_apart(tmp_path: Path) -> None:
    save(tmp_path, precision=precision_result(), bf16__precision=precision_result())
    (run,) = [build_run(folder) for folder in read_folders([tmp_path])]
    assert [view.title for view in run.views] == ["Precision (bf16)", "Precision (top folder)"]
    save(
        tmp_path, spec_decode_a=sweep_result(), spec_decode_b=sweep_result(), spec_decode_plan_a=plan_result()
    )
    (run,) = [build_run(folder) for folder in read_folders([tmp_path])]
    assert [view.title for view in run.views][2:] == [
        "Speculation on stdlib, fp32 (spec_decode_a.json)",
        "Speculation on stdlib, fp32 (spec_decode_b.json)",
        "Plan of speculation on stdlib, fp32",
    ]


def test_markup_in_names_stays_text(tmp_path: Path) -> None:
    save(
        tmp_path,
        recommendation=recommendation(MARKUP),
        precision=precision_result(MARKUP, findings=said(f"Use {MARKUP}.")),
        spec_decode_x=sweep_result(MARKUP, draft=f"</script>{MARKUP}", text={"dataset": MARKUP} | TEXT_REST),
    )
    path = write_report(tmp_path)
    reader, text = read(path)
    assert not [tag for tag, _ in reader.tags if tag == "img"]
    assert not [name for _, attributes in reader.tags for name in attributes if name.startswith("on")]
    assert f"Use {MARKUP}." in text
    assert f"</script>{MARKUP}" in text
    assert "<img" not in path.read_text()
    shown = json.dumps([json.loads(script) for script in chart_scripts(path)])
    assert f"</script>{MARKUP}, K = 3" in shown


TEXT_REST = {"sha256": "0", "prompt_ids": ["a"], "prompt_tokens": [1]}


def chart_scripts(path: Path) -> list[str]:
    return re.findall(r'<script type="application/json" data-chart[^>]*>(.*?)</script>', path.read_text())


def test_nothing_is_loaded_and_only_these_scripts_run(tmp_path: Path) -> None:
    path = write_report(full(tmp_path))
    html = path.read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy is not None
    scripts = re.findall(r"<script>(.*?)</script>", html, re.S)
    assert len(scripts) == 2
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"&#39;sha256-{digest}&#39;" in policy[1]
    assert policy[1].startswith("default-src &#39;none&#39;;")
    assert "script-src &#39;sha256" in policy[1]
    assert "://" not in re.sub(r"<script>.*?</script>", "", html, flags=re.S)


def test_half_a_character_pair_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "precision.json").write_text(to_json(precision_result("HALF")).replace("HALF", "a\\ud800b"))
    _, text = read(write_report(tmp_path))
    assert "a?b on A processor" in text


def test_what_is_not_finished_is_said_before_all_verdicts(tmp_path: Path) -> None:
    save(tmp_path / "precision", precision=precision_result())
    assert "Not finished" not in read(write_report(tmp_path))[1]
    manifest = Manifest(
        kind="recommendation", config={}, versions={}, machine={}, created_utc="", updated_utc=""
    )
    (tmp_path / "run.json").write_text(manifest.model_dump_json())
    with pytest.warns(UserWarning, match="Its run is not finished"):
        path = write_report(tmp_path)
    text = read(path)[1]
    assert text.find("Its run is not finished: give its command again to go on.") < text.find("Use bf16.")


def test_every_chart_says_in_words_what_it_shows(tmp_path: Path) -> None:
    reader, _ = read(write_report(full(tmp_path)))
    charts = [attributes for _, attributes in reader.tags if attributes.get("role") == "img"]
    assert len(charts) == len(chart_scripts(tmp_path / "report.html")) > 15
    assert all(len(str(attributes["aria-label"])) > 30 for attributes in charts)


def test_a_damaged_file_is_a_warning_beside_the_others(tmp_path: Path) -> None:
    save(tmp_path, precision=precision_result())
    (tmp_path / "spec_decode_half.json").write_text('{"kind": "spec_')
    (tmp_path / "spec_decode_later.json").write_text('{"schema_version": 99}')
    rows = tuple(row.model_copy(update={"metrics": {}}) for row in sweep_result().rows)
    lost = sweep_result(rows=rows)
    (tmp_path / "spec_decode_lost.json").write_text(to_json(lost))
    nan = to_json(sweep_result()).replace('"leviathan": 1.5,', '"leviathan": NaN,', 1)
    (tmp_path / "spec_decode_nan.json").write_text(nan)
    (tmp_path / "spec_decode_rows.json").write_text(
        to_json(sweep_result()).replace('"rows": [', '"rows": [3,', 1)
    )
    (tmp_path / "recommendation.json").write_text('{"kind": "recommendation"}')
    with pytest.warns(UserWarning, match="cannot be shown") as found:
        _, text = read(write_report(tmp_path))
    assert len(found) == 6
    assert text.index("recommendation.json cannot be shown") < text.index("Use bf16."), "first of all"
    assert "not a recommendation result (config: Field required)" in text
    command = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert command.exit_code == 0
    assert command.stderr.count(f"Warning: {tmp_path.name}: ") == 6
    assert "spec_decode_half.json cannot be shown: not a spec-decode result" in text
    assert "spec_decode_later.json cannot be shown: schema version 99 is newer" in text
    assert "spec_decode_lost.json cannot be shown: it is damaged (KeyError" in text
    assert "(rows.1.predicted.leviathan: nan is no number)" in text
    assert "spec_decode_rows.json cannot be shown: not a spec-decode result" in text
    assert "Use bf16." in text


@pytest.mark.parametrize("version", [1, 2, 3])
def test_the_page_of_files_of_every_version_says_what_they_said(tmp_path: Path, version: int) -> None:
    said = earlier_files(version, tmp_path)
    _, text = read(write_report(tmp_path))
    for name, data in said.items():
        if "plan" in name:
            continue  # what was measured is said in its place
        assert " ".join(data["verdict"]["summary"].split()) in text


def error_of(*folders: Path, output: Path | None = None) -> UserError:
    with pytest.raises(UserError) as caught:
        write_report(list(folders), output)
    return caught.value


def test_what_cannot_be_shown_names_field_value_and_remedy(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    error = error_of(tmp_path / "empty")
    assert (error.field, error.value) == ("DIR", tmp_path / "empty")
    assert "holds no precision.json, spec_decode_*.json, recommendation.json or serving.json" in error.problem
    assert "--output folder" in error.remedy
    assert error_of(tmp_path / "nowhere").problem == "does not exist"
    (tmp_path / "file").write_text("")
    assert error_of(tmp_path / "file").problem == "is a file"
    assert error_of().problem == "no folder is named"
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "precision.json").write_text("[]")
    assert "no result file can be read (precision.json cannot be shown" in error_of(tmp_path / "bad").problem
    rows = tuple(row.model_copy(update={"metrics": {}}) for row in sweep_result().rows)
    save(tmp_path / "broken", spec_decode_x=sweep_result(rows=rows))
    assert "no result file can be shown (spec_decode_x.json" in error_of(tmp_path / "broken").problem
    good = save(tmp_path / "good", precision=precision_result())
    assert error_of(good, output=tmp_path).problem == "is a folder"
    (good / "report.html").write_text("before")
    assert error_of(good, tmp_path / "empty").field == "DIR"
    assert (good / "report.html").read_text() == "before"


def test_hidden_folders_are_left_out(tmp_path: Path) -> None:
    save(tmp_path, precision=precision_result())
    save(tmp_path / ".cache", precision=precision_result())
    assert [found.where for found in read_folders([tmp_path])[0].found] == ["precision.json"]


def test_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    folders = [save(tmp_path / name / "results", precision=precision_result()) for name in "ab"]
    assert [folder.label for folder in read_folders(folders)] == ["a/results", "b/results"]


def test_the_command_writes_the_page_and_says_where(tmp_path: Path) -> None:
    full(tmp_path)
    result = CliRunner().invoke(app, ["report", str(tmp_path), "--output", str(tmp_path / "x.html")])
    assert (result.exit_code, result.output.strip()) == (0, str(tmp_path / "x.html"))
    assert bitdraft.write_report is write_report
    lost = CliRunner().invoke(app, ["report", str(tmp_path / "nowhere")])
    assert lost.exit_code == 2
    assert "DIR" in lost.output
    assert "does not exist" in lost.output


def test_what_results_share_is_said_once(tmp_path: Path) -> None:
    full(tmp_path)
    _, text = read(write_report(tmp_path))
    environment = text[text.index("All results") : text.rindex("Protocols")]
    assert environment.count("CPU A processor") == 1
    assert "What differs" in environment
    assert "time (UTC)" in environment


def test_the_bundle_is_made_once_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def bundle(snippet: str) -> str:
        made.append(snippet)
        return "'vega' + '</script'"

    monkeypatch.setattr("vl_convert.javascript_bundle", bundle)
    monkeypatch.setenv("BITDRAFT_CACHE", str(tmp_path / "cache"))
    assert BUNDLE() == BUNDLE() == "'vega' + '<\\/script'"
    assert len(made) == 1
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_bytes(b"\xff")
    assert BUNDLE() == "'vega' + '<\\/script'"
    assert len(made) == 2, "a damaged one is made anew"
    (tmp_path / "file").touch()
    monkeypatch.setenv("BITDRAFT_CACHE", str(tmp_path / "file"))
    assert BUNDLE() == "'vega' + '<\\/script'", "and none is needed"
