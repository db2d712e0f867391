"""Files of other load generators: figures by hand, failed requests, what cannot be read. The forms are those
of docs/import.md; the files are made here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import bitdraft
from bitdraft.cli import app
from bitdraft.errors import UserError
from bitdraft.schema.findings import codes, of_code
from bitdraft.schema.serving import ServingResult
from bitdraft.serving.imports.aiperf import most_at_once

START_NS = 1_790_000_000_000_000_000
SPEC = {
    "num_spec_steps": 10,
    "num_accepted_draft_tokens": 14,
    "num_draft_tokens": 20,
    "num_spec_tokens": 2,
}


def aiperf_line(place: int, start_s: float, ttft_ms: float, gaps_ms: Sequence[float], **more: Any) -> Any:
    end_ns = START_NS + round(1e9 * start_s + 1e6 * (ttft_ms + sum(gaps_ms)))
    return {
        "metadata": {
            "session_num": place,
            "request_start_ns": START_NS + round(1e9 * start_s),
            "request_end_ns": end_ns,
            "benchmark_phase": "profiling",
            "was_cancelled": False,
        },
        "metrics": {
            "time_to_first_token": {"value": ttft_ms, "unit": "ms"},
            "inter_chunk_latency": {"value": list(gaps_ms), "unit": "ms"},
            "request_latency": {"value": ttft_ms + sum(gaps_ms), "unit": "ms"},
            "input_sequence_length": {"value": 7, "unit": "tokens"},
            "output_sequence_length": {"value": 11, "unit": "tokens"},
        },
        "spec_decode_acceptance": {
            "engine": "vllm",
            "acceptance_histogram": {"0": 2, "1": 2, "2": 6},
            **SPEC,
        },
        **more,
    }


def vllm_file(ttfts: Sequence[float], itls: Sequence[Sequence[float]], **more: Any) -> dict[str, Any]:
    num = len(ttfts)
    return {
        "date": "20261127-120000",
        "backend": "vllm",
        "model_id": "org/model",
        "num_prompts": num,
        "request_rate": "inf",
        "max_concurrency": 2,
        "duration": 1.0,
        "completed": num,
        "request_throughput": 2.0,
        "total_input_tokens": 7 * num,
        "input_lens": [7] * num,
        "output_lens": [11] * num,
        "ttfts": list(ttfts),
        "itls": [list(own) for own in itls],
        "start_times": [100.0 + place for place in range(num)],
        "generated_texts": ["x"] * num,
        "errors": [""] * num,
        **more,
    }


SPEED_BENCH = {
    "config": {"concurrency": 1, "osl": 64, "bench": "qualitative"},
    "selected_samples": 2,
    "summary": [],
    "results": [
        {"id": "b", "ok": False, "error": "HTTP 503", "turns": 1, "latency_s": 0.0},
        {
            "id": "a",
            "ok": True,
            "turns": 1,
            "category": "coding",
            "latency_s": 2.5,
            "predicted_ms": 2000.0,
            "prompt_tokens": 7,
            "completion_tokens": 41,
            "draft_n": 40,
            "draft_n_accepted": 24,
        },
    ],
}


def guidellm_request(start_s: float, first_s: float, last_s: float, **more: Any) -> dict[str, Any]:
    timings = {"request_start": start_s, "first_token_iteration": first_s, "last_token_iteration": last_s}
    return {
        "request_start_time": start_s,
        "request_end_time": last_s,
        "prompt_tokens": 7,
        "output_tokens": 11,
        "output": "x",
        "info": {"status": "completed", "error": None, "timings": timings},
        **more,
    }


def guidellm_file(strategy: Mapping[str, Any], successful: Sequence[Any], errored: Sequence[Any] = ()) -> Any:
    requests = {"successful": list(successful), "errored": list(errored), "incomplete": [], "total": None}
    config = {"strategy": dict(strategy), "backend": {"model": "org/model"}}
    return {"type_": "generative_benchmark", "config": config, "requests": requests}


def written(tmp_path: Path, name: str, found: Any, *, lines: bool = False) -> Path:
    path = tmp_path / name
    path.write_text("\n".join(map(json.dumps, found)) if lines else json.dumps(found))
    return path


def test_aiperf_by_hand(tmp_path: Path) -> None:
    lines = [
        aiperf_line(0, 0.0, 100, [50] * 4),
        aiperf_line(1, 0.2, 200, [25] * 4),
        aiperf_line(2, 1.0, 0, [], error={"message": "refused", "code": 500}),
        aiperf_line(9, 0.0, 5000, []) | {"metadata": {"request_start_ns": 1, "benchmark_phase": "warmup"}},
    ]
    found = bitdraft.import_results([written(tmp_path, "profile_export.jsonl", lines, lines=True)])
    (row,) = found.rows
    assert (row.load, row.num_failed, row.k) == (2, 1, 2)
    assert row.metrics["ttft_ms"].value == pytest.approx(150)
    assert row.metrics["tpot_ms"].value == pytest.approx((200 + 100) / 20)
    assert row.metrics["throughput_tok_s"].value == pytest.approx(22 / (0.3 + 0.3))
    # both together, from 0 to 0.5 s
    assert row.metrics["output_tok_s"].value == pytest.approx(22 / 0.5)
    assert row.metrics["tokens_per_step"].value == pytest.approx(1 + 28 / 20)
    assert [one.share for one in row.acceptance_by_position] == pytest.approx([0.8, 0.6])
    assert found.servers[0].engine == "vllm"
    assert "import.read" in codes(found.findings)


def test_vllm_by_hand_with_counters(tmp_path: Path) -> None:
    counters = {
        "spec_decode_num_drafts": 20,
        "spec_decode_draft_tokens": 40,
        "spec_decode_accepted_tokens": 28,
        "spec_decode_per_position_acceptance_rates": [0.8, 0.6],
    }
    file = vllm_file([0.1, 0.2, 0.0], [[0.05] * 4, [0.025] * 4, []], **counters)
    file["output_lens"][2] = 0
    found = bitdraft.import_results([f"spec={written(tmp_path, 'run.json', file)}"])
    (row,) = found.rows
    assert (row.server, row.load, row.num_failed, row.k) == ("spec", 2, 1, 2)
    assert row.metrics["ttft_ms"].value == pytest.approx(150)
    assert row.metrics["tpot_ms"].value == pytest.approx((200 + 100) / 20)
    assert row.metrics["tokens_per_step"].value == pytest.approx(2.4)
    assert row.metrics["acceptance_rate"].value == pytest.approx(0.7)
    assert found.model.name == "org/model"


def test_speed_bench_by_hand(tmp_path: Path) -> None:
    found = bitdraft.import_results([written(tmp_path, "speed.json", SPEED_BENCH)])
    (row,) = found.rows
    assert (row.load, row.num_failed) == (1, 1)
    assert row.metrics["ttft_ms"].value == pytest.approx(500)
    assert row.metrics["tpot_ms"].value == pytest.approx(2000 / 40)
    # 41 tokens: one of the prompt, and 16 steps that keep 24
    assert row.metrics["tokens_per_step"].value == pytest.approx(1 + 24 / 16)
    assert "output_tok_s" not in row.metrics
    assert "import.not_streamed" in codes(found.findings)
    assert not any(name.startswith("itl") for name in row.metrics)


def test_guidellm_has_a_row_a_benchmark(tmp_path: Path) -> None:
    error = {"request_start_time": 3.0, "info": {"status": "errored", "error": "HTTP 500", "timings": {}}}
    benchmarks = [
        guidellm_file({"type_": "synchronous"}, [guidellm_request(0.0, 0.1, 0.3)], [error]),
        guidellm_file(
            {"type_": "concurrent", "streams": 4},
            [guidellm_request(5.0, 5.2, 5.4, response_metrics={"speculative_decoding": SPEC})],
        ),
    ]
    found = bitdraft.import_results([written(tmp_path, "b.json", {"benchmarks": benchmarks})])
    assert [(row.load, row.num_failed) for row in found.rows] == [(1, 1), (4, 0)]
    assert found.rows[0].metrics["ttft_ms"].value == pytest.approx(100)
    assert "itl_ms" not in found.rows[0].metrics
    assert found.rows[1].metrics["tpot_ms"].value == pytest.approx(20)
    assert found.rows[1].metrics["tokens_per_step"].value == pytest.approx(2.4)


def test_old_guidellm_has_other_names(tmp_path: Path) -> None:
    request = {
        "start_time": 1.0,
        "end_time": 1.4,
        "first_token_time": 1.1,
        "last_token_time": 1.3,
        "prompt_tokens": 7,
        "output_tokens": 11,
    }
    old = {
        "args": {"strategy": {"type_": "constant", "rate": 2.0}},
        "worker": {"backend_model": "org/old"},
        "requests": {"successful": [request], "errored": [], "incomplete": []},
    }
    found = bitdraft.import_results([written(tmp_path, "b.json", {"benchmarks": [old]})])
    assert (found.rows[0].load, found.config.rate, found.model.name) == (0, 2.0, "org/old")
    assert found.rows[0].metrics["ttft_ms"].value == pytest.approx(100)


def test_two_files_are_paired_and_nothing_is_judged(tmp_path: Path) -> None:
    ttfts = [0.1 + 0.01 * place for place in range(8)]
    slow = written(tmp_path, "slow.json", vllm_file(ttfts, [[0.05] * 10] * 8))
    fast = written(tmp_path, "fast.json", vllm_file(ttfts, [[0.02] * 10] * 8))
    output = tmp_path / "out"
    words = ["import", f"baseline={slow}", f"spec={fast}", "-o", str(output)]
    printed = CliRunner().invoke(app, words)
    assert printed.exit_code == 0, printed.output
    assert "measured apart" in " ".join(printed.output.split())
    found = bitdraft.load_result(output)
    assert isinstance(found, ServingResult)
    assert "import.apart" in codes(found.findings)
    (answer,) = of_code(found.findings, "import.ratio")
    by_hand = sum(ttft + 0.5 for ttft in ttfts) / sum(ttft + 0.2 for ttft in ttfts)
    assert answer.figure("speedup").value == pytest.approx(by_hand)
    assert found.verdict.best == {}
    assert "serving.texts" not in codes(found.findings)
    page = (output / "report.html").read_text()
    assert "bitdraft import baseline=path/to/slow.json spec=path/to/fast.json" in page


def test_other_prompts_are_not_paired(tmp_path: Path) -> None:
    one = written(tmp_path, "one.json", vllm_file([0.1], [[0.05]]))
    other = written(tmp_path, "other.json", vllm_file([0.1], [[0.05]], input_lens=[9]))
    with pytest.raises(UserError, match="request 0 has 9 tokens, and there 7"):
        bitdraft.import_results([one, other])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "neither JSON nor JSON Lines"),
        (" \n", "is empty"),
        (json.dumps(vllm_file([], [])), "holds no request"),
        (json.dumps(vllm_file([0.1], [[0.1]], start_times=[1, 2])), "holds 1 ttfts and 2 start_times"),
        (json.dumps(vllm_file([0.5], [[0.1]], latencies=[0.4])), "0.2 s behind its end"),
        (json.dumps(vllm_file([0.5], [[0.1]]) | {"ttfts": [[0.5]]}), "another form than this tool writes"),
        (json.dumps(SPEED_BENCH | {"results": []}), "holds no sample"),
        ("[]", "no tool that is known"),
        ("{}", "no tool that is known"),
        (json.dumps({"request_throughput": 1.0, "duration": 1.0}), "--save-detailed"),
        (json.dumps(vllm_file([0.1], [])), "is damaged"),
        (
            json.dumps(aiperf_line(0, 0.0, 100, []) | {"metadata": {"request_start_ns": 1}}),
            "without request_end_ns",
        ),
        (json.dumps(vllm_file([-0.1], [[0.1]])), "cannot be"),
        (json.dumps(vllm_file([0.1], [[0.1]], output_lens=[-4])), "a request of -4 tokens"),
        (
            json.dumps(
                vllm_file([0.1], [[0.1]], spec_decode_num_drafts=4)
                | {"spec_decode_per_position_acceptance_rates": [1.75, 0.4]}
            ),
            "a rate of acceptance that is none (1.75, 0.4)",
        ),
        (json.dumps(vllm_file([float("nan")], [[0.1]])), "no numbers"),
        (json.dumps({"benchmarks": [guidellm_file({"type_": "synchronous"}, [])]}), "no single requests"),
        (json.dumps(SPEED_BENCH | {"results": [{"id": "a", "ok": True}]}), "without latency_s"),
        (json.dumps({"a": 1, "b": 2}), "what its first entry has (a, b)"),
        ('{"a": 1}\n{"a": 2}\n{"a": ', "line 3 of its JSON Lines is none: the last one is cut off"),
        ('{"a": 1}\n{"a": \n{"a": 2}', "line 2 of its JSON Lines is none: it is damaged"),
        ('{"a": ', "JSON ends at line 1, column"),
    ],
)
def test_what_cannot_be_read_is_refused(content: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        bitdraft.import_results([path])
    assert expected in str(caught.value)
    assert "x.json" in str(caught.value)


def test_what_is_not_compared_is_said(tmp_path: Path) -> None:
    base = vllm_file([0.1] * 3, [[0.05]] * 3)
    shorter = vllm_file([0.1] * 2, [[0.05]] * 2)
    elsewhere = vllm_file([0.1] * 3, [[0.05]] * 3, max_concurrency=8)
    unknown = {key: value for key, value in base.items() if key != "input_lens"}
    files = [written(tmp_path, "base.json", base)]
    for name, other, code, said in (
        ("shorter", shorter, "import.lengths", "has 2 requests and base 3"),
        ("elsewhere", elsewhere, "import.no_common_load", "concurrency 8 and base at 2: nothing is compared"),
        ("unknown", unknown, "import.by_place", "by their places alone"),
    ):
        found = bitdraft.import_results([*files, written(tmp_path, f"{name}.json", other)])
        assert [
            one.code for one in found.findings if one.code.startswith("import.") and one.severity == "warning"
        ] == [code]
        assert said in " ".join(found.warnings)


def test_a_model_without_a_name_and_a_file_without_a_machine(tmp_path: Path) -> None:
    path = written(tmp_path, "speed.json", SPEED_BENCH)
    printed = CliRunner().invoke(app, ["import", str(path), "-o", str(tmp_path / "out")])
    assert printed.exit_code == 0, printed.output
    text = (tmp_path / "out" / "serving.md").read_text()
    assert text.startswith("# Servers of a model without a name")
    assert text.rstrip().endswith("Read from speed=speed.json.")
    assert "None" not in text + printed.output + (tmp_path / "out" / "serving.csv").read_text()


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["import", str(tmp_path / "no.json"), "-o", str(tmp_path / "out")])
    assert found.exit_code == 2
    assert "no.json" in found.output


def test_why_all_failed_is_shown(tmp_path: Path) -> None:
    failed = vllm_file([0.0, 0.0], [[], []], errors=["Service Unavailable"] * 2, output_lens=[0, 0])
    file = str(written(tmp_path, "base.json", failed))
    for more in ([], ["-q"]):
        found = CliRunner().invoke(app, ["import", file, "-o", str(tmp_path / "out"), *more])
        assert found.exit_code == 1, found.output
        assert "failed (Service Unavailable)" in " ".join(found.output.split())


def test_several_rates_are_refused(tmp_path: Path) -> None:
    files = [
        written(tmp_path, f"{rate}.json", vllm_file([0.1], [[0.1]], request_rate=rate, max_concurrency=None))
        for rate in (1.0, 2.0)
    ]
    with pytest.raises(UserError, match="several rates"):
        bitdraft.import_results(files)


def test_how_many_were_in_flight() -> None:
    assert most_at_once([(0, 1), (1, 2), (1.5, 3), (1.7, 1.8)]) == 3
    assert most_at_once([(0, 1), (1, 2)]) == 1
