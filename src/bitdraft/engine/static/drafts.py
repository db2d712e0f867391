"""A draft model's forwards of a step, as functions of fixed shape that are recorded or compiled.

Shapes: B rows, K drafted tokens, X = K + 2 positions, V vocabulary.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch

from bitdraft.engine.static.step import Forward

NextToken = Callable[..., tuple[torch.Tensor, torch.Tensor]]
"""`draft_token` with its forward bound"""
Choose = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(index, most probable token B × 1, logits B × V, its position B × 1) → the drafted token, B × 1"""


def draft_token(
    forward: Forward, tokens_BT: torch.Tensor, positions_BT: torch.Tensor, watch_B: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(most probable token B × 1, logits B × V) after T tokens of a draft model."""
    logits_BV = forward(tokens_BT, positions_BT)[:, -1]
    top_B, token_B = logits_BV.max(-1)
    watch_B.add_(top_B)
    return token_B[:, None], logits_BV


def draft_tokens(  # noqa: PLR0917
    next_token: NextToken,
    tokens_B2: torch.Tensor,
    positions_BX: torch.Tensor,
    watch_B: torch.Tensor,
    k: int,
    choose: Choose | None = None,
) -> torch.Tensor:
    """drafted_BK; the most probable tokens without `choose`."""
    tokens_BT, positions_BT = tokens_B2, positions_BX[:, :2].contiguous()
    drafted = []
    for index in range(k):
        tokens_BT, logits_BV = next_token(tokens_BT, positions_BT, watch_B)
        positions_BT = positions_BX[:, index + 2 : index + 3].contiguous()
        if choose is not None:
            tokens_BT = choose(index, tokens_BT, logits_BV, positions_BT)
        drafted.append(tokens_BT)
    return torch.cat(drafted, 1)


@dataclass(frozen=True)
class GreedyDraft:
    """All K forwards of a greedy draft as one part of (tokens_B2, positions_BX, watch_B) → drafted_BK: what
    Python, or the entry to compiled code, takes between them is a third of a small draft's time. One that
    `has_oracle` is given what it says as well, oracle_BK."""

    k: int
    has_oracle: bool = False

    def __call__(
        self,
        forward: Forward,
        tokens_B2: torch.Tensor,
        positions_BX: torch.Tensor,
        watch_B: torch.Tensor,
        *oracle: torch.Tensor,
    ) -> torch.Tensor:
        def say(index: int, *_: torch.Tensor) -> torch.Tensor:
            return oracle[0][:, index : index + 1]

        next_token = functools.partial(draft_token, forward)
        choose = say if self.has_oracle else None
        return draft_tokens(next_token, tokens_B2, positions_BX, watch_B, self.k, choose)
