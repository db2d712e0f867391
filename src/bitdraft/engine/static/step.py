"""One step of decoding as functions of fixed shape over state on the device: draft K tokens for every row,
verify them with one forward, keep what holds. Nothing here asks the host.

Shapes: B rows, N slots of text, K drafted tokens, T = K + 1 tokens of a verification, V vocabulary.

Each row has a length, the number of tokens that are certain, prompt included. The last of them has not been
fed to the target yet, and neither it nor the one before it need have been fed to the draft: its first
forward always takes both, whether or not its own last token was kept in the step before. Rows that are done
go through the same operations and do not change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from bitdraft.engine.static.forward import StaticForward
from bitdraft.engine.verify import Sampler, accept_greedy, accept_sampled, draw


@dataclass
class State:
    """What a run changes. `limits_B` are the lengths at which rows end. A sum of logits that any that isn't
    finite makes not finite stands in `watch_B`."""

    text_BN: torch.Tensor
    lengths_B: torch.Tensor
    limits_B: torch.Tensor
    active_B: torch.Tensor
    stop_ids: torch.Tensor
    watch_target_B: torch.Tensor
    watch_draft_B: torch.Tensor

    @classmethod
    def of(
        cls, prompts: Sequence[Sequence[int]], max_new_tokens: int, stop_ids: Sequence[int], num_spare: int, device: torch.device
    ) -> State:
        """Rows that hold their prompts alone; `num_spare` slots behind the longest row take what is drafted
        beyond its end."""
        longest = max(map(len, prompts)) + max_new_tokens + num_spare
        text_BN = torch.zeros(len(prompts), longest, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            text_BN[row, : len(prompt)] = torch.tensor(prompt)
        lengths_B = torch.tensor([len(prompt) for prompt in prompts], device=device)
        return cls(
            text_BN.to(device),
            lengths_B,
            lengths_B + max_new_tokens,
            torch.ones(len(prompts), dtype=torch.bool, device=device),
            torch.tensor(list(stop_ids), dtype=torch.long, device=device),
            torch.zeros(len(prompts), device=device),
            torch.zeros(len(prompts), device=device),
        )

    def positions(self, first: int, count: int) -> torch.Tensor:
        """B × count positions from `first` places behind each row's length on. Those at its limit and beyond
        share the last one, which holds no token that is ever fed."""
        places_BT = self.lengths_B[:, None] + torch.arange(first, first + count, device=self.lengths_B.device)
        return torch.minimum(places_BT, self.limits_B[:, None] - 1)

    def last_tokens(self, count: int) -> torch.Tensor:
        return self.text_BN.gather(1, self.positions(-count, count))


@dataclass
class Drafted:
    """K tokens a row, which of them are `offered` (fit, and exist), and the law of each (sampling only)."""

    token_ids_BK: torch.Tensor
    offered_BK: torch.Tensor
    probs_BKV: torch.Tensor | None = None


@dataclass
class Forced:
    """Synthetic acceptance: what the draft is made to say at each place of the text, B × N."""

    text_BN: torch.Tensor


def fitting(state: State, k: int) -> torch.Tensor:
    """B × K: one token of a step is always the target's own."""
    room_B1 = (state.limits_B - state.lengths_B)[:, None]
    return torch.arange(1, k + 1, device=room_B1.device) < room_B1


def nothing(state: State) -> Drafted:
    empty_B0 = state.text_BN[:, :0]
    return Drafted(empty_B0, empty_B0.bool())


def draft_by_model(  # noqa: PLR0917
    state: State,
    forward: StaticForward,
    k: int,
    span: int,
    sampler: Sampler | None,
    uniforms_BU: torch.Tensor,
    forced: Forced | None = None,
) -> Drafted:
    tokens_BT, positions_BT = state.last_tokens(2), state.positions(-2, 2)
    drafted, probs, tops = [], [], []
    for place in range(k):
        logits_BV = forward(tokens_BT, positions_BT, span)[:, -1]
        top_B, token_B = logits_BV.max(-1)
        if sampler is not None:
            probs_BV = sampler.probabilities(logits_BV)
            token_B = draw(probs_BV, uniforms_BU[:, place])
            probs.append(probs_BV)
        positions_BT = state.positions(place, 1)
        if forced is not None:
            token_B = forced.text_BN.gather(1, positions_BT)[:, 0]
        tops.append(top_B)
        drafted.append(token_B)
        tokens_BT = token_B[:, None]
    offered_BK = fitting(state, k)
    _watch(state.watch_draft_B, torch.stack(tops, 1), offered_BK & state.active_B[:, None])
    return Drafted(torch.stack(drafted, 1), offered_BK, torch.stack(probs, 1) if probs else None)


def draft_by_lookup(state: State, k: int, sizes: range, vocab_size: int | None) -> Drafted:
    """Prompt lookup (drafters.NgramDrafter): what followed the latest earlier occurrence of the last n tokens,
    the largest n of `sizes` first. With `vocab_size`, laws that are all on the drafted token, for sampling."""
    text_BN, lengths_B1 = state.text_BN, state.lengths_B[:, None]
    num_slots = text_BN.shape[1]
    ends_N = torch.arange(num_slots, device=text_BN.device)
    matches_BN = ends_N < lengths_B1
    start_B1 = torch.zeros_like(lengths_B1)
    for size in range(1, sizes[-1] + 1):
        # does a suffix of `size` tokens end before slot e, too?
        own_B1 = text_BN.gather(1, (lengths_B1 - size).clamp(min=0))
        same_BN = (text_BN == own_B1).roll(size, 1) & (ends_N >= size)
        matches_BN = matches_BN & same_BN & (lengths_B1 > size)
        if size in sizes:
            latest_B1 = torch.where(matches_BN, ends_N, 0).amax(1, keepdim=True)
            start_B1 = torch.where(latest_B1 > 0, latest_B1, start_B1)
    # reading on where the text ends goes round from where it began
    offsets_K = torch.arange(k, device=text_BN.device)
    period_B1 = lengths_B1 - start_B1
    drafted_BK = text_BN.gather(1, start_B1 + offsets_K % period_B1)
    probs_BKV = None
    if vocab_size is not None:
        probs_BKV = torch.nn.functional.one_hot(drafted_BK, vocab_size).float()
    return Drafted(drafted_BK, fitting(state, k) & (start_B1 > 0), probs_BKV)


def verify(  # noqa: PLR0917
    state: State,
    forward: StaticForward,
    drafted: Drafted,
    span: int,
    sampler: Sampler | None,
    uniforms_BU: torch.Tensor,
) -> torch.Tensor:
    """Feed the last token and the drafted ones, keep, advance. The step's log, B × (3 + T): numbers of tokens
    produced, drafted and kept, then the tokens. Rows that were done produce none."""
    k = drafted.token_ids_BK.shape[1]
    tokens_BT = torch.cat([state.last_tokens(1), drafted.token_ids_BK], 1)
    logits_BTV = forward(tokens_BT, state.positions(-1, k + 1), span)
    top_BT, choices_BT = logits_BTV.max(-1)
    always_B1 = torch.ones_like(state.active_B)[:, None]
    fed_BT = torch.cat([always_B1, drafted.offered_BK], 1)
    _watch(state.watch_target_B, top_BT, fed_BT & state.active_B[:, None])
    if sampler is None:
        num_kept_B, next_B = accept_greedy(drafted.token_ids_BK, choices_BT, drafted.offered_BK)
    else:
        p_BTV = sampler.probabilities(logits_BTV)
        q_BKV = p_BTV[:, :0] if drafted.probs_BKV is None else drafted.probs_BKV
        num_kept_B, next_B = accept_sampled(
            drafted.token_ids_BK, q_BKV, p_BTV, uniforms_BU[:, -2:], drafted.offered_BK
        )
    return _advance(state, drafted, num_kept_B, next_B)


def _advance(state: State, drafted: Drafted, num_kept_B: torch.Tensor, next_B: torch.Tensor) -> torch.Tensor:
    k = drafted.token_ids_BK.shape[1]
    places_T = torch.arange(k + 1, device=num_kept_B.device)
    padded_BT = torch.cat([drafted.token_ids_BK, next_B[:, None]], 1)
    new_BT = torch.where(places_T < num_kept_B[:, None], padded_BT, next_B[:, None])
    valid_BT = places_T <= num_kept_B[:, None]
    if len(state.stop_ids):
        stops_BT = valid_BT & torch.isin(new_BT, state.stop_ids)
        # what stands behind a stop is dropped
        valid_BT = valid_BT & (stops_BT.cumsum(1) - stops_BT.long() == 0)
    counts_B = torch.where(state.active_B, valid_BT.sum(1), 0)
    state.text_BN.scatter_(1, state.lengths_B[:, None] + places_T, new_BT)
    state.lengths_B += counts_B
    state.active_B &= state.lengths_B < state.limits_B
    if len(state.stop_ids):
        state.active_B &= ~stops_BT.any(1)
    numbers = [counts_B, drafted.offered_BK.sum(1), torch.minimum(num_kept_B, counts_B)]
    return torch.cat([torch.stack(numbers, 1), new_BT], 1)


def _watch(watch_B: torch.Tensor, tops_BT: torch.Tensor, counted_BT: torch.Tensor) -> None:
    watch_B += torch.where(counted_BT, tops_BT.float(), 0).sum(1)
