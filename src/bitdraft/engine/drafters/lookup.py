"""Prompt lookup: the text's own n-grams as drafts.

Shapes: B rows, N slots of text, K drafted tokens, V vocabulary.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence

import torch

from bitdraft.engine.drafters.base import Draft, EagerStep, StaticStep
from bitdraft.engine.static.trace import record


class NgramDrafter:
    """The continuation of the latest earlier occurrence of the text's last n tokens (prompt lookup,
    Saxena 2023), the longest n first. Where that continuation reaches the text's end it goes on with
    what it has just drafted, so that a match always gives K tokens; without a match there are none.
    On the eager path.

    Under sampling its distribution is all on the drafted token.
    """

    LONGEST, SHORTEST = 4, 2

    def __init__(self, device: torch.device, vocab_size: int) -> None:
        self.device = device
        self.vocab_size = vocab_size
        self._after: dict[tuple[int, ...], int] = {}
        self._prompt_after: dict[tuple[int, ...], int] = {}
        self._num_indexed = 0
        self._prompt_tokens = 0

    def start(self, prompts: Sequence[Sequence[int]], capacity: int) -> None:
        """Index the prompt."""
        (prompt,) = prompts
        self._after, self._num_indexed = {}, 0
        self._index(prompt, len(prompt) - 1)
        self._prompt_after, self._prompt_tokens = self._after, self._num_indexed
        self._after = {}

    def _index(self, context: Sequence[int], end: int) -> None:
        """Note for every n-gram that ends before `end` where it is continued."""
        for index in range(self._num_indexed + 1, end + 1):
            for size in range(self.SHORTEST, min(self.LONGEST, index) + 1):
                self._after[tuple(context[index - size : index])] = index
        self._num_indexed = max(self._num_indexed, end)

    def propose(self, context: Sequence[int], num_tokens: int) -> list[int]:
        """The next `num_tokens` token ids, or none."""
        self._index(context, len(context) - 1)
        for size in range(min(self.LONGEST, len(context)), self.SHORTEST - 1, -1):
            suffix = tuple(context[-size:])
            start = self._after.get(suffix) or self._prompt_after.get(suffix)
            if start is not None:
                period = len(context) - start
                return [context[start + offset % period] for offset in range(num_tokens)]
        return []

    def proposals(self, text: Sequence[int], first: int, num_tokens: int) -> list[list[int]]:
        """What it would draft before each token of a text from index `first` on."""
        context, found = list(text[:first]), []
        for token_id in text[first:]:
            found.append(self.propose(context, num_tokens))
            context.append(token_id)
        return found

    def draft(self, asked: EagerStep) -> Draft:
        """See `Drafter`."""
        proposed = self.propose(asked.context, asked.num_tokens)
        tokens_1K = torch.tensor([proposed], dtype=torch.long, device=self.device)
        if asked.sampler is None:
            return Draft(tokens_1K)
        return Draft(tokens_1K, torch.nn.functional.one_hot(tokens_1K, self.vocab_size).float())

    def catch_up(self, context: Sequence[int]) -> None:
        """Index what is new."""
        self._index(context, len(context) - 1)

    def rewind(self, num_tokens: int) -> None:
        """Only certain tokens are indexed. Going back behind them keeps the prompt's alone."""
        if num_tokens < self._num_indexed:
            self._after, self._num_indexed = {}, self._prompt_tokens


class StaticNgramDrafter:
    """The same on the static path, by comparing all of the text at once. Under sampling a step takes its
    distributions as all on the drafted tokens."""

    preparation_s = 0.0

    def graph_key(self) -> Hashable:
        """See `StaticDrafter`."""
        return "lookup"

    def start(self, prompts: Sequence[Sequence[int]], capacity: int) -> None:
        """Nothing to read: a step's state holds the text."""

    def draft(self, asked: StaticStep) -> Draft:
        """See `Drafter`."""
        state = asked.state
        lookup = recorded_look_up() if asked.may_ask else look_up
        drafted_BK, found_B = lookup(state.text_BN, state.lengths_B, state.offsets_X[2:])
        # outside of graphs a step may be smaller where nothing is found
        if asked.may_ask and not found_B.any():
            drafted_BK = drafted_BK[:, :0]
        return Draft(drafted_BK, found_B=found_B)

    def rewind(self, num_tokens: int) -> None:
        """Positions say it."""


def look_up(
    text_BN: torch.Tensor, lengths_B: torch.Tensor, offsets_K: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(drafted_BK, found_B) as `NgramDrafter` drafts: what followed the latest earlier
    occurrence of the last four tokens, else three, else two."""
    lengths_B1 = lengths_B[:, None]
    ends_N = torch.arange(text_BN.shape[1], device=text_BN.device)
    matches_BN = ends_N < lengths_B1
    start_B1 = torch.zeros_like(lengths_B1)
    for size in range(1, NgramDrafter.LONGEST + 1):
        # does a suffix of `size` tokens end before slot e, too?
        own_B1 = text_BN.gather(1, (lengths_B1 - size).clamp(min=0))
        same_BN = (text_BN == own_B1).roll(size, 1) & (ends_N >= size)
        matches_BN = matches_BN & same_BN & (lengths_B1 > size)
        if size >= NgramDrafter.SHORTEST:
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
