"""The same findings in Chinese: every code has a sentence, and the sentence has the same numbers."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from bitdraft.api import evaluate_precision, evaluate_spec_decode
from bitdraft.present.charts.precision import chart
from bitdraft.present.page.page import write_report
from bitdraft.present.sentences import LANGUAGES, with_sentences
from bitdraft.present.translate import CHINESE, translated
from bitdraft.schema.findings import Finding
from bitdraft.schema.precision import PrecisionResult
from bitdraft.schema.spec_decode import SpecDecodeResult
from in_process import jobs_in_process
from report_results import precision_result, recommendation, save, sweep_result

NUMBER = re.compile(r"\d+\.\d+")
HAN = re.compile("[\u4e00-\u9fff]")


def test_every_conclusion_has_a_sentence_in_both() -> None:
    assert LANGUAGES["en"].keys() == LANGUAGES["zh"].keys()


@pytest.fixture
def measured(checkpoint: Path, text_file: Path) -> tuple[PrecisionResult, SpecDecodeResult, SpecDecodeResult]:
    shared: dict[str, object] = {"dataset": f"file:{text_file}", "num_prompts": 6, "max_prompt_tokens": 16}
    shared |= {"max_new_tokens": 8}
    with jobs_in_process():
        return (
            evaluate_precision(str(checkpoint), rounds=1, ppl_max_tokens=200, **shared),  # type: ignore[arg-type]
            evaluate_spec_decode(str(checkpoint), drafts=(f"own={checkpoint}", "ngram"), k="1-3", **shared),  # type: ignore[arg-type]
            evaluate_spec_decode(str(checkpoint), drafts=("ngram",), k="1-3", plan=True, **shared),  # type: ignore[arg-type]
        )


def test_its_numbers_are_those_of_the_english_one(
    measured: tuple[PrecisionResult, SpecDecodeResult, SpecDecodeResult],
) -> None:
    num = 0
    for result in measured:
        for one in result.findings:
            (found,) = with_sentences(result.model_copy(update={"findings": (one,)}), "zh").findings
            assert HAN.search(found.text), one.code
            assert sorted(NUMBER.findall(found.text)) == sorted(NUMBER.findall(one.text)), one.code
            num += 1
    assert num > 10


def test_the_page_is_in_chinese(tmp_path: Path) -> None:
    save(
        tmp_path, precision=precision_result(), spec_decode_x=sweep_result(), recommendation=recommendation()
    )
    text = write_report(tmp_path, lang="zh").read_text()
    assert '<html lang="zh-CN">' in text
    for word in ("部署什么", "原因。", "全部运行方式", "无显著差异", "如何复现", "内存峰值"):
        assert word in text, word


def test_pictures_are_in_chinese() -> None:
    use = Finding(code="precision.use", subject="bf16", severity="answer")
    found = with_sentences(precision_result(findings=(use,)), "zh")
    drawn = replace(chart(found), language="zh").svg()
    assert "使用 bf16。" in drawn
    assert "越高越好" in drawn


def test_words_are_translated_whole_or_by_part() -> None:
    assert translated("higher is better; thin line: replay", "zh") == "越高越好；细线：重放"
    assert translated("plain decoding 93.2", "zh") == "常规（自回归）解码 93.2"
    assert translated("Any other words", "zh") == "Any other words"
    assert translated("Copy", "en") == "Copy"
    assert all(CHINESE.values())
