"""Servers that are started here: declarations, ends, faults; over stubs as processes of their own."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from typer.testing import CliRunner

import bitdraft
import stub_server
from bitdraft.cli import app
from bitdraft.errors import UserError
from bitdraft.runs.executors.base import Emit
from bitdraft.schema.findings import codes, of_code
from bitdraft.schema.serving import ServerRecord, SpecCounts
from bitdraft.servers.launch import Declaration, NotStarted, last_lines, launched, words_of_end
from bitdraft.servers.turns import halves
from bitdraft.serving.analysis import Window
from bitdraft.serving.cells import measure
from bitdraft.serving.declared import read_declarations

MINIMAL: dict[str, Any] = {"num_prompts": 6, "max_new_tokens": 8, "max_prompt_tokens": 8, "num_warmup": 0}
STUB = [sys.executable, stub_server.__file__]


def declared(tmp_path: Path, **servers: str) -> Path:
    """A file that starts stubs with these arguments behind their ports."""
    path = tmp_path / "servers.toml"
    head = shlex.join([*STUB, "{port}"])
    tables = [f'[servers.{name}]\ncommand = """{head} {more}"""\n' for name, more in servers.items()]
    path.write_text("\n".join(tables))
    return path


# declarations


def test_a_server_for_each_k(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(
        '[servers.plain]\ncommand = "serve --port {port}"\n'
        '[servers.spec]\ncommand = ["serve", "--k", "{k}", "--port={port}"]\nk = "1-3"\nenv = {K = "{k}"}\n'
        '[servers.own]\ncommand = "serve"\nport = 8000\nk = 4\nready = "/health"\nlog = "own.log"\n'
    )
    plain, *specs, own = read_declarations(path)
    assert (plain.name, plain.k, list(plain.command)) == ("plain", None, ["serve", "--port", "{port}"])
    assert [(one.name, one.k, one.command[2], one.env) for one in specs] == [
        (f"spec-k{k}", k, str(k), {"K": str(k)}) for k in (1, 2, 3)
    ]
    assert (own.name, own.k, own.port, own.ready, own.log) == ("own", 4, 8000, "/health", Path("own.log"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "names no server"),
        ("[server.a]\n", "knows no"),
        ("[servers.a]\ncommand = ''\nport = 1\n", "is empty"),
        ("[servers.a]\ncommand = 'x'\n", "says no port"),
        ("[servers.a]\ncommand = 'x {k} {port}'\n", "has {k} in its command and no k"),
        ("[servers.a]\ncommand = 'x {port}'\nk = '1-3'\n", "no {k}"),
        ("[servers.a]\ncommand = 'x {port} {draft}'\n", "has {draft} in its command"),
        ("[servers.a]\nport = 8000\n", "is missing"),
        ("[servers.a]\ncommand = 'x {k}'\nk = '1-3'\nport = 8000\n", "cannot share"),
        ("[servers.a]\ncommand = 'x {k} {port}'\nk = '0-3'\n", "outside 1"),
        ("[servers.a]\ncommand = 'x \"{port}'\n", "not closed"),
        ("[servers.a]\ncommand = 'x {port}'\nspeed = 3\n", "no such setting"),
        ("[servers.a]\ncommand = 'x {port}'\nready = 'health'\n", "no path"),
        ("[servers.'a b']\ncommand = 'x {port}'\n", "is no name"),
        ("servers = 3\n", "names no server"),
        ("[servers.a\n", "is no TOML"),
        (
            "[servers.a]\ncommand = 'x {k} {port}'\nk = '1-2'\n[servers.a-k1]\ncommand = 'x {port}'\n",
            "two servers have this name",
        ),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_declarations(path)
    assert expected in str(caught.value)


# a server's life


def stub(name: str, *words: str, **more: Any) -> Declaration:
    return Declaration(name, [*STUB, "{port}", *words], **more)


def test_a_server_is_ended_with_its_block(tmp_path: Path) -> None:
    with launched(stub("a", "0", "starts-slowly"), tmp_path) as server:
        assert httpx.get(f"{server.url}/v1/models").status_code == 200
        assert (tmp_path / "a.log").read_text() == "ready\n"
        number = server.process.pid
    assert not psutil.pid_exists(number)


def test_a_server_that_dies_says_its_last_words(tmp_path: Path) -> None:
    with (
        pytest.raises(NotStarted, match=r"exit code 3: .*no such file: model.gguf"),
        launched(stub("a", "0", "dies-at-start"), tmp_path),
    ):
        pass


def test_a_server_that_is_never_ready_is_given_up(tmp_path: Path) -> None:
    with (
        pytest.raises(NotStarted, match="not ready after"),
        launched(stub("a", start_timeout_s=0.5, ready="/never"), tmp_path),
    ):
        pass


def test_a_program_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(NotStarted, match=r"cannot be started \(no-such-server: No such file"),
        launched(Declaration("a", ["no-such-server", "{port}"]), tmp_path),
    ):
        pass


def test_a_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    with stub_server.serving(stub_server.Stub(lambda *_: stub_server.plain())) as other:
        port = int(other.url.rsplit(":", 1)[1])
        with (
            pytest.raises(UserError, match="listens at it already"),
            launched(stub("a", port=port), tmp_path),
        ):
            pass


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends a server with us on Linux alone")
def test_no_server_is_left_behind_by_a_kill(tmp_path: Path) -> None:
    path = declared(tmp_path, plain="0.2", spec="0.2")
    words = ["serve-bench", "--launch", str(path), "-n", "20", "--max-new-tokens", "8"]
    own = subprocess.Popen(
        [sys.executable, "-m", "bitdraft", *words, "-o", str(tmp_path / "run")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    logs = [tmp_path / "run" / "servers" / f"{name}.log" for name in ("plain", "spec")]
    for _ in range(300):
        if all(log.exists() and "ready" in log.read_text() for log in logs):
            break
        time.sleep(0.1)
    left = [one for one in psutil.Process(own.pid).children() if stub_server.__file__ in one.cmdline()]
    os.kill(own.pid, signal.SIGKILL)
    own.wait()
    assert len(left) == 2
    _, alive = psutil.wait_procs(left, timeout=10)
    assert not alive


# whole runs


def test_a_launched_pair_is_compared(tmp_path: Path) -> None:
    path = declared(tmp_path, plain="0.03", spec="0.005")
    words = ["serve-bench", "--launch", str(path), "-n", "6", "--max-new-tokens", "8"]
    command = [*words, "--max-prompt-tokens", "8", "-o", str(tmp_path / "run")]
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 0, found.output
    assert "use spec" in found.output
    assert (tmp_path / "run" / "servers" / "spec.log").read_text() == "ready\n"
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0, again.output
    assert "use spec" in again.output


def test_one_at_a_time_each_runs_twice_and_the_same_call_measures_nothing_again(tmp_path: Path) -> None:
    path = declared(tmp_path, plain="0.03", spec="0.005")
    settings = {**MINIMAL, "launch": path, "one_at_a_time": True, "output": tmp_path / "run"}
    found = bitdraft.bench_servers(**settings)
    assert [(row.server, row.status, row.metrics["speedup"].n if "speedup" in row.metrics else 0)
            for row in found.rows] == [("plain", "ok", 0), ("spec", "ok", 6)]  # fmt: skip
    assert "serving.in_turn" in codes(found.findings)
    halves_of = {r.prompt: r.submit_s for r in found.requests if r.server == "plain"}
    other = {r.prompt: r.submit_s for r in found.requests if r.server == "spec"}
    # A B B A
    assert halves_of[2] < other[0]
    assert other[5] < halves_of[3]
    again = bitdraft.bench_servers(**settings)
    assert [r.submit_s for r in again.requests] == [r.submit_s for r in found.requests]


def test_a_server_that_never_starts_is_a_row(tmp_path: Path) -> None:
    path = declared(tmp_path, plain="0.01", spec="0.01", broken="0 dies-at-start")
    found = bitdraft.bench_servers(launch=path, **MINIMAL)
    rows = {row.server: row for row in found.rows}
    assert [rows[name].status for name in ("plain", "spec", "broken")] == ["ok", "ok", "failed"]
    assert "no such file: model.gguf" in rows["broken"].reason


def test_a_baseline_that_never_starts_is_no_other_servers_part(tmp_path: Path) -> None:
    path = declared(tmp_path, plain="0 dies-at-start", spec="0.01")
    found = bitdraft.bench_servers(launch=path, **MINIMAL)
    assert [(row.server, row.status) for row in found.rows] == [("plain", "failed"), ("spec", "ok")]
    assert all("speedup" not in row.metrics for row in found.rows)


def test_a_server_that_dies_meanwhile_is_told_with_its_log(tmp_path: Path) -> None:
    path = declared(tmp_path, plain="0.01", spec="0.01 dies-after=3")
    found = bitdraft.bench_servers(launch=path, **MINIMAL)
    rows = {row.server: row for row in found.rows}
    assert (rows["spec"].status, rows["spec"].num_failed) == ("ok", 3)
    (death,) = of_code(found.findings, "serving.died")
    assert "illegal memory access" in str(death.figures["why"])


def test_where_no_server_starts_nothing_is_measured(tmp_path: Path) -> None:
    path = declared(tmp_path, plain="0 dies-at-start")
    with pytest.raises(UserError, match="no such file"):
        bitdraft.bench_servers(launch=path, **MINIMAL)


def test_a_certificate_of_launched_servers(tmp_path: Path) -> None:
    path = declared(tmp_path, plain="0", spec="0")
    words = ["certify", "--launch", str(path), "-n", "3", "--max-new-tokens", "8", "--max-prompt-tokens", "8"]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.output
    path = declared(tmp_path, plain="0", spec="0", third="0")
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 2
    assert "a certificate is of two" in found.output


def test_a_server_that_dies_is_not_certified(tmp_path: Path) -> None:
    path = declared(tmp_path, plain="0", spec="0 dies-after=2")
    words = ["certify", "--launch", str(path), "-n", "4", "--max-new-tokens", "8", "--max-prompt-tokens", "8"]
    found = CliRunner().invoke(app, words)
    said = " ".join(found.output.split())
    assert found.exit_code == 1, found.output
    assert "Not certified: 2 prompts had no answer of both. Of the others 2 of 2 greedy texts" in said
    assert "spec ended before the run did" in said
    sampled = CliRunner().invoke(app, [*words, "--temperature", "0.8", "--num-draws", "20"])
    assert sampled.exit_code in (1, 2), sampled.output


def test_a_program_that_is_not_there_is_a_row(tmp_path: Path) -> None:
    path = declared(tmp_path, plain="0.01", spec="0.005")
    text = path.read_text()
    path.write_text(f'{text}[servers.none]\ncommand = "no-such-server {{port}}"\n')
    settings = {**MINIMAL, "launch": path, "output": tmp_path / "run", "one_at_a_time": True}
    rows = {row.server: row for row in bitdraft.bench_servers(**settings).rows}
    assert [rows[name].status for name in ("plain", "spec", "none")] == ["ok", "ok", "failed"]
    assert "cannot be started (no-such-server: No such file" in rows["none"].reason


def test_windows_of_two_starts_are_added() -> None:
    one = Window(SpecCounts(num_steps=3, num_accepted=4, accepted_by_position=(3, 1)), 5, 5, False)
    other = Window(SpecCounts(num_steps=2, num_accepted=3, accepted_by_position=(2, 1, 0)), 6, 5, False)
    both = one + other
    assert both.counts is not None
    assert (both.counts.num_steps, both.counts.num_accepted) == (5, 7)
    assert both.counts.accepted_by_position == (5, 2, 0)
    assert (both.num_requests, both.num_sent, both.has_others) == (11, 10, True)


@pytest.mark.parametrize("num", [1, 2, 7])
def test_every_prompt_is_of_one_half(num: int) -> None:
    assert [index for half in halves(num) for index in half] == list(range(num))


def test_of_a_log_the_lines_that_speak_of_an_error_are_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("error: invalid argument: --foo\n" + "usage: see --help\n" * 8)
    assert last_lines(log) == "error: invalid argument: --foo"
    log.write_text("one\ntwo\n")
    assert last_lines(log) == "one | two"
    assert words_of_end(1, log) == "exit code 1: one | two"
    assert words_of_end(-signal.SIGTERM, log) == "ended by SIGTERM: one | two"
    assert "one" not in words_of_end(-signal.SIGKILL, log), "its work is no reason"


def test_a_server_that_was_mended_is_measured_with_the_others(tmp_path: Path) -> None:
    path = declared(tmp_path, plain="0.01", spec="0 dies-at-start")
    settings = {**MINIMAL, "launch": path, "output": tmp_path / "run"}
    before = bitdraft.bench_servers(**settings)
    assert [row.status for row in before.rows] == ["ok", "failed"]
    declared(tmp_path, plain="0.01", spec="0.005")
    with pytest.raises(UserError, match="Measure what had failed again with --retry-failed"):
        bitdraft.bench_servers(**settings)
    found = bitdraft.bench_servers(**settings, retry_failed=True)
    assert [row.status for row in found.rows] == ["ok", "ok"]
    assert "speedup" in found.rows[1].metrics
    assert {r.submit_s for r in found.requests}.isdisjoint(r.submit_s for r in before.requests)
    again = bitdraft.bench_servers(**settings, retry_failed=True)
    assert [r.submit_s for r in again.requests] == [r.submit_s for r in found.requests]


@pytest.mark.parametrize("one_at_a_time", [False, True])
def test_a_finished_run_is_shown_again_without_a_server(tmp_path: Path, one_at_a_time: bool) -> None:
    path = declared(tmp_path, plain="0.01", spec="0.005")
    settings = {**MINIMAL, "launch": path, "output": tmp_path / "run", "one_at_a_time": one_at_a_time}
    found = bitdraft.bench_servers(**settings)
    started = (tmp_path / "run" / "servers" / "plain.log").stat().st_mtime_ns
    again = bitdraft.bench_servers(**settings)
    assert again.rows == found.rows
    assert (again.verdict, again.servers, again.summary) == (found.verdict, found.servers, found.summary)
    assert (tmp_path / "run" / "servers" / "plain.log").stat().st_mtime_ns == started
    declared(tmp_path, plain="0.02", spec="0.005")
    with pytest.raises(UserError, match="another checkpoint, text, command or version"):
        bitdraft.bench_servers(**settings)


def test_one_at_a_time_only_what_failed_is_started_again(tmp_path: Path) -> None:
    path = declared(tmp_path, plain="0.01", spec="0 dies-at-start")
    settings = {**MINIMAL, "launch": path, "output": tmp_path / "run", "one_at_a_time": True}
    before = bitdraft.bench_servers(**settings)
    assert [row.status for row in before.rows] == ["ok", "failed"]
    started = (tmp_path / "run" / "servers" / "plain.log").stat().st_mtime_ns
    declared(tmp_path, plain="0.01", spec="0.005")
    found = bitdraft.bench_servers(**settings, retry_failed=True)
    assert [row.status for row in found.rows] == ["ok", "ok"]
    assert (tmp_path / "run" / "servers" / "plain.log").stat().st_mtime_ns == started


def test_a_server_of_another_model_since_the_interrupt_is_refused(tmp_path: Path) -> None:
    record = ServerRecord(name="plain", served_model="a")
    told = [{"event": "servers", "servers": [record.model_dump(mode="json")]}]
    payload = {
        "config": {"servers": ["plain=http://127.0.0.1:1"]},
        "servers": [record.model_copy(update={"served_model": "b"}).model_dump(mode="json")],
        "lost": {},
        "load": 1,
        "prompts": ["a"],
        "clusters": [""],
        "indices": None,
        "done": told,
    }
    with pytest.raises(UserError, match="is generic with b, and was generic with a before the interrupt"):
        measure(payload, Emit(lambda _: None))
