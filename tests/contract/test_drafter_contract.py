"""What every drafter promises, on both paths."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

from bitdraft.engine.drafters.base import Draft, EagerDrafter, EagerStep, StaticDrafter, StaticStep
from bitdraft.engine.drafters.lookup import NgramDrafter, StaticNgramDrafter
from bitdraft.engine.drafters.model import ModelDrafter, StaticModelDrafter
from bitdraft.engine.runner import Runner
from bitdraft.engine.static.forward import StaticForward
from bitdraft.engine.static.step import State, Step
from tiny import VOCAB, tiny_model

CPU = torch.device("cpu")
PROMPT = [5, 9, 5, 9, 2, 7, 5, 9]
UNSEEN = [1, 2, 3, 4, 5]
DRAFTERS = ("model", "lookup")
Ask = Callable[[Sequence[int], int], Draft]


def eager(name: str) -> tuple[EagerDrafter, Ask]:
    drafter: EagerDrafter = NgramDrafter(CPU, VOCAB)
    if name == "model":
        drafter = ModelDrafter(Runner(tiny_model()), CPU)

    def ask(text: Sequence[int], k: int) -> Draft:
        return drafter.draft(EagerStep(text, k, None, torch.zeros(k)))

    return drafter, ask


def static(name: str) -> tuple[StaticDrafter, Ask]:
    drafter: StaticDrafter = StaticNgramDrafter()
    if name == "model":
        drafter = StaticModelDrafter(StaticForward(tiny_model()))

    def ask(text: Sequence[int], k: int) -> Draft:
        state = State.empty(1, 64, k, (), CPU)
        state.begin([text], 20)
        asked = StaticStep(state, Step.of(state), k, 32, None, has_oracle=False, may_ask=True)
        return drafter.draft(asked)

    return drafter, ask


@pytest.fixture(params=[eager, static], ids=["eager", "static"], scope="module")
def path(request: pytest.FixtureRequest) -> Callable[[str], tuple[EagerDrafter | StaticDrafter, Ask]]:
    found: Callable[[str], tuple[EagerDrafter | StaticDrafter, Ask]] = request.param
    return found


@pytest.mark.parametrize("name", DRAFTERS)
@torch.inference_mode()
def test_k_tokens_of_the_vocabulary_are_drafted(
    path: Callable[[str], tuple[EagerDrafter | StaticDrafter, Ask]], name: str
) -> None:
    drafter, ask = path(name)
    drafter.start([PROMPT], 64)
    for k in (1, 3, 6):
        drafter.rewind(len(PROMPT) - 1)
        drafted_BK = ask(PROMPT, k).tokens_BK
        assert drafted_BK.shape == (1, k)
        assert drafted_BK.dtype == torch.long
        assert 0 <= int(drafted_BK.min()) <= int(drafted_BK.max()) < VOCAB


@pytest.mark.parametrize("name", DRAFTERS)
@torch.inference_mode()
def test_what_was_rejected_leaves_no_trace(
    path: Callable[[str], tuple[EagerDrafter | StaticDrafter, Ask]], name: str
) -> None:
    drafter, ask = path(name)
    drafter.start([PROMPT], 64)
    drafter.rewind(len(PROMPT) - 1)
    first = ask(PROMPT, 4).tokens_BK[0].tolist()
    drafter.rewind(len(PROMPT))
    longer = [*PROMPT, (first[0] + 1) % VOCAB]
    behind_another = ask(longer, 4).tokens_BK
    fresh, ask_fresh = path(name)
    fresh.start([PROMPT], 64)
    fresh.rewind(len(PROMPT) - 1)
    assert torch.equal(ask_fresh(longer, 4).tokens_BK, behind_another)
    drafter.rewind(len(PROMPT) - 1)
    assert ask(PROMPT, 4).tokens_BK[0].tolist() == first, "the prompt is decoded again from its end"


@pytest.mark.parametrize("name", DRAFTERS)
@torch.inference_mode()
def test_both_paths_draft_the_same(name: str) -> None:
    drafted = []
    for make in (eager, static):
        drafter, ask = make(name)
        drafter.start([PROMPT], 64)
        drafter.rewind(len(PROMPT) - 1)
        drafted.append(ask(PROMPT, 5).tokens_BK)
    assert torch.equal(*drafted)


@torch.inference_mode()
def test_lookup_drafts_nothing_where_it_finds_nothing(
    path: Callable[[str], tuple[EagerDrafter | StaticDrafter, Ask]],
) -> None:
    drafter, ask = path("lookup")
    drafter.start([UNSEEN], 64)
    assert ask(UNSEEN, 4).tokens_BK.shape == (1, 0)
