"""Servers beside each other: order, figures by hand, verdicts, faults; over stubs on loopback."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import bitdraft
from bitdraft.cli import app
from bitdraft.config import ServeBenchConfig, make_config
from bitdraft.config.commands import command_of
from bitdraft.errors import UserError
from bitdraft.metrics.serving import (
    acceptance_figures,
    goodput_figures,
    kept_by_position,
    latency_figures,
    load_figures,
    paces,
    positions_of,
    speedup_figures,
)
from bitdraft.present.serving_files import csv_of, markdown_text
from bitdraft.schema.findings import codes, of_code, warning
from bitdraft.schema.io import read_result
from bitdraft.schema.records import Figure
from bitdraft.schema.serving import ServerRequest, ServingResult, ServingRow, SpecCounts
from bitdraft.servers.turns import turns
from bitdraft.serving.analysis import Records, build_rows
from bitdraft.serving.schedule import arrivals_s, blocks_of
from bitdraft.serving.verdict import break_even, decide, warnings_of
from stub_server import Reply, Script, Stub, plain, serving

MINIMAL: dict[str, Any] = {"num_prompts": 6, "max_new_tokens": 8, "max_prompt_tokens": 8, "num_warmup": 0}


def request(prompt: int, submit_s: float, *event_s: float, tokens: int = 0, **more: Any) -> ServerRequest:
    return ServerRequest(
        server=more.pop("server", "a"),
        load=more.pop("load", 1),
        prompt=prompt,
        submit_s=submit_s,
        event_s=event_s,
        end_s=event_s[-1] if event_s else submit_s,
        completion_tokens=tokens or len(event_s),
        **more,
    )


# order


def test_every_prompt_is_sent_once_and_who_is_first_changes() -> None:
    for load in (0, 1, 3, 16):
        blocks = blocks_of(20, load)
        assert [index for block in blocks for index in block] == list(range(20))
    assert len(blocks_of(20, 1)) == 20
    assert len(blocks_of(20, 0)) == 1
    assert [turns(["a", "b", "c"], number) for number in (0, 1)] == [["a", "b", "c"], ["c", "b", "a"]]


def test_arrivals_are_a_seeded_poisson_process() -> None:
    found = arrivals_s(4000, 5.0, 1)
    assert found[0] == 0
    gaps = [after - before for before, after in itertools.pairwise(found)]
    mean = sum(gaps) / len(gaps)
    assert mean == pytest.approx(0.2, rel=0.05)
    assert sum((gap - mean) ** 2 for gap in gaps) / len(gaps) == pytest.approx(mean**2, rel=0.15)
    assert found == arrivals_s(4000, 5.0, 1) != arrivals_s(4000, 5.0, 2)


# figures


def test_latencies_by_hand() -> None:
    one, two = request(0, 10.0, 10.5, 10.7, 11.5, tokens=5), request(1, 20.0, 20.1, 20.2, tokens=3)
    figures = latency_figures([one, two])
    assert figures["throughput_tok_s"].value == pytest.approx(8 / (1.5 + 0.2))
    assert figures["ttft_ms"].value == pytest.approx((500 + 100) / 2)
    assert figures["tpot_ms"].value == pytest.approx(1000 * (1.0 + 0.1) / (4 + 2))
    assert figures["itl_ms"].value == pytest.approx((500 + 100) / 2)
    assert load_figures([[one], [two]])["output_tok_s"].value == pytest.approx(8 / 1.7)


def test_goodput_counts_what_failed() -> None:
    requests = [request(0, 0.0, 0.1, 0.2), request(1, 1.0, 1.5, 1.6), request(2, 2.0, 2.1, 2.9)]
    found = goodput_figures([[one] for one in requests], 1, max_ttft_ms=200, max_tpot_ms=500)
    assert found["goodput_share"].value == pytest.approx(1 / 4)
    assert found["goodput_req_s"].value == pytest.approx(1 / (0.2 + 0.6 + 0.9))


def test_speedup_is_paired_by_prompt() -> None:
    pairs = [(request(i, 0.0, 0.1, 0.5, tokens=10), request(i, 0.0, 0.2, 1.0, tokens=10)) for i in range(6)]
    figures = speedup_figures(pairs)
    assert figures["speedup"].value == pytest.approx(2.0)
    assert figures["decode_speedup"].value == pytest.approx(2.0)
    assert figures["speedup"].n == 6


def test_acceptance_by_hand() -> None:
    specs = [
        SpecCounts(num_steps=4, num_drafted=12, num_accepted=6, histogram=(1, 1, 1, 1), k=3),
        SpecCounts(num_steps=2, num_drafted=6, num_accepted=6, histogram=(0, 0, 0, 2), k=3),
    ]
    requests = [request(i, 0.0, 0.1, 0.2, spec=spec) for i, spec in enumerate(specs)]
    figures = acceptance_figures([*requests, request(2, 0.0, 0.1)], 3)
    assert figures["tokens_per_step"].value == pytest.approx(1 + 12 / 6)
    assert figures["acceptance_rate"].value == pytest.approx(12 / 6 / 3)
    assert figures["draft_acceptance"].value == pytest.approx(12 / 18)
    assert kept_by_position(requests) == ((5, 4, 3), 6)
    shares = positions_of((5, 4, 3), 6)
    assert [one.share for one in shares] == pytest.approx([5 / 6, 4 / 6, 3 / 6])
    assert [one.conditional for one in shares] == pytest.approx([5 / 6, 4 / 5, 3 / 4])
    assert "acceptance_rate" not in acceptance_figures(requests, None)


# verdicts


def test_where_speculation_stops_paying_lies_between_two_loads() -> None:
    pays, refuses = Figure(value=1.5, low=1.3, high=1.7, n=9), Figure(value=0.9, low=0.8, high=1.0, n=9)
    is_open = Figure(value=1.1, low=0.9, high=1.3, n=9)
    assert break_even({1: pays, 4: is_open, 16: refuses}) == (1, 16)
    assert break_even({1: pays, 4: pays}) is None
    assert break_even({1: refuses, 4: refuses}) == (0, 1)
    assert break_even({1: is_open, 4: is_open}) is None
    assert break_even({1: refuses, 4: pays, 16: refuses}) == (4, 16)


def row(server: str, speedup: float | None = None, tokens_per_step: float | None = None) -> ServingRow:
    metrics = {"throughput_tok_s": Figure(value=10.0, n=9)}
    if speedup is not None:
        metrics["speedup"] = Figure(value=speedup, low=0.95 * speedup, high=1.05 * speedup, n=9)
    if tokens_per_step is not None:
        metrics["tokens_per_step"] = Figure(value=tokens_per_step, n=9)
    return ServingRow(server=server, load=1, status="ok", metrics=metrics)


def test_servers_that_ran_apart_on_a_machine_that_changed_are_not_compared() -> None:
    servers = ("base=http://a", "spec=http://b")
    rows = [row("base"), row("spec", 1.5)]
    for settings, drift, expected in (
        ({}, 1.6, "serving.pays"),
        ({"one_at_a_time": True, "launch": "servers.toml"}, 1.2, "serving.pays"),
        ({"one_at_a_time": True, "launch": "servers.toml"}, 1.6, "serving.too_drifted"),
    ):
        config = make_config(ServeBenchConfig, {"servers": servers, **settings})
        verdict, findings = decide(rows, config, [warning("serving.drift", "base", load=1, drift=drift)])
        assert codes(findings, "answer") == [expected]
        assert verdict.best == ({"1": "spec"} if expected == "serving.pays" else {})


def test_the_plain_servers_own_pace_is_watched() -> None:
    """Steps of 10 ms, then of 15; what failed, and other servers, say nothing."""
    requests = [
        request(i, 10.0 * i, 10.0 * i + 1, 10.0 * i + 1 + 9 * (0.010 if i < 6 else 0.015), tokens=10)
        for i in range(9)
    ]
    other = request(0, 0.0, 0.1, 9.0, server="b", tokens=10)
    failed = request(9, 99.0, error="broken", tokens=0)
    assert paces([*reversed(requests), other, failed], "a") == {1: pytest.approx(1.5)}
    assert paces(requests[:2], "a") == {1: None}
    records = Records()
    for one in requests:
        records.take({"event": "request", "request": one.model_dump(mode="json")})
    config = make_config(ServeBenchConfig, {"servers": ("a=http://a", "b=http://b")})
    assert of_code(warnings_of(records, [], config), "serving.drift")[0].number("drift") > 1.49
    records.timeline = "none"
    assert not of_code(warnings_of(records, [], config), "serving.drift")


def records_of(*requests: ServerRequest, counters: dict[str, Any] | None = None) -> Records:
    found = Records()
    for one in requests:
        found.take({"event": "request", "request": one.model_dump(mode="json")})
    if counters is not None:
        found.take({"event": "counters", "restarted": False, "num_requests": None, **counters})
    return found


def test_counters_of_a_part_of_the_requests_are_in_no_figure() -> None:
    counts = SpecCounts(num_steps=4, num_accepted=4, accepted_by_position=(3, 1)).model_dump(mode="json")
    requests = [request(i, 1.0 * i, i + 0.1, i + 0.9, tokens=8) for i in range(6)]
    config = make_config(ServeBenchConfig, {"servers": ("a=http://a",), "speculative_tokens": "2"})
    for num_sent, is_used in ((6, True), (3, False)):
        window = {"server": "a", "load": 1, "counts": counts, "num_sent": num_sent}
        records = records_of(*requests, counters=window)
        rows = build_rows(records, config)
        assert ("tokens_per_step" in rows[0].metrics) == is_used
        assert bool(rows[0].acceptance_by_position) == is_used
        found = of_code(warnings_of(records, rows, config), "serving.counters_partial")
        assert [(one.number("n"), one.number("of")) for one in found] == ([] if is_used else [(3, 6)])


@pytest.mark.parametrize(("seconds", "waiting"), [(0.5, None), (4.5, 4)])
def test_a_queue_that_grows_is_told(seconds: float, waiting: int | None) -> None:
    """A request a second: those of 4.5 s are not over when the sixth is sent, but for one."""
    requests = [request(i, 1.0 * i, i + 0.1, i + seconds, load=0, tokens=8) for i in range(6)]
    config = make_config(ServeBenchConfig, {"servers": ("a=http://a",), "rate": 1.0})
    records = records_of(*requests)
    notes = warnings_of(records, build_rows(records, config), config)
    found = of_code(notes, "serving.overloaded")
    assert [one.number("n") for one in found] == ([] if waiting is None else [waiting])
    assert not of_code(notes, "serving.drift")


def test_cut_steps_at_the_ends_of_answers_are_no_lack_of_confidence() -> None:
    config = make_config(ServeBenchConfig, {"servers": ("a=http://a",), "speculative_tokens": "4"})
    for drafted, is_told in ((37, False), (20, True)):
        spec = SpecCounts(num_steps=10, num_drafted=drafted, num_accepted=12)
        records = records_of(*(request(i, 1.0 * i, i + 0.1, i + 0.9, tokens=22, spec=spec) for i in range(5)))
        notes = warnings_of(records, build_rows(records, config), config)
        assert bool(of_code(notes, "serving.k_is_less")) == is_told


def test_what_does_other_work_is_recommended_by_no_verdict() -> None:
    rows = [row("base"), row("spec", 2.5, 2.0)]
    for settings, code, is_out in (
        ({}, "serving.beyond_a_step", True),
        ({}, "serving.lengths", True),
        ({"temperature": 0.8}, "serving.lengths", False),
        ({}, "serving.retried", False),
    ):
        config = make_config(ServeBenchConfig, {"servers": ("base=http://a", "spec=http://b"), **settings})
        verdict, findings = decide(rows, config, [warning(code, "spec", load=1)])
        assert codes(findings, "answer") == ["serving.not_the_same" if is_out else "serving.pays"]
        assert (verdict.best == {}) is is_out


def test_more_tokens_than_were_asked_for_are_a_failure(tmp_path: Path) -> None:
    with serving(Stub(lambda *_: plain(8, usage={"completion_tokens": 80}))) as stub:
        result = bitdraft.bench_servers(f"only={stub.url}", output=tmp_path, **MINIMAL)
    assert (result.rows[0].status, result.rows[0].num_failed) == ("failed", 6)
    assert "counts 80 tokens, of 8 at most" in result.rows[0].reason


def test_more_than_a_step_can_give_is_warned_of() -> None:
    config = make_config(ServeBenchConfig, {"servers": ("base=http://a", "spec=http://b")})
    for speedup, is_warned in ((2.1, False), (2.5, True)):
        found = warnings_of(Records(), [row("base"), row("spec", speedup, 2.0)], config)
        assert ("serving.beyond_a_step" in codes(found, "warning")) is is_warned


# whole runs


def bench(tmp_path: Path, plain_script: Script, spec_script: Script, **settings: Any) -> ServingResult:
    """Two stubs beside each other."""
    with serving(Stub(plain_script)) as base, serving(Stub(spec_script)) as other:
        servers = (f"baseline={base.url}", f"server={other.url}")
        return bitdraft.bench_servers(servers, output=tmp_path / "run", **{**MINIMAL, **settings})


def test_a_faster_server_is_used_and_a_slower_one_is_not(tmp_path: Path) -> None:
    def slow(*_: Any) -> Reply:
        return plain(8, 0.05)

    def fast(*_: Any) -> Reply:
        return plain(8, 0.002)

    result = bench(tmp_path / "a", slow, fast)
    assert result.verdict.best == {"1": "server"}
    assert codes(result.findings, "answer") == ["serving.pays"]
    speedup = result.rows[1].metrics["speedup"]
    assert 2 < speedup.value < 25
    assert speedup.low is not None
    assert of_code(result.findings, "serving.texts")[0].number("same") == 6
    assert read_result(tmp_path / "a" / "run" / "serving.json", ServingResult) == result
    assert bitdraft.load_result(tmp_path / "a" / "run") == result
    assert result.chart() is not None
    assert "server" in result._repr_html_()
    assert "server" in csv_of(result)
    assert "At concurrency 1 use server" in markdown_text(result)
    assert (tmp_path / "a" / "run" / "serving.png").stat().st_size > 5000
    result = bench(tmp_path / "b", fast, slow, concurrency="1,2")
    assert result.verdict.best == {"1": "baseline", "2": "baseline"}
    assert result.verdict.stops_at == {"server": 1}


def test_a_failed_request_is_counted_and_in_no_speed(tmp_path: Path) -> None:
    def script(_: dict[str, Any], number: int) -> Reply:
        return Reply([b"busy"], 429) if number == 2 else plain()

    result = bench(tmp_path, lambda *_: plain(), script)
    assert [row.num_failed for row in result.rows] == [0, 1]
    assert result.rows[1].metrics["throughput_tok_s"].n == 5
    assert of_code(result.findings, "serving.some_failed")[0].word("why") == "HTTP 429: busy"
    failed = [one for one in result.requests if one.error is not None]
    assert [one.num_tries for one in failed] == [1], "nothing is tried again unless it is asked for"


def test_a_retried_request_is_named(tmp_path: Path) -> None:
    def script(_: dict[str, Any], number: int) -> Reply:
        return Reply([b"busy"], 429) if number == 2 else plain()

    result = bench(tmp_path, lambda *_: plain(), script, retries=1)
    assert [row.num_failed for row in result.rows] == [0, 0]
    assert of_code(result.findings, "serving.retried")[0].number("n") == 1


def test_a_server_that_is_dead_is_a_row(tmp_path: Path) -> None:
    result = bench(tmp_path, lambda *_: plain(), lambda *_: Reply(no_answer=True))
    assert [row.status for row in result.rows] == ["ok", "failed"]
    assert "the connection broke" in result.rows[1].reason
    assert codes(result.findings, "answer") == ["serving.not_compared"]


def test_the_same_call_sends_nothing_again(tmp_path: Path) -> None:
    with serving(Stub(lambda *_: plain())) as stub:
        ask = {**MINIMAL, "output": tmp_path}
        first = bitdraft.bench_servers(f"only={stub.url}", **ask)
        assert len(stub.bodies) == 6
        assert bitdraft.bench_servers(f"only={stub.url}", **ask).rows == first.rows
        assert len(stub.bodies) == 6
    assert codes(first.findings, "answer") == ["serving.alone"]


def test_other_users_of_a_server_and_contradictions_are_found(tmp_path: Path) -> None:
    ended = [0]

    def script(_: dict[str, Any], number: int) -> Reply:
        ended[0] += 2
        return plain(8, metrics={"speculative_decoding": {"num_spec_steps": 4, "num_draft_tokens": 12,
            "num_accepted_draft_tokens": 6, "num_spec_tokens": 3, "acceptance_histogram": [1, 1, 1, 1 + (number == 3)]}})  # fmt: skip  # noqa: E501

    def counters() -> str:
        return f'vllm:request_success_total{{finished_reason="length"}} {ended[0]}'

    engine = {"/version": {"version": "0.32.0"}}
    with serving(Stub(script, engine, counters)) as stub:
        result = bitdraft.bench_servers(f"only={stub.url}", output=tmp_path, **MINIMAL)
    (row,) = result.rows
    assert (row.k, result.servers[0].adapter) == (3, "vllm")
    assert row.metrics["tokens_per_step"].value == pytest.approx(2.5)
    assert of_code(result.findings, "serving.others")[0].number("n") == 6
    assert "5 steps in the histogram, 4" in of_code(result.findings, "serving.contradiction")[0].word("what")


def test_what_contradicts_itself_is_in_no_figure(tmp_path: Path) -> None:
    """Six tokens kept in one step cannot be of K = 2."""
    timings = {"predicted_n": 8, "draft_n": 12, "draft_n_accepted": 6}
    with serving(Stub(lambda *_: plain(8, timings=timings), {"/props": {"build_info": "b1"}})) as stub:
        for k, is_told in ((6, True), (2, False)):
            settings = {**MINIMAL, "speculative_tokens": str(k), "output": tmp_path / str(k)}
            result = bitdraft.bench_servers(f"only={stub.url}", **settings)
            assert ("acceptance_rate" in result.rows[0].metrics) is is_told
            assert ("serving.contradiction" not in codes(result.findings, "warning")) is is_told
    assert "6 tokens accepted in 1 step of K = 2" in " ".join(result.warnings)


@pytest.mark.parametrize(
    ("said", "share"),
    [
        ({"usage": {"prompt_tokens_details": {"cached_tokens": 4}}}, 0.8),
        ({"timings": {"cache_n": 4}}, 0.8),
        ({"timings": {"cache_n": 0}}, None),
        ({"usage": {"prompt_tokens_details": None}}, None),
        ({}, None),
    ],
)
def test_prompts_that_a_server_knew_are_told(
    said: dict[str, Any], share: float | None, tmp_path: Path
) -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 8, **said.get("usage", {})}
    more = {name: value for name, value in said.items() if name != "usage"}
    with serving(Stub(lambda *_: plain(8, usage=usage, **more))) as stub:
        result = bitdraft.bench_servers(f"only={stub.url}", output=tmp_path, **MINIMAL)
    found = of_code(result.findings, "serving.cached")
    assert [one.number("share") for one in found] == ([] if share is None else [pytest.approx(share)])


def test_an_engine_that_drafts_less_than_k_is_told(tmp_path: Path) -> None:
    timings = {"predicted_n": 8, "draft_n": 6, "draft_n_accepted": 3}
    engine = {"/props": {"build_info": "b1"}}
    with serving(Stub(lambda *_: plain(8, timings=timings), engine)) as stub:
        servers = f"only={stub.url}"
        result = bitdraft.bench_servers(servers, output=tmp_path, speculative_tokens="4", **MINIMAL)
        assert stub.bodies[0]["cache_prompt"] is False
    assert of_code(result.findings, "serving.k_is_less")[0].number("drafted") == pytest.approx(1.5)
    assert result.rows[0].metrics["acceptance_rate"].value == pytest.approx(3 / 4 / 4)


def test_requests_come_at_a_rate(tmp_path: Path) -> None:
    with serving(Stub(lambda *_: plain())) as stub:
        result = bitdraft.bench_servers(f"only={stub.url}", output=tmp_path, rate=2.0, **MINIMAL)
    sent = sorted(one.submit_s for one in result.requests)
    expected = arrivals_s(6, 2.0, 0)
    assert [time_s - sent[0] for time_s in sent] == pytest.approx(expected, abs=0.3)
    assert result.rows[0].load == 0


def test_prompts_are_cut_by_tokens_where_there_is_a_tokenizer(tmp_path: Path) -> None:
    engine = {"/version": {"version": "0.32.0"}}
    with serving(Stub(lambda *_: plain(), engine)) as stub:
        settings = {**MINIMAL, "tokenizer": "demo/target", "output": tmp_path}
        bitdraft.bench_servers(f"only={stub.url}", **settings)
        assert all(len(body["prompt"]) == 8 and isinstance(body["prompt"][0], int) for body in stub.bodies)
    with serving(Stub(lambda *_: plain())) as stub, pytest.raises(UserError, match="token ids"):
        bitdraft.bench_servers(f"only={stub.url}", **settings | {"output": tmp_path / "b"})


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"servers": ("a=localhost:80",)}, "no NAME=http"),
        ({"servers": ("a=http://u:p@h:1",)}, "secret"),
        ({"servers": ("a=http://h:1", "a=http://h:2")}, "two servers are called a"),
        ({"servers": ("a=http://h:1",), "concurrency": "0"}, "outside 1"),
        ({"servers": ("a=http://h:1",), "speculative_tokens": "b=3"}, "no K"),
        ({"servers": ()}, "no server"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        make_config(ServeBenchConfig, settings)


def test_the_command_compares_two_urls(tmp_path: Path) -> None:
    with serving(Stub(lambda *_: plain(8, 0.05))) as base, serving(Stub(lambda *_: plain(8, 0.002))) as other:
        words = ["serve-bench", other.url, "--baseline", base.url, "-n", "6", "--max-prompt-tokens", "8"]
        found = CliRunner().invoke(app, [*words, "--max-new-tokens", "8", "-o", str(tmp_path)])
    assert found.exit_code == 0, found.output
    assert "use server" in found.output
    found = CliRunner().invoke(app, ["serve-bench", "http://127.0.0.1:9"])
    assert found.exit_code == 2


# the page, and what gives a result again


def test_servers_have_a_page_and_a_chart_that_is_drawn_again(tmp_path: Path) -> None:
    words = ["serve-bench", "--name", "spec", "-n", "6", "--max-prompt-tokens", "8", "--max-new-tokens", "8"]
    words += ["--concurrency", "1,2", "-o", str(tmp_path)]
    with serving(Stub(lambda *_: plain(8, 0.02))) as base, serving(Stub(lambda *_: plain(8, 0.002))) as other:
        found = CliRunner().invoke(app, [*words, other.url, "--baseline", base.url])
    assert found.exit_code == 0, found.output
    page = (tmp_path / "report.html").read_text()
    for text in ("Which server", "Servers on stdlib", "Every server and load", "requests in flight"):
        assert text in page
    again = f"serve-bench {other.url} --name spec --baseline {base.url} --concurrency 1,2"
    assert again in page
    (tmp_path / "serving.png").unlink()
    drawn = CliRunner().invoke(app, ["plot", str(tmp_path)])
    assert drawn.exit_code == 0, drawn.output
    assert (tmp_path / "serving.png").exists()


def test_the_command_of_several_servers_names_each() -> None:
    servers = ["plain=http://h:1", "k2=http://h:2", "k4=http://h:3"]
    assert command_of("serving", {"servers": servers}) == (
        "bitdraft serve-bench http://h:2 --name k2 --baseline http://h:1 --variant k4=http://h:3"
    )
    assert command_of("serving", {"servers": ["server=http://h:1"]}) == "bitdraft serve-bench http://h:1"
    launched = {"servers": servers, "launch": "path/to/servers.toml", "num_prompts": 9}
    assert "http" not in command_of("serving", launched)


def test_two_runs_of_servers_are_compared(tmp_path: Path) -> None:
    def measured(name: str, gap_s: float) -> Path:
        folder = tmp_path / name
        with (
            serving(Stub(lambda *_: plain(8, 0.03))) as base,
            serving(Stub(lambda *_: plain(8, gap_s))) as own,
        ):
            servers = (f"plain={base.url}", f"spec={own.url}")
            bitdraft.bench_servers(servers, output=folder, **MINIMAL)
        return folder

    a, b = measured("a", 0.01), measured("b", 0.02)
    found = bitdraft.compare_results(a, b)
    rows = {row.name.precision: row for row in found.rows}
    assert rows["spec"].ratios["throughput_tok_s"].standing == "worse"
    assert rows["spec"].ratios["speedup"].ratio.value == pytest.approx(0.5, rel=0.2)
    assert rows["plain"].ratios["throughput_tok_s"].ratio.value == pytest.approx(1.0, rel=0.1)
    gate = CliRunner().invoke(app, ["compare", str(a), str(b), "--fail-on-regression", "5%"])
    assert gate.exit_code == 1, gate.output
