"""One step of decoding as functions of fixed shape over state on the device: K tokens were drafted for every
row (drafts.py); verify them with one forward, keep what holds. Nothing here asks the host.

Shapes: B rows, N slots of text, K drafted tokens, T = K + 1 tokens of a verification, V vocabulary.

Each row has a length, the number of tokens that are certain, prompt included. The last of them has not been
fed to the target yet, and neither it nor the one before it need have been fed to the draft: its first
forward always takes both, whether or not its own last token was kept in the step before. Rows that are done
go through the same operations and do not change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from bitdraft.engine.acceptance import Sampler, accept_sampled, exact_dtype

Forward = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(tokens_BT, positions_BT) → logits_BTV"""


@dataclass
class State:
    """What a run reads and changes. `limits_B` are the lengths at which rows end. `watch_*_B` are sums of the
    largest logits, which any that isn't finite makes not finite. `uniforms_BU` are the K + 2 numbers of the
    step to come, `oracle_BN` what a draft model is made to say at each place of the text (synthetic
    acceptance). Graphs hold these tensors' addresses: another run begins in the same ones."""

    text_BN: torch.Tensor
    lengths_B: torch.Tensor
    limits_B: torch.Tensor
    active_B: torch.Tensor
    watch_target_B: torch.Tensor
    watch_draft_B: torch.Tensor
    oracle_BN: torch.Tensor
    uniforms_BU: torch.Tensor
    stop_ids: torch.Tensor
    offsets_X: torch.Tensor
    all_B: torch.Tensor

    @classmethod
    def empty(
        cls, num_rows: int, capacity: int, k: int, stop_ids: Sequence[int], device: torch.device
    ) -> State:
        """For texts of up to `capacity` tokens; K + 1 slots more take what is drafted beyond a row's end."""
        text_BN = torch.zeros(num_rows, capacity + k + 1, dtype=torch.long, device=device)
        lengths_B = torch.zeros(num_rows, dtype=torch.long, device=device)
        return cls(
            text_BN=text_BN,
            lengths_B=lengths_B,
            limits_B=lengths_B.clone(),
            active_B=lengths_B == 0,
            watch_target_B=torch.zeros(num_rows, device=device),
            watch_draft_B=torch.zeros(num_rows, device=device),
            oracle_BN=text_BN.clone(),
            uniforms_BU=torch.zeros(num_rows, k + 2, dtype=exact_dtype(device), device=device),
            stop_ids=torch.tensor(list(stop_ids), dtype=torch.long, device=device),
            offsets_X=torch.arange(-2, k, device=device),
            all_B=lengths_B == 0,
        )

    def begin(
        self, texts: Sequence[Sequence[int]], max_new_tokens: int, oracle_ids: Sequence[Sequence[int]] = ()
    ) -> None:
        """Rows that hold these texts alone; `oracle_ids` are what a draft says behind each."""
        text_BN = torch.zeros(self.text_BN.shape, dtype=torch.long)
        for row, text in enumerate(texts):
            text_BN[row, : len(text)] = torch.tensor(text)
        self.text_BN.copy_(text_BN)
        for row, ids in enumerate(oracle_ids):
            start, kept = len(texts[row]), ids[:max_new_tokens]
            text_BN[row, start : start + len(kept)] = torch.tensor(kept)
        if oracle_ids:
            self.oracle_BN.copy_(text_BN)
        self.lengths_B.copy_(torch.tensor([len(text) for text in texts]))
        self.limits_B.copy_(self.lengths_B + max_new_tokens)
        self.active_B.fill_(True)
        self.watch_target_B.zero_()
        self.watch_draft_B.zero_()

    def changing(self) -> tuple[torch.Tensor, ...]:
        return self.text_BN, self.lengths_B, self.active_B, self.watch_target_B, self.watch_draft_B

    def of_target(self) -> tuple[torch.Tensor, ...]:
        """The first of `verify`'s tensors."""
        return self.text_BN, self.lengths_B, self.limits_B, self.active_B, self.watch_target_B


@dataclass
class Step:
    """What a step begins with: the last two tokens of every row, B × 2, and the positions of those and of the
    K that may follow, B × (K + 2). Positions at a row's limit and beyond share the last one, which holds no
    token that is ever fed."""

    tokens_B2: torch.Tensor
    positions_BX: torch.Tensor

    @classmethod
    def of(cls, state: State) -> Step:
        places_BX = state.lengths_B[:, None] + state.offsets_X
        positions_BX = torch.minimum(places_BX, state.limits_B[:, None] - 1)
        return cls(state.text_BN.gather(1, positions_BX[:, :2]), positions_BX)


def logits_of(forward: Forward, tokens_BT: torch.Tensor, positions_BT: torch.Tensor) -> torch.Tensor:
    return forward(tokens_BT, positions_BT)


def verify(
    forward: Forward,
    *tensors: torch.Tensor,
    stop_ids: torch.Tensor | None = None,
    sampling: Sampling | None = None,
) -> torch.Tensor:
    """Feed the last token and the K drafted ones, keep, advance. The step's log, B × (3 + T): numbers of
    tokens produced and kept, whether the row had drafted tokens (`found_B`), then the tokens. Rows that
    were done produce none. One token of a step is always the target's own, so that fewer may be kept
    than fit. Greedy without `sampling`; a token of `stop_ids` ends its row.

    The tensors are those of `State.of_target`, then tokens_BT, positions_BT, found_B.
    """
    text_BN, lengths_B, limits_B, active_B, watch_B, tokens_BT, positions_BT, found_B = tensors
    logits_BTV = forward(tokens_BT, positions_BT)
    top_BT, choices_BT = logits_BTV.max(-1)
    watch_B.add_(top_BT.sum(-1, dtype=torch.float32))
    most_B = (limits_B - lengths_B - 1) * found_B
    if sampling is None:
        agrees_BK = choices_BT[:, :-1] == tokens_BT[:, 1:]
        num_kept_B = torch.minimum(agrees_BK.cumprod(1).sum(1), most_B)
        # where a drafted token is kept it is the target's choice
        new_BT = choices_BT
    else:
        num_kept_B, new_BT = _keep_sampled(logits_BTV, most_B, sampling)
    counts_B = num_kept_B + 1
    if stop_ids is not None:
        places_T = torch.arange(tokens_BT.shape[1], device=text_BN.device)
        stops_BT = (new_BT[..., None] == stop_ids).any(-1) & (places_T < counts_B[:, None])
        # what stands behind a stop is dropped
        before_BT = stops_BT.cumsum(1) - stops_BT.long() == 0
        counts_B = ((places_T < counts_B[:, None]) & before_BT).sum(1)
        num_kept_B = torch.minimum(num_kept_B, counts_B)
    counts_B = counts_B * active_B
    text_BN.scatter_(1, positions_BT + 1, new_BT)
    lengths_B.add_(counts_B)
    active_B.logical_and_(lengths_B < limits_B)
    if stop_ids is not None:
        active_B.logical_and_(~stops_BT.any(1))
    return torch.cat([torch.stack([counts_B, num_kept_B, found_B.long()], 1), new_BT], 1)


@dataclass(frozen=True)
class Sampling:
    """How a step draws: its drafted tokens, B × K, their laws, B × K × V (all on the drafted token where
    there are none), and two uniform numbers a row."""

    sampler: Sampler
    drafted_BK: torch.Tensor
    laws_BKV: torch.Tensor | None
    uniforms_B2: torch.Tensor

    def laws(self, num_ids: int) -> torch.Tensor:
        if self.laws_BKV is not None:
            return self.laws_BKV
        return torch.nn.functional.one_hot(self.drafted_BK, num_ids).float()


def _keep_sampled(
    logits_BTV: torch.Tensor, most_B: torch.Tensor, sampling: Sampling
) -> tuple[torch.Tensor, torch.Tensor]:
    """(number of kept tokens B, the step's tokens B × T)"""
    drafted_BK, laws_BKV = sampling.drafted_BK, sampling.laws(logits_BTV.shape[-1])
    p_BTV = sampling.sampler.probabilities(logits_BTV)
    places_T = torch.arange(p_BTV.shape[1], device=p_BTV.device)
    offered_BK = places_T[:-1] < most_B[:, None]
    num_kept_B, next_B = accept_sampled(drafted_BK, laws_BKV, p_BTV, sampling.uniforms_B2, offered_BK)
    padded_BT = torch.cat([drafted_BK, next_B[:, None]], 1)
    return num_kept_B, torch.where(places_T < num_kept_B[:, None], padded_BT, next_B[:, None])


def verify_greedy(forward: Forward, *tensors: torch.Tensor) -> torch.Tensor:
    return verify(forward, *tensors)


def verify_greedy_to_stops(forward: Forward, stop_ids: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
    return verify(forward, *tensors, stop_ids=stop_ids)
