"""Which files are compared, what is refused and why, what is listed, and what is written."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bitdraft import Comparison, UserError, compare_results
from bitdraft.compare import gate
from bitdraft.config import RecommendConfig
from bitdraft.present.comparison_files import csv_of, markdown_text
from bitdraft.schema.manifest import Manifest
from bitdraft.schema.precision import PrecisionResult
from bitdraft.schema.recommendation import Choice, Recommendation
from bitdraft.schema.records import Figure
from bitdraft.schema.spec_decode import SpecDecodeResult
from comparing import failed_row, precision_result, precision_row, runs, save_to, sweep, sweep_row
from said import sentences


def regressions_of(comparison: Comparison, limit: float) -> list[str]:
    return sentences(gate.regressions_of(comparison, gate.Limits(limit, limit)))


def plain_precision(**changes: Any) -> PrecisionResult:
    return precision_result(precision_row("fp32", runs()), **changes)


def plain_sweep(**changes: Any) -> SpecDecodeResult:
    return sweep(runs(), sweep_row("small", 3, runs(step=2)), **changes)


def of(tmp_path: Path, a: dict[str, Any], b: dict[str, Any], **settings: Any) -> Comparison:
    return compare_results(save_to(tmp_path / "a", **a), save_to(tmp_path / "b", **b), **settings)


def refused(tmp_path: Path, a: Any, b: Any) -> UserError:
    name = "precision" if isinstance(a, PrecisionResult) else "spec_decode_stdlib"
    with pytest.raises(UserError) as caught:
        of(tmp_path, {name: a}, {name: b})
    return caught.value


@pytest.mark.parametrize(
    ("changes", "field", "value", "remedy"),
    [
        ({"config": {"max_new_tokens": 20}}, "max_new_tokens", "9 in A, 20 in B", "with --max-new-tokens 9"),
        ({"config": {"ignore_eos": False}}, "ignore_eos", "True in A, False in B", "without --stop-at-eos"),
        (
            {"config": {"ppl_protocol": "gptq"}},
            "ppl_protocol",
            "sliding in A, gptq in B",
            "--ppl-protocol sliding",
        ),
        (
            {"config": {"ppl_max_tokens": 64}},
            "ppl_max_tokens",
            "not set in A, 64 in B",
            "without --ppl-max-tokens",
        ),
        (
            {"config": {"random_weights": True}},
            "random_weights",
            "False in A, True in B",
            "without --random-weights",
        ),
        ({"config": {"num_prompts": 5}}, "num_prompts", "10 in A, 5 in B", "with --num-prompts 10"),
        ({"text": {"sha256": "1" * 64}}, "text sha256", f"{'0' * 12} in A, {'1' * 12} in B", "same Python"),
        (
            {"text": {"sha256": "1" * 64, "dataset": "pg19"}},
            "dataset",
            "stdlib in A, pg19 in B",
            "--dataset stdlib",
        ),
        ({"text": {"prompt_ids": [f"q{i}" for i in range(10)]}}, "prompts", "p0 in A, q0 in B", "same flags"),
        (
            {"text": {"prompt_tokens": [5] * 10}, "config": {"max_prompt_tokens": 5}},
            "max_prompt_tokens",
            "1024 in A, 5 in B",
            "with --max-prompt-tokens 1024",
        ),
    ],
)
def test_other_work_is_refused_with_both_values_and_a_remedy(
    tmp_path: Path, changes: dict[str, Any], field: str, value: str, remedy: str
) -> None:
    error = refused(tmp_path, plain_precision(), plain_precision(**changes))
    assert (error.field, error.value) == (field, value)
    assert remedy in error.remedy


@pytest.mark.parametrize(
    ("config", "field", "value"),
    [
        ({"temperature": 0.8}, "temperature", "0.0 in A, 0.8 in B"),
        ({"top_k": 50}, "top_k", "not set in A, 50 in B"),
        ({"synthetic_acceptance": 0.8}, "synthetic_acceptance", "not set in A, 0.8 in B"),
        ({"precision": "bf16"}, "precision", "fp32 in A, bf16 in B"),
    ],
)
def test_a_sweep_under_other_conditions_is_refused(
    tmp_path: Path, config: dict[str, Any], field: str, value: str
) -> None:
    error = refused(tmp_path, plain_sweep(), plain_sweep(config=config))
    assert (error.field, error.value) == (field, value)


def test_a_limit_that_cut_no_prompt_is_no_reason(tmp_path: Path) -> None:
    b = plain_precision(config={"max_prompt_tokens": 64})
    assert len(of(tmp_path, {"precision": plain_precision()}, {"precision": b}).rows) == 1


def test_one_refused_pair_does_not_stop_the_others(tmp_path: Path) -> None:
    a = {"precision": plain_precision(), "spec_decode_stdlib": plain_sweep()}
    b = {"precision": plain_precision(config={"max_new_tokens": 5}), "spec_decode_stdlib": plain_sweep()}
    comparison = of(tmp_path, a, b)
    assert {row.name.source for row in comparison.rows} == {"spec_decode_stdlib"}
    (entry,) = comparison.refused
    assert (entry.source, entry.field, entry.values) == ("precision", "max_new_tokens", "9 in A, 5 in B")
    assert any("precision is not compared: max_new_tokens is 9 in A" in r for r in comparison.reasons)


def test_several_refused_pairs_are_all_named(tmp_path: Path) -> None:
    a = {"precision": plain_precision(), "spec_decode_stdlib": plain_sweep()}
    other = {"max_new_tokens": 5}
    b = {"precision": plain_precision(config=other), "spec_decode_stdlib": plain_sweep(config=other)}
    with pytest.raises(UserError, match=r"\(precision; spec_decode_stdlib: max_new_tokens is 9 in A"):
        of(tmp_path, a, b)


def test_nothing_in_common_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="A has precision, B has spec_decode_stdlib"):
        of(tmp_path, {"precision": plain_precision()}, {"spec_decode_stdlib": plain_sweep()})
    bf16 = precision_result(precision_row("bf16", runs()))
    with pytest.raises(UserError, match="no row that A has, too: A has fp32, B has bf16"):
        of(tmp_path, {"precision": plain_precision()}, {"precision": bf16})


def test_files_of_one_side_are_listed_and_plans_skipped(tmp_path: Path) -> None:
    plan = plain_sweep(config={"plan": True})
    a = {"precision": plain_precision(), "spec_decode_stdlib": plain_sweep(), "spec_decode_plan_stdlib": plan}
    comparison = of(tmp_path, a, {"precision": plain_precision()})
    assert comparison.files_only_a == ("spec_decode_stdlib",)
    assert comparison.plans == ("spec_decode_plan_stdlib",)
    assert any("were skipped: spec_decode_plan_stdlib" in reason for reason in comparison.reasons)


def test_sweeps_are_matched_by_what_they_measured(tmp_path: Path) -> None:
    """A file that was renamed, one of another text under the old name, and a synthetic one beside them."""
    other = {"sha256": "1" * 64}
    synthetic = plain_sweep(config={"synthetic_acceptance": 0.8})
    a = {"spec_decode_file": plain_sweep(), "spec_decode_synthetic_file": synthetic}
    b = {
        "spec_decode_file": plain_sweep(text=other),
        "spec_decode_renamed": plain_sweep(),
        "spec_decode_synthetic_file": synthetic,
    }
    comparison = of(tmp_path, a, b)
    assert {row.name.source for row in comparison.rows} == set(a)
    assert comparison.files_only_b == ("spec_decode_file",)
    assert comparison.refused == ()


def test_folders_are_read_at_any_depth(tmp_path: Path) -> None:
    """As `recommend` leaves them; hidden folders apart."""
    choices = {
        "a": Choice(precision="bf16", draft="ngram", k=4),
        "b": Choice(precision="fp32"),
    }
    for side, pace in (("a", 1.0), ("b", 2.0)):
        folder = save_to(tmp_path / side, precision=plain_precision())
        for precision, drafts in (("fp32", None), ("bf16", None), ("bf16", "fp32")):
            swept = sweep(
                runs(),
                sweep_row("small", 3, runs(pace, step=2)),
                config={"precision": precision, "draft_precision": drafts},
            )
            name = precision if drafts is None else f"{precision}-drafts-{drafts}"
            save_to(folder / name, spec_decode_stdlib=swept)
        save_to(folder / ".old", precision=plain_precision())
        save_to(folder, recommendation=Recommendation(config=RecommendConfig(), choice=choices[side]))
    comparison = compare_results(tmp_path / "a", tmp_path / "b")
    sources = {row.name.source for row in comparison.rows}
    assert sources == {
        "precision",
        "fp32/spec_decode_stdlib",
        "bf16/spec_decode_stdlib",
        "bf16-drafts-fp32/spec_decode_stdlib",
    }
    assert [difference.key for difference in comparison.differences] == ["recommended"]
    assert (comparison.differences[0].a, comparison.differences[0].b) == (
        "bf16, ngram, K = 4",
        "fp32, no draft",
    )
    assert "| recommended | bf16, ngram, K = 4 | fp32, no draft |" in markdown_text(comparison)
    slower = regressions_of(comparison, 0.05)
    assert len(slower) == 3
    assert any("bf16 with drafts in fp32: small, K = 3" in line for line in slower)


def test_what_b_lost_is_a_regression(tmp_path: Path) -> None:
    """A file, and rows that its settings ask for; other settings are another question."""
    fp32, bf16 = (precision_row(name, runs()) for name in ("fp32", "bf16"))
    arms = [sweep_row("small", k, runs(step=2)) for k in (3, 4)]
    asked = {"k": [3, 4], "drafts": ["small"], "batch_sizes": [1]}
    whole = {
        "precision": precision_result(fp32, bf16, config={"precisions": ["fp32", "bf16"]}),
        "spec_decode_stdlib": sweep(runs(), *arms, config=asked),
    }
    gone = of(tmp_path, whole, {"precision": whole["precision"]})
    assert regressions_of(gone, 0.5) == ["spec_decode_stdlib: not in B"]
    assert "missing in B: spec_decode_stdlib" in gone.summary
    for name, less, lost in (
        ("precision", precision_result(fp32, config={"precisions": ["fp32", "bf16"]}), ["bf16"]),
        ("precision", precision_result(fp32, config={"precisions": ["fp32"]}), []),
        ("spec_decode_stdlib", sweep(runs(), arms[0], config=asked), ["stdlib, fp32: small, K = 4"]),
        ("spec_decode_stdlib", sweep(runs(), arms[0], config=asked | {"k": [3]}), []),
        ("spec_decode_stdlib", sweep(runs(), arms[0], config=asked | {"only": [["small", 3]]}), []),
    ):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        comparison = of(folder, whole, whole | {name: less})
        assert list(comparison.lost) == lost
        assert len(regressions_of(comparison, 0.5)) == len(lost)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-3.5"])
def test_times_that_are_none_are_refused(tmp_path: Path, value: str) -> None:
    """The file and the field are named: nothing can be judged by nonsense."""
    a, b = (save_to(tmp_path / side, precision=plain_precision()) for side in ("a", "b"))
    file = b / "precision.json"
    data = json.loads(file.read_text())
    data["rows"][0]["runs"][2]["emissions"][1][0] = "VALUE"
    file.write_text(json.dumps(data).replace('"VALUE"', value))
    with pytest.raises(UserError, match=r"b/precision\.json: not a precision result \(rows\.0\.runs\.2"):
        compare_results(a, b)


def test_without_a_speed_nothing_can_be_judged(tmp_path: Path) -> None:
    failed = precision_result(failed_row("fp32"))
    both = of(tmp_path, {"precision": failed}, {"precision": failed})
    blind = gate.blind_spots(both, gate.Limits(slowdown=0.05))
    assert sentences(blind) == ["no row has a speed on both sides"]


def test_synthetic_and_real_acceptance_do_not_meet(tmp_path: Path) -> None:
    synthetic = plain_sweep(config={"synthetic_acceptance": 0.8})
    other_rate = plain_sweep(config={"synthetic_acceptance": 0.7})
    with pytest.raises(UserError, match="no result that A has"):
        of(tmp_path / "1", {"spec_decode_stdlib": plain_sweep()}, {"spec_decode_synthetic_stdlib": synthetic})
    with pytest.raises(UserError, match=r"0\.8 in A, 0\.7 in B"):
        of(
            tmp_path / "2",
            {"spec_decode_synthetic_stdlib": synthetic},
            {"spec_decode_synthetic_stdlib": other_rate},
        )


def scored(model: str, vocab_size: int, card: dict[str, Any] | None = None, **text: Any) -> PrecisionResult:
    row = precision_row("fp32", runs(), card=card)
    return precision_result(row, model={"name": model, "vocab_size": vocab_size}, text=text)


@pytest.mark.parametrize(
    ("b", "why"),
    [
        (
            scored("other", 500),
            None,
        ),  # the whole text is as many tokens: the same tokenizer, padded otherwise
        (scored("other", 300, {"truncated": True}), "truncated is False in A, True in B"),
        (
            scored("other", 300, {"num_scored_tokens": 2000}),
            "another tokenizer: the text is 2560 scored tokens",
        ),
        (
            scored("other", 300, prompt_tokens=[7] * 10),
            "another tokenizer: the same prompts are of other lengths",
        ),
        (scored("a model", 300, {"window": 32}), "window is 64 in A, 32 in B"),
    ],
)
def test_perplexities_of_other_tokenizers_or_windows_are_left_out(
    tmp_path: Path, b: PrecisionResult, why: str | None
) -> None:
    comparison = of(tmp_path, {"precision": scored("a model", 300)}, {"precision": b})
    (row,) = comparison.rows
    assert row.ratios["throughput_tok_s"].ratio.value == 1
    assert ("ppl" in row.ratios) == (why is None)
    reasons = " ".join(comparison.reasons)
    assert ("PPL left out" in reasons) == (why is not None)
    assert why is None or why in reasons


def test_lengths_that_were_cut_prove_no_tokenizer(tmp_path: Path) -> None:
    cut = {"truncated": True}
    a, b = scored("one", 300, cut), scored("two", 500, cut)
    (row,) = of(tmp_path, {"precision": a}, {"precision": b}).rows
    assert "ppl" not in row.ratios
    assert row.same_ids is None
    assert any("vocabularies of 300 and 500" in note.text for note in row.notes)


def test_bits_per_byte_stand_in_for_perplexity(tmp_path: Path) -> None:
    def whole(bits: float, num_scored: int) -> PrecisionResult:
        row = precision_row("fp32", runs(), card={"num_scored_tokens": num_scored})
        quality = row.quality.model_copy(update={"bits_per_byte": Figure(value=bits), "num_bytes": 9000})
        return precision_result(row.model_copy(update={"quality": quality}))

    (row,) = of(tmp_path, {"precision": whole(1.0, 2560)}, {"precision": whole(1.1, 2000)}).rows
    assert row.ratios["bits_per_byte"].ratio.value == 1.1
    assert row.ratios["bits_per_byte"].standing == "unknown"


def test_random_weights_have_no_quality(tmp_path: Path) -> None:
    row = precision_row("fp32", runs(), log_prob=None)
    result = precision_result(row, config={"random_weights": True})
    comparison = of(tmp_path, {"precision": result}, {"precision": result})
    assert "ppl" not in comparison.rows[0].ratios
    assert comparison.rows[0].notes == ()


def test_what_may_be_compared_is_listed_and_not_refused(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "config": {"backend": "transformers", "device": "cuda"},
        "environment": {"torch": "2.14.0", "gpu": "a GPU", "ceilings": {"copy_gb_s": 10.5}},
        "model": {"name": "another", "revision": "main"},
    }
    a = {"precision": plain_precision(), "spec_decode_stdlib": plain_sweep()}
    b = {
        "precision": plain_precision(**changes),
        "spec_decode_stdlib": plain_sweep(environment={"torch": "2.14.0"}),
    }
    found = {entry.key: (entry.a, entry.b) for entry in of(tmp_path, a, b).differences}
    assert found == {
        "config.backend": ("native", "transformers"),
        "config.device": ("auto", "cuda"),
        "environment.torch": ("2.13.0", "2.14.0"),
        "environment.gpu": (None, "a GPU"),
        "model.name": ("a model", "another"),
        "model.revision": (None, "main"),
    }


def test_a_setting_from_before_it_existed_has_its_default(tmp_path: Path) -> None:
    b = plain_precision(config={"random_weights": False, "execution": "auto", "ignore_eos": True})
    assert of(tmp_path, {"precision": plain_precision()}, {"precision": b}).differences == ()


@pytest.mark.parametrize("content", ["{", "[]", '{"kind": "recipe"}', '{"schema_version": 99}'])
def test_a_foreign_file_is_named(tmp_path: Path, content: str) -> None:
    a, b = save_to(tmp_path / "a", precision=plain_precision()), tmp_path / "b"
    b.mkdir()
    (b / "precision.json").write_text(content)
    with pytest.raises(UserError, match=r"b/precision\.json"):
        compare_results(a, b)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    a, b = (save_to(tmp_path / side, precision=plain_precision()) for side in "ab")
    record = json.loads((b / "precision.json").read_text())
    record["rows"][0]["runs"][0].pop("submit_s")
    (b / "precision.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"rows\.0\.runs\.0\.submit_s: Field required"):
        compare_results(a, b)


def test_folders_without_results_are_errors(tmp_path: Path) -> None:
    good = save_to(tmp_path / "good", precision=plain_precision())
    (tmp_path / "empty").mkdir()
    plans = save_to(tmp_path / "plans", spec_decode_plan_stdlib=plain_sweep(config={"plan": True}))
    for folder, why in (
        (tmp_path / "none", "does not exist"),
        (tmp_path / "empty", "holds no precision.json"),
        (plans, "holds only plans"),
    ):
        with pytest.raises(UserError, match=why) as caught:
            compare_results(good, folder)
        assert caught.value.field == "B"


def test_a_side_that_is_not_finished_is_said_first(tmp_path: Path) -> None:
    a, b = (save_to(tmp_path / side, precision=plain_precision()) for side in "ab")
    manifest = Manifest(
        kind="precision",
        config={},
        versions={},
        machine={},
        created_utc="",
        updated_utc="",
        state="interrupted",
        files=("precision.json",),
    )
    (b / "run.json").write_text(manifest.model_dump_json())
    summary = compare_results(a, b).summary
    assert summary.startswith("In B, its run is not finished: give its command again to go on.")
    assert "In A" not in summary


def test_everything_is_written(tmp_path: Path) -> None:
    a = {
        "precision": precision_result(precision_row("fp32", runs()), precision_row("fp16", runs())),
        "spec_decode_stdlib": plain_sweep(),
    }
    b = {
        "precision": precision_result(precision_row("fp32", runs(1.25)), failed_row("fp16")),
        "spec_decode_stdlib": sweep(runs(0.9), sweep_row("a|b", 3, runs(step=2))),
    }
    comparison = of(tmp_path, a, b, output=tmp_path / "out")
    assert {path.suffix for path in (tmp_path / "out").glob("comparison.*")} == {
        ".json",
        ".csv",
        ".md",
        ".png",
    }
    assert Comparison.model_validate_json((tmp_path / "out" / "comparison.json").read_text()) == comparison
    lines = list(csv.DictReader(io.StringIO(csv_of(comparison))))
    assert len(lines) == len(comparison.rows) + 2  # rows of one side last
    assert float(lines[0]["throughput_tok_s_ratio"]) == pytest.approx(0.8)
    assert lines[0]["throughput_tok_s_standing"] == "worse"
    assert [line["status_b"] for line in lines] == ["ok", "oom", "ok", "", "only here"]
    text = markdown_text(comparison)
    assert "| fp32 | ok | ▼ 0.800 [0.800, 0.800]" in text
    assert "| fp16 | ok → oom |  |" in text
    assert (tmp_path / "out" / "comparison.md").read_text() == text


def test_rows_without_any_ratio_are_not_drawn(tmp_path: Path) -> None:
    failed = precision_result(failed_row("fp32"))
    of(tmp_path, {"precision": failed}, {"precision": failed}, output=tmp_path / "out")
    assert not (tmp_path / "out" / "comparison.png").exists()


def test_comparing_imports_no_torch() -> None:
    imports = "import sys, bitdraft.compare.compare, bitdraft.present.comparison_table"
    program = f"{imports}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
