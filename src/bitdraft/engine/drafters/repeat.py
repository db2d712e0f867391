"""The last token again and again: drafts that cost nothing, to time verifications alone."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from bitdraft.engine.drafters.base import Draft, StaticStep


class RepeatDrafter:
    """On the static path."""

    preparation_s = 0.0

    def graph_key(self) -> Hashable:
        """See `StaticDrafter`."""
        return "repeat"

    def start(self, prompts: Sequence[Sequence[int]], capacity: int) -> None:
        """Nothing to read."""

    def draft(self, asked: StaticStep) -> Draft:
        """See `Drafter`."""
        return Draft(asked.step.tokens_B2[:, 1:].expand(-1, asked.k).contiguous())

    def rewind(self, num_tokens: int) -> None:
        """Nothing to forget."""
