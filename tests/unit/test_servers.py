"""Requests to servers: what arrives and when, every naming of acceptance, and faults."""

from __future__ import annotations

import asyncio
import itertools
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdraft.errors import UserError
from bitdraft.metrics.serving import counter_figures
from bitdraft.schema.serving import SpecCounts
from bitdraft.servers.adapters import adapter_of, version_numbers
from bitdraft.servers.client import Answer, connect, request_body, stream
from bitdraft.servers.counters import PATHS, counts_between, num_requests, read_samples, restarted
from bitdraft.servers.events import LARGEST_EVENT, EventStream
from bitdraft.servers.identify import identify
from stub_server import Reply, Stub, event, plain, serving, text_event, usage_event


def answer_of(reply: Reply, timeout_s: float = 5.0) -> Answer:
    """Of one request to a stub."""

    async def ask(url: str) -> Answer:
        async with connect("stub", url, 1, timeout_s) as client:
            return await stream(client, "/v1/completions", {"prompt": "a"})

    with serving(Stub(lambda *_: reply)) as stub:
        return asyncio.run(ask(stub.url))


# events


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1), max_size=6),
    st.lists(st.integers(0, 400), max_size=12),
    st.sampled_from(["\n", "\r\n"]),
)
def test_events_are_the_same_wherever_a_network_cuts_them(
    texts: list[str], cuts: list[int], end: str
) -> None:
    whole = "".join(f": keep-alive{end}{end}data: {text}{end}{end}" for text in texts).encode()
    places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    reader = EventStream()
    found = [data for a, b in itertools.pairwise(places) for data in reader.feed(whole[a:b])]
    assert [data.decode() for data in found + reader.end()] == texts


def test_an_event_without_an_end_is_refused() -> None:
    reader = EventStream()
    with pytest.raises(ValueError, match="more than"):
        reader.feed(b"data: " + b"x" * (LARGEST_EVENT + 1))


def test_lines_of_data_are_one_event() -> None:
    assert EventStream().feed(b"event: a\ndata: one\ndata:two\nid: 3\n\n") == [b"one\ntwo"]


# one request


def test_times_tokens_and_text_of_a_request() -> None:
    answer = answer_of(plain(5, gap_s=0.03))
    assert answer.error is None
    assert (answer.text, answer.completion_tokens, answer.prompt_tokens) == ("x0x1x2x3x4", 5, 5)
    assert len(answer.event_s) == 5
    assert all(after >= before for before, after in itertools.pairwise(answer.event_s))
    assert answer.event_s[0] - answer.submit_s > 0.025
    assert answer.event_s[-1] - answer.submit_s > 0.14
    assert answer.end_s >= answer.event_s[-1]


def test_two_events_in_a_chunk_and_half_of_one_are_whole() -> None:
    half = text_event("c", "stop")
    reply = Reply([text_event("a") + text_event("b"), half[:7], half[7:], usage_event(3) + event("[DONE]")])
    answer = answer_of(reply)
    assert (answer.error, answer.text, answer.finish_reason) == (None, "abc", "stop")
    assert answer.event_s[0] == answer.event_s[1], "of one chunk"


def test_chat_and_reasoning_are_text() -> None:
    deltas = [{"role": "assistant", "content": ""}, {"reasoning_content": "hm "}, {"content": "yes"}]
    pieces = [event({"choices": [{"delta": delta}]}) for delta in deltas]
    answer = answer_of(Reply([*pieces, usage_event(2), event("[DONE]")]))
    assert (answer.error, answer.text, len(answer.event_s)) == (None, "hm yes", 2)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply([b'{"error": {"message": "out of memory"}}'], 500), "HTTP 500: out of memory"),
        (Reply([b"slow down"], 429), "HTTP 429: slow down"),
        (Reply([], 503), "HTTP 503"),
        (Reply([text_event("a")], is_cut=True), "the connection broke"),
        (Reply([text_event("a")]), "the stream ended in its middle"),
        (Reply([text_event("a"), event("[DONE]")]), "no number of tokens"),
        (Reply([usage_event(0), event("[DONE]")]), "no text came"),
        (Reply([b"data: {half\n\n"]), "an event that is none"),
        (Reply([event("[1]")]), "an event that is none"),
        (Reply([text_event("a"), event({"error": {"message": "died"}})]), "died"),
        (Reply(no_answer=True), "the connection broke"),
    ],
)
def test_what_goes_wrong_is_told(reply: Reply, expected: str) -> None:
    answer = answer_of(reply)
    assert answer.error is not None
    assert expected in answer.error


def test_a_silent_server_is_given_up() -> None:
    answer = answer_of(Reply([text_event("a"), 4.0, text_event("b")]), timeout_s=1.0)
    assert "silent for too long" in str(answer.error)
    assert len(answer.event_s) == 1


def test_a_kept_connection_that_was_closed_is_opened_anew() -> None:
    def script(_: dict[str, Any], number: int) -> Reply:
        return Reply(no_answer=True) if number == 1 else plain(3)

    async def ask_twice(url: str) -> list[Answer]:
        async with connect("stub", url, 1, 5.0) as client:
            return [await stream(client, "/v1/completions", {"prompt": "a"}) for _ in range(2)]

    with serving(Stub(script)) as stub:
        answers = asyncio.run(ask_twice(stub.url))
        assert [answer.error for answer in answers] == [None, None]
        assert len(stub.bodies) == 3


def test_a_long_stream_takes_no_memory_but_its_times_and_text() -> None:
    answer = Answer(0.0)
    piece = json.dumps({"choices": [{"text": "ab"}], "timings": {"predicted_n": 1}}).encode()
    reader = EventStream()
    tracemalloc.start()
    try:
        for index in range(100_000):
            for data in reader.feed(b"data: " + piece + b"\n\n"):
                answer.take(data, float(index))
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(answer.text) == 200_000
    assert used / 100_000 < 120


def test_keys_are_the_environments_and_stand_in_no_body(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITDRAFT_API_KEY_STUB", "secret")

    async def ask(url: str) -> Answer:
        async with connect("stub", url, 1, 5.0) as client:
            return await stream(client, "/v1/completions", {"prompt": "a"})

    with serving(Stub(lambda *_: plain(2))) as stub:
        asyncio.run(ask(stub.url))
        assert stub.headers[0]["Authorization"] == "Bearer secret"
        assert "secret" not in json.dumps(stub.bodies)


# what a server is


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        ({"/version": {"version": "0.32.1"}}, ("vllm", "0.32.1")),
        ({"/props": {"build_info": "b7000-abc"}}, ("llama.cpp", "b7000-abc")),
        ({"/server_info": {"internal_states": [], "version": "0.5.12"}}, ("sglang", "0.5.12")),
        ({"/v1/models": {"data": [{"id": "a", "owned_by": "llamacpp"}]}}, ("llama.cpp", None)),
        ({"/v1/models": {"data": [{"id": "a", "owned_by": "vllm"}]}}, ("vllm", None)),
        ({"/prometheus/metrics": {"a": 1}}, ("tensorrt-llm", None)),
        ({}, ("generic", None)),
    ],
)
def test_engines_are_told_by_what_they_answer(says: dict[str, Any], expected: tuple[str, Any]) -> None:
    with serving(Stub(lambda *_: plain(), says)) as stub:
        found = identify("a", stub.url, None)
    assert (found.engine, found.version) == expected


def test_servers_that_do_not_answer_are_refused() -> None:
    with pytest.raises(UserError, match="does not answer"):
        identify("a", "http://127.0.0.1:9", None)
    empty = Stub(lambda *_: plain(), {"/v1/models": {"data": []}})
    with serving(empty) as stub, pytest.raises(UserError, match="lists no model"):
        identify("a", stub.url, None)
    with serving(Stub(lambda *_: plain())) as stub, pytest.raises(UserError, match="Choose from stub"):
        identify("a", stub.url, "another")


# acceptance, by engine and version

_VLLM = {
    "metrics": {
        "speculative_decoding": {
            "mean_acceptance_length": 2.5,
            "draft_acceptance_rate": 0.5,
            "acceptance_histogram": [1, 1, 1, 1],
            "num_spec_steps": 4,
            "num_accepted_draft_tokens": 6,
            "num_draft_tokens": 12,
            "num_spec_tokens": 3,
        }
    }
}


@pytest.mark.parametrize(
    ("engine", "version", "said", "expected"),
    [
        (
            "vllm",
            "0.32.0",
            _VLLM,
            SpecCounts(num_steps=4, num_drafted=12, num_accepted=6, histogram=(1, 1, 1, 1), k=3),
        ),
        ("vllm", "0.31.2", _VLLM, None),
        ("vllm", "0.32.0", {"metrics": None}, None),
        (
            "llama.cpp",
            "b1",
            {"timings": {"predicted_n": 11, "draft_n": 12, "draft_n_accepted": 6}},
            SpecCounts(num_steps=4, num_drafted=12, num_accepted=6, steps_are_derived=True),
        ),
        ("llama.cpp", "b1", {"timings": {"predicted_n": 11}}, None),
        (
            "sglang",
            "0.5.10",
            {"meta_info": {"spec_verify_ct": 4, "spec_draft_token_num": 12, "spec_accept_token_num": 6}},
            SpecCounts(num_steps=4, num_drafted=12, num_accepted=6),
        ),
        (
            "sglang",
            "0.5.11",
            {"meta_info": {"spec_verify_ct": 4, "spec_proposed_drafts": 12, "spec_accepted_drafts": 6}},
            SpecCounts(num_steps=4, num_drafted=12, num_accepted=6),
        ),
        (
            "sglang",
            "0.5.12",
            {
                "meta_info": {
                    "spec_verify_ct": 4,
                    "spec_num_proposed_drafts": 12,
                    "spec_num_correct_drafts": 6,
                    "spec_correct_drafts_histogram": [1, 1, 1, 1],
                }
            },
            SpecCounts(num_steps=4, num_drafted=12, num_accepted=6, histogram=(1, 1, 1, 1)),
        ),
        (
            "lm-studio",
            None,
            {"stats": {"total_draft_tokens_count": 12, "accepted_draft_tokens_count": 6}},
            SpecCounts(num_drafted=12, num_accepted=6),
        ),
        (
            "mlx-vlm",
            None,
            {"timings": {"draft_rounds": 4, "draft_n": 12, "draft_n_accepted": 6}},
            SpecCounts(num_steps=4, num_drafted=12, num_accepted=6),
        ),
        ("generic", None, _VLLM, None),
        ("tensorrt-llm", "1.2", _VLLM, None),
    ],
)
def test_acceptance_under_every_name(
    engine: str, version: str | None, said: dict[str, Any], expected: SpecCounts | None
) -> None:
    assert adapter_of(engine, version).read(said) == expected


def test_versions_are_compared_as_numbers() -> None:
    assert version_numbers("0.5.10.post1") == (0, 5, 10)
    assert version_numbers("v1.2.3+cu130") == (1, 2, 3)
    assert version_numbers("main") == ()
    assert adapter_of("vllm", "0.100.0").name == "vllm"
    assert adapter_of("vllm", "0.9.2").name == "vllm before 0.32 (counters)"


@pytest.mark.parametrize(
    ("counts", "what"),
    [
        (SpecCounts(num_drafted=2, num_accepted=3), "3 tokens accepted of 2"),
        (SpecCounts(num_steps=3, histogram=(1, 1)), "2 steps in the histogram, 3"),
        (SpecCounts(num_steps=2, num_accepted=2, histogram=(1, 1)), "1 tokens accepted in the histogram"),
        (SpecCounts(num_steps=2, num_accepted=9, k=4), "9 tokens accepted in 2 steps of K = 4"),
    ],
)
def test_numbers_that_do_not_fit_are_found(counts: SpecCounts, what: str) -> None:
    assert any(what in text for text in counts.contradictions)
    fitting = SpecCounts(num_steps=4, num_drafted=12, num_accepted=6, histogram=(1, 1, 1, 1), k=3)
    assert fitting.contradictions == ()


def test_counters_are_read_as_differences() -> None:
    def page(steps: int, kept: tuple[int, int], ended: int) -> str:
        return "\n".join([
            "# HELP vllm:spec_decode_num_drafts_total x",
            f'vllm:spec_decode_num_drafts_total{{engine="0"}} {steps}.0',
            f'vllm:spec_decode_num_drafts_total{{engine="1"}} {steps}.0',
            'vllm:spec_decode_num_drafts_created{engine="0"} 1.7e+09',
            f'vllm:spec_decode_num_draft_tokens_total{{engine="0"}} {4 * steps}',
            f'vllm:spec_decode_num_accepted_tokens_total{{engine="0"}} {sum(kept)}',
            f'vllm:spec_decode_num_accepted_tokens_per_pos_total{{engine="0",position="0"}} {kept[0]}',
            f'vllm:spec_decode_num_accepted_tokens_per_pos_total{{engine="0",position="1"}} {kept[1]}',
            f'vllm:request_success_total{{finished_reason="length"}} {ended}',
            "broken line",
        ])  # fmt: skip

    before, after = read_samples(page(10, (5, 2), 3)), read_samples(page(30, (20, 9), 8))
    assert counts_between(before, after) == SpecCounts(
        num_steps=40, num_drafted=80, num_accepted=22, accepted_by_position=(15, 7), k=2, source="counter"
    )
    assert num_requests(before, after) == 5
    assert restarted(after, before)
    assert counts_between(after, before) is None
    assert counts_between({}, {}) is None


def test_sglangs_counters_are_without_each_requests_first_token() -> None:
    names = ("spec_verify_calls", "generation_tokens", "num_requests")
    before, after = (
        {f"sglang:{name}_total": value for name, value in zip(names, values, strict=True)}
        for values in ((0.0, 0.0, 0.0), (10.0, 32.0, 2.0))
    )
    found = counts_between(before, after)
    assert found is not None
    assert (found.num_steps, found.num_accepted) == (10, 20)


def test_what_is_sent() -> None:
    body = request_body(adapter_of("llama.cpp", None), "m", [1, 2], 7, {"temperature": 0.0})
    assert body["prompt"] == [1, 2]
    assert body["cache_prompt"] is False
    assert body["stream_options"] == {"include_usage": True}
    chat = request_body(adapter_of("generic", None), None, [{"role": "user", "content": "a"}], 7, {})
    assert chat["messages"][0]["content"] == "a"
    assert "prompt" not in chat
    assert "model" not in chat


def test_tensorrt_llm_counts_tokens_and_no_steps() -> None:
    def page(drafted: int, kept: int) -> str:
        return (
            f'trtllm_spec_decode_num_draft_tokens_total{{model="m"}} {drafted}\n'
            f'trtllm_spec_decode_num_accepted_tokens_total{{model="m"}} {kept}\n'
            "trtllm_spec_decode_acceptance_length 2.5\n"
        )

    found = counts_between(read_samples(page(10, 4)), read_samples(page(50, 24)))
    assert found == SpecCounts(num_drafted=40, num_accepted=20, source="counter")
    assert "tokens_per_step" not in counter_figures(found, 3)
    assert counter_figures(found, 3)["draft_acceptance"].value == pytest.approx(0.5)
    # the JSON at /metrics is taken away from others by reading it
    assert PATHS["tensorrt-llm"] == "/prometheus/metrics"
