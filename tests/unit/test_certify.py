"""Certificates: what a difference of two texts is, by hand and over stubs that lie."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import bitdraft
from bitdraft.cli import app
from bitdraft.errors import UserError
from bitdraft.serving.differences import Likely, common, compare_draws, gap_at, judge, tokens_of
from stub_server import Reply, Stub, event, plain, serving, text_event, usage_event

LIKELY = [
    Likely("The", {"The": -0.1, "A": -2.5}),
    Likely(" cat", {" cat": -0.7, " ca": -3.0, " cow": -0.9, " dog": -4.0}),
    Likely(" sat", {" sat": -0.2}),
]


def test_a_gap_is_that_of_the_token_in_which_the_texts_part() -> None:
    text = "The cat sat"
    assert gap_at(text, "The cow sat", common(text, "The cow sat"), LIKELY) == pytest.approx(0.2)
    assert gap_at(text, "The dog ran", common(text, "The dog ran"), LIKELY) == pytest.approx(3.3)
    assert gap_at(text, "The cab", common(text, "The cab"), LIKELY) == pytest.approx(2.3)
    assert gap_at(text, "The elk", common(text, "The elk"), LIKELY) is None
    assert gap_at(text, "The cat ate", common(text, "The cat ate"), LIKELY) is None
    assert gap_at("Another", "The cat", 0, LIKELY) is None, "of another answer"
    assert gap_at(text, "The cow", 5, []) is None


@pytest.mark.parametrize(
    ("other", "own", "expected"),
    [
        ("The cow sat", [], "near-tie"),
        ("The dog ran", [], "unexplained"),
        ("The dog ran", ["The cat sat"], "unexplained"),
        ("The dog ran", ["The hat sat"], "engine noise"),
        ("The dog ran", ["A dog ran"], "engine noise"),
        ("The dog ran", ["The cat ran"], "unexplained"),
        ("The elk ran", [], "unexplained"),
    ],
)
def test_what_a_difference_is(other: str, own: list[str], expected: str) -> None:
    assert judge(("The cat sat", other), own, LIKELY, 0.5).kind == expected


def test_probabilities_are_read_in_both_forms() -> None:
    content = [{"token": "a", "logprob": -0.1, "top_logprobs": [{"token": "b", "logprob": -2.0}]}]
    assert tokens_of({"choices": [{"logprobs": {"content": content}}]}) == [Likely("a", {"b": -2.0})]
    completions = {"tokens": ["a"], "top_logprobs": [{"a": -0.1, "b": -2.0}], "token_logprobs": [-0.1]}
    assert tokens_of({"choices": [{"logprobs": completions}]}) == [Likely("a", {"a": -0.1, "b": -2.0})]
    nothing: list[Any] = [{}, {"choices": []}, {"choices": [{"logprobs": None}]}, []]
    assert [tokens_of(found) for found in nothing] == [[]] * 4


def test_equal_distributions_are_rarely_called_different_and_others_are_found() -> None:
    chance = random.Random(3)

    def drawn(weights: list[int], n: int = 120) -> list[str]:
        return chance.choices("abcd", weights, k=n)

    alike = [compare_draws(i, drawn([5, 3, 1, 1]), drawn([5, 3, 1, 1]), chance).p_value for i in range(60)]
    assert sum(p < 0.05 for p in alike) <= 8
    apart = compare_draws(0, drawn([5, 3, 1, 1]), drawn([2, 3, 3, 2]), chance)
    assert apart.p_value < 0.01
    assert apart.num_outcomes == 4
    assert compare_draws(0, ["a"] * 9, ["a"] * 9, chance).p_value == 1


def stub(text: str, gap: float | None = None) -> Stub:
    """Greedy, and with probabilities where a `gap` is told."""

    def script(body: dict[str, Any], _: int) -> Reply:
        if not body.get("stream"):
            top = {"x": -0.5, "y": -0.5 - (gap or 0)}
            told = None if gap is None else {"tokens": ["x"], "top_logprobs": [top]}
            answer = event({"choices": [{"text": text, "logprobs": told}]}).removeprefix(b"data: ")
            return Reply([answer], 201)
        return Reply([text_event(text, "length"), usage_event(len(text)), event("[DONE]")])

    return Stub(script)


def certified(plain_stub: Stub, other: Stub, **settings: Any) -> Any:
    with serving(plain_stub) as one, serving(other) as two:
        servers = (f"baseline={one.url}", f"server={two.url}")
        asked = {"num_prompts": 3, "max_prompt_tokens": 8, "max_new_tokens": 4, **settings}
        return bitdraft.certify_server(servers, **asked)


def test_a_server_that_lies_has_no_certificate(tmp_path: Path) -> None:
    assert certified(stub("xabc"), stub("xabc")).is_lossless
    tied = certified(stub("xabc", 0.1), stub("yabc"))
    assert tied.is_lossless
    assert {one.kind for one in tied.divergences} == {"near-tie"}
    assert tied.divergences[0].gap == pytest.approx(0.1)
    assert not certified(stub("xabc", 0.1), stub("yabc"), server_precision="fp32").is_lossless
    lie = certified(stub("xabc", 3.0), stub("yabc"), output=tmp_path)
    assert lie.is_lossless is False
    assert lie.summary.startswith("Not lossless: 0 of 3")
    assert (tmp_path / "certificate.md").read_text().startswith("# Certificate of stub")
    assert not certified(stub("xabc"), stub("yabc")).is_lossless, "nothing is told"


def test_the_command_fails_where_there_is_no_certificate(tmp_path: Path) -> None:
    with serving(stub("xabc", 3.0)) as one, serving(stub("yabc")) as two:
        common_words = ["-n", "2", "--max-prompt-tokens", "8", "--max-new-tokens", "4"]
        words = ["certify", two.url, "--baseline", one.url, *common_words, "-o", str(tmp_path)]
        found = CliRunner().invoke(app, words)
        assert found.exit_code == 1
        assert "Not lossless" in found.output
        assert (
            CliRunner().invoke(app, ["certify", one.url, "--baseline", one.url, *common_words]).exit_code == 0
        )


def test_draws_of_another_distribution_are_found() -> None:
    def drawing(weights: list[int]) -> Stub:
        chance = random.Random(1)
        return Stub(lambda *_: plain(1, text=chance.choice([c for c, w in zip("abc", weights, strict=True) for _ in range(w)])))  # fmt: skip  # noqa: E501

    settings: dict[str, Any] = {"temperature": 1.0, "num_draws": 80, "num_prompts": 2}
    assert certified(drawing([3, 2, 1]), drawing([3, 2, 1]), **settings).is_lossless
    found = certified(drawing([3, 2, 1]), drawing([1, 1, 6]), **settings)
    assert found.is_lossless is False
    assert found.drawn[0].distance > 0.3


def test_servers_without_an_answer_have_no_certificate() -> None:
    with pytest.raises(UserError, match="no prompt was answered by both"):
        certified(stub("xabc"), Stub(lambda *_: Reply([b"busy"], 503)))


@pytest.mark.parametrize("sampled", [False, True])
def test_an_interrupted_certificate_goes_on(sampled: bool, tmp_path: Path) -> None:
    one, two = stub("xabc", 0.1), stub("yabc")
    settings: dict[str, Any] = {"num_prompts": 3, "max_prompt_tokens": 8, "max_new_tokens": 4}
    settings |= {"temperature": 1.0, "num_draws": 20} if sampled else {}

    def interrupt(what: str, done: int, _total: int) -> None:
        if (what, done) in (("server: answers", 2), ("drawing", 2)):
            raise KeyboardInterrupt

    with serving(one), serving(two):
        servers = (f"baseline={one.url}", f"server={two.url}")
        with pytest.raises(bitdraft.Interrupted) as interrupted:
            bitdraft.certify_server(servers, output=tmp_path, on_progress=interrupt, **settings)
        assert interrupted.value.folder == tmp_path
        with pytest.raises(UserError, match="is no journal of this cell"):
            bitdraft.certify_server(servers, output=tmp_path, **settings | {"max_new_tokens": 5})
        asked = [len([body for body in each.bodies if body.get("stream")]) for each in (one, two)]
        assert asked == ([40, 40] if sampled else [3, 2])
        found = bitdraft.certify_server(servers, output=tmp_path, **settings)
        # greedy texts that part are asked for twice more
        asked = [len([body for body in each.bodies if body.get("stream")]) for each in (one, two)]
        assert asked == ([60, 60] if sampled else [9, 3])
    assert found.num_prompts == 3
    assert not (tmp_path / "certificate.jsonl").exists()
    assert (tmp_path / "certificate.json").exists()
