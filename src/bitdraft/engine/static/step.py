"""One step of decoding as functions of fixed shape over state on the device: draft K tokens for every row,
verify them with one forward, keep what holds. Nothing here asks the host.

Shapes: B rows, N slots of text, K drafted tokens, T = K + 1 tokens of a verification, V vocabulary.

Each row has a length, the number of tokens that are certain, prompt included. The last of them has not been
fed to the target yet, and neither it nor the one before it need have been fed to the draft: its first
forward always takes both, whether or not its own last token was kept in the step before. Rows that are done
go through the same operations and do not change.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from bitdraft.engine.static.record import record
from bitdraft.engine.verify import Sampler, accept_sampled, draw, exact_dtype

Forward = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(tokens_BT, positions_BT) → logits_BTV"""


Sample = Callable[[int, int, int], tuple[torch.Tensor, ...]]
"""(rows, tokens, size of the vocabulary) → tensors of a part that is recorded"""


@dataclass
class State:
    """What a run reads and changes. `limits_B` are the lengths at which rows end. `watch_*_B` are sums of the
    largest logits, which any that isn't finite makes not finite. `uniforms_BU` are the K + 2 numbers of the
    step to come, `forced_BN` what a draft model is made to say at each place of the text (synthetic
    acceptance). Graphs hold these tensors' addresses: another run begins in the same ones."""

    text_BN: torch.Tensor
    lengths_B: torch.Tensor
    limits_B: torch.Tensor
    active_B: torch.Tensor
    watch_target_B: torch.Tensor
    watch_draft_B: torch.Tensor
    forced_BN: torch.Tensor
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
            forced_BN=text_BN.clone(),
            uniforms_BU=torch.zeros(num_rows, k + 2, dtype=exact_dtype(device), device=device),
            stop_ids=torch.tensor(list(stop_ids), dtype=torch.long, device=device),
            offsets_X=torch.arange(-2, k, device=device),
            all_B=lengths_B == 0,
        )

    def begin(
        self, texts: Sequence[Sequence[int]], max_new_tokens: int, forced: Sequence[Sequence[int]] = ()
    ) -> None:
        """Rows that hold these texts alone; `forced` is what a draft says behind each."""
        text_BN = torch.zeros(self.text_BN.shape, dtype=torch.long)
        for row, text in enumerate(texts):
            text_BN[row, : len(text)] = torch.tensor(text)
        self.text_BN.copy_(text_BN)
        for row, said in enumerate(forced):
            start, kept = len(texts[row]), said[:max_new_tokens]
            text_BN[row, start : start + len(kept)] = torch.tensor(kept)
        if forced:
            self.forced_BN.copy_(text_BN)
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


def draft_token(
    forward: Forward, tokens_BT: torch.Tensor, positions_BT: torch.Tensor, watch_B: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(most probable token B × 1, logits B × V) after T tokens of a draft model."""
    logits_BV = forward(tokens_BT, positions_BT)[:, -1]
    top_B, token_B = logits_BV.max(-1)
    watch_B.add_(top_B)
    return token_B[:, None], logits_BV


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


def draft_by_model(
    state: State,
    step: Step,
    next_token: Callable[..., tuple[torch.Tensor, torch.Tensor]],
    k: int,
    sampler: Sampler | None = None,
    *,
    is_forced: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(drafted_BK, their laws B × K × V if sampled). `next_token` is `draft_token` with its forward bound.
    One that `is_forced` says what the state holds for it."""
    tokens_BT, positions_BT = step.tokens_B2, step.positions_BX[:, :2].contiguous()
    drafted, laws = [], []
    for place in range(k):
        tokens_BT, logits_BV = next_token(tokens_BT, positions_BT, state.watch_draft_B)
        positions_BT = step.positions_BX[:, place + 2 : place + 3].contiguous()
        if sampler is not None:
            laws.append(sampler.probabilities(logits_BV))
            tokens_BT = draw(laws[-1], state.uniforms_BU[:, place])[:, None]
        if is_forced:
            tokens_BT = state.forced_BN.gather(1, positions_BT)
        drafted.append(tokens_BT)
    return torch.cat(drafted, 1), torch.stack(laws, 1) if laws else None


def _sample_logits(num_rows: int, num_tokens: int, num_ids: int) -> tuple[torch.Tensor, ...]:
    positions_BT = 1 + 3 * torch.arange(num_rows)[:, None] + torch.arange(num_tokens)
    return (7 * positions_BT) % num_ids, positions_BT


def _sample_draft_token(num_rows: int, num_tokens: int, num_ids: int) -> tuple[torch.Tensor, ...]:
    return *_sample_logits(num_rows, num_tokens, num_ids), torch.zeros(num_rows)


def _sample_verify(num_rows: int, num_tokens: int, num_ids: int) -> tuple[torch.Tensor, ...]:
    texts = [[(7 * place + row) % num_ids for place in range(3 + 2 * row)] for row in range(num_rows)]
    state = State.empty(num_rows, 23 + 2 * num_rows, num_tokens - 1, (), torch.device("cpu"))
    state.begin(texts, 20)
    step = Step.of(state)
    drafted_BK = (11 * torch.arange(num_rows * (num_tokens - 1)) % num_ids).view(num_rows, -1)
    tokens_BT = torch.cat([step.tokens_B2[:, 1:], drafted_BK], 1)
    return *state.of_target(), tokens_BT, step.positions_BX[:, 1:], torch.arange(num_rows) != 1


def _sample_verify_to_stops(num_rows: int, num_tokens: int, num_ids: int) -> tuple[torch.Tensor, ...]:
    return torch.tensor([1, 2])[: num_rows % 2 + 1], *_sample_verify(num_rows, num_tokens, num_ids)


SAMPLES: dict[Callable[..., object], Sample] = {
    logits_of: _sample_logits,
    draft_token: _sample_draft_token,
    verify_greedy: _sample_verify,
    verify_greedy_to_stops: _sample_verify_to_stops,
}
"""What is recorded on a CPU, with inputs of a small size."""
