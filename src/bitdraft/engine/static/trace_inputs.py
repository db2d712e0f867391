"""What is recorded on a CPU or compiled, with inputs of a small size."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

from bitdraft.engine.static.drafts import GreedyDraft, draft_token
from bitdraft.engine.static.step import State, Step, logits_of, verify_greedy, verify_greedy_to_stops

Sample = Callable[[int, int, int], tuple[torch.Tensor, ...]]
"""(rows, tokens, size of the vocabulary) → tensors of a part that is recorded"""


def _sample_logits(num_rows: int, num_tokens: int, num_ids: int) -> tuple[torch.Tensor, ...]:
    positions_BT = 1 + 3 * torch.arange(num_rows)[:, None] + torch.arange(num_tokens)
    return (7 * positions_BT) % num_ids, positions_BT


def _sample_draft_token(num_rows: int, num_tokens: int, num_ids: int) -> tuple[torch.Tensor, ...]:
    return *_sample_logits(num_rows, num_tokens, num_ids), torch.zeros(num_rows)


def _sample_verify(num_rows: int, num_tokens: int, num_ids: int) -> tuple[torch.Tensor, ...]:
    texts = [[(7 * index + row) % num_ids for index in range(3 + 2 * row)] for row in range(num_rows)]
    state = State.empty(num_rows, 23 + 2 * num_rows, num_tokens - 1, (), torch.device("cpu"))
    state.begin(texts, 20)
    step = Step.of(state)
    drafted_BK = (11 * torch.arange(num_rows * (num_tokens - 1)) % num_ids).view(num_rows, -1)
    tokens_BT = torch.cat([step.tokens_B2[:, 1:], drafted_BK], 1)
    return *state.of_target(), tokens_BT, step.positions_BX[:, 1:], torch.arange(num_rows) != 1


def _sample_verify_to_stops(num_rows: int, num_tokens: int, num_ids: int) -> tuple[torch.Tensor, ...]:
    return torch.tensor([1, 2])[: num_rows % 2 + 1], *_sample_verify(num_rows, num_tokens, num_ids)


def _sample_greedy_draft(
    part: GreedyDraft, num_rows: int, num_tokens: int, num_ids: int
) -> tuple[torch.Tensor, ...]:
    tokens_BX, positions_BX = _sample_logits(num_rows, num_tokens + part.k, num_ids)
    oracle = (tokens_BX[:, num_tokens:].contiguous(),) if part.has_oracle else ()
    return tokens_BX[:, :num_tokens].contiguous(), positions_BX, torch.zeros(num_rows), *oracle


_SAMPLES: dict[Callable[..., object], Sample] = {
    logits_of: _sample_logits,
    draft_token: _sample_draft_token,
    verify_greedy: _sample_verify,
    verify_greedy_to_stops: _sample_verify_to_stops,
}


def sample_of(part: Callable[..., object]) -> Sample | None:
    """None for a part that is neither recorded nor compiled."""
    if isinstance(part, GreedyDraft):
        return functools.partial(_sample_greedy_draft, part)
    return _SAMPLES.get(part)
