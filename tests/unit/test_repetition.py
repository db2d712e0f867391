"""How much a text repeats itself, by hand."""

from __future__ import annotations

import pytest

from bitdraft.metrics.repetition import fully_kept_share, repeated_share
from bitdraft.schema.records import Generation, Step


@pytest.mark.parametrize(
    ("texts", "share"),
    [
        ([[1, 2, 3]], None),
        ([[1, 2, 3, 4, 5]], 0.0),
        # 1212 2121 1212 2121 1212
        ([[1, 2, 1, 2, 1, 2, 1, 2]], 3 / 5),
        # what another text holds is no repetition
        ([[1, 2, 3, 4, 5], [1, 2, 3, 4, 5]], 0.0),
        ([[5, 5, 5, 5, 5], [1, 2, 3, 4, 5]], 1 / 4),
    ],
)
def test_repeated_share(texts: list[list[int]], share: float | None) -> None:
    assert repeated_share(texts) == share


def test_tokens_of_fully_kept_steps() -> None:
    """3 + 1 of the first; none of a step that kept less, or drafted nothing."""
    run = Generation(
        prompt_tokens=1,
        submit_s=0,
        emissions=((0.1, 1), (0.2, 4), (0.3, 2), (0.4, 1)),
        steps=(Step(3, 3), Step(3, 1), Step(0, 0)),
        token_ids=tuple(range(8)),
        finish_reason="length",
    )
    assert fully_kept_share([run]) == 4 / 8
    assert fully_kept_share([]) == 0.0
