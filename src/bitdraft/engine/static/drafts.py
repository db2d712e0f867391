"""What is drafted in a step, as functions of fixed shape: by a model, or by prompt lookup.

Shapes: B rows, N slots of text, K drafted tokens, X = K + 2 positions, V vocabulary.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch

from bitdraft.engine.acceptance import Sampler, draw
from bitdraft.engine.static.step import Forward, State, Step
from bitdraft.engine.static.trace import record

NextToken = Callable[..., tuple[torch.Tensor, torch.Tensor]]
"""`draft_token` with its forward bound"""
Choose = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(place, most probable token B × 1, logits B × V, its position B × 1) → the drafted token, B × 1"""


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
    for place in range(k):
        tokens_BT, logits_BV = next_token(tokens_BT, positions_BT, watch_B)
        positions_BT = positions_BX[:, place + 2 : place + 3].contiguous()
        if choose is not None:
            tokens_BT = choose(place, tokens_BT, logits_BV, positions_BT)
        drafted.append(tokens_BT)
    return torch.cat(drafted, 1)


def draft_by_model(
    state: State,
    step: Step,
    next_token: NextToken,
    k: int,
    sampler: Sampler | None = None,
    *,
    is_forced: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(drafted_BK, their laws B × K × V if sampled). A draft that `is_forced` says what the state holds."""
    laws: list[torch.Tensor] = []

    def choose(
        place: int, token_B1: torch.Tensor, logits_BV: torch.Tensor, position_B1: torch.Tensor
    ) -> torch.Tensor:
        if sampler is not None:
            laws.append(sampler.probabilities(logits_BV))
            token_B1 = draw(laws[-1], state.uniforms_BU[:, place])[:, None]
        return state.forced_BN.gather(1, position_B1) if is_forced else token_B1

    watch_B = state.watch_draft_B
    drafted_BK = draft_tokens(next_token, step.tokens_B2, step.positions_BX, watch_B, k, choose)
    return drafted_BK, torch.stack(laws, 1) if laws else None


@dataclass(frozen=True)
class GreedyDraft:
    """All K forwards of a greedy draft as one part of (tokens_B2, positions_BX, watch_B) → drafted_BK: what
    Python, or the entry to compiled code, takes between them is a third of a small draft's time. One that
    `is_forced` is given what it says as well, said_BK."""

    k: int
    is_forced: bool = False

    def __call__(
        self,
        forward: Forward,
        tokens_B2: torch.Tensor,
        positions_BX: torch.Tensor,
        watch_B: torch.Tensor,
        *said: torch.Tensor,
    ) -> torch.Tensor:
        def say(place: int, *_: torch.Tensor) -> torch.Tensor:
            return said[0][:, place : place + 1]

        next_token = functools.partial(draft_token, forward)
        choose = say if self.is_forced else None
        return draft_tokens(next_token, tokens_B2, positions_BX, watch_B, self.k, choose)


def look_up(
    text_BN: torch.Tensor, lengths_B: torch.Tensor, offsets_K: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(drafted_BK, found_B) by prompt lookup (drafters.NgramDrafter): what followed the latest earlier
    occurrence of the last four tokens, else three, else two."""
    lengths_B1 = lengths_B[:, None]
    ends_N = torch.arange(text_BN.shape[1], device=text_BN.device)
    matches_BN = ends_N < lengths_B1
    start_B1 = torch.zeros_like(lengths_B1)
    for size in range(1, 5):
        # does a suffix of `size` tokens end before slot e, too?
        own_B1 = text_BN.gather(1, (lengths_B1 - size).clamp(min=0))
        same_BN = (text_BN == own_B1).roll(size, 1) & (ends_N >= size)
        matches_BN = matches_BN & same_BN & (lengths_B1 > size)
        if size >= 2:
            latest_B1 = torch.where(matches_BN, ends_N, 0).amax(1, keepdim=True)
            start_B1 = torch.where(latest_B1 > 0, latest_B1, start_B1)
    # reading on where the text ends goes round from where it began
    return text_BN.gather(1, start_B1 + offsets_K % (lengths_B1 - start_B1)), start_B1[:, 0] > 0


@functools.cache
def recorded_look_up() -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """For a CPU, where its forty small operations are a tenth of a small target's step."""
    samples = []
    for rows, width, k in ((1, 30, 4), (3, 41, 7), (2, 20, 1)):
        text_BN = (torch.arange(rows * width) ** 2 % 7).view(rows, width)
        samples.append((text_BN, width - 3 - torch.arange(rows), torch.arange(k)))
    return record(look_up, samples) or look_up
