"""Planted differences through the whole of both modules; `scripts/peers planted` has more of them."""

from __future__ import annotations

import peers_planted
from peers_common import Agreement


def differing(found: list[Agreement]) -> list[Agreement]:
    return [one for one in found if not one.agrees]


def test_divergences_have_the_planted_sign_and_size_and_nothing_is_found_where_nothing_is() -> None:
    found = peers_planted.of_quality(["weights through bf16 and back", "a step of training on the text"])
    assert len(found) == 9
    assert not differing(found)
    by_name = {one.figure: float(one.ours) for one in found}
    assert by_name["weights through bf16 and back: Δ ln PPL"] > 0
    assert by_name["a step of training on the text: Δ ln PPL"] < 0


def test_an_overflow_is_found_in_its_layer_and_at_its_position() -> None:
    assert not differing(peers_planted.of_overflow())


def test_tokens_per_step_are_those_of_the_planted_agreement() -> None:
    assert not differing(peers_planted.of_drafts([0.6]))


def test_an_engine_that_ignores_k_is_found() -> None:
    assert not differing(peers_planted.of_an_engine())
