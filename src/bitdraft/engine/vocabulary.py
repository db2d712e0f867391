"""A draft's ids and logits in its target's vocabulary: what the target says is never cut to what a draft
knows.

Models of one tokenizer pad their embeddings differently, have fewer rows than the tokenizer has tokens, or
give some added tokens other ids. Ids that the draft has no row for, or that mean another token to it, are
never proposed; where the target writes one, the draft reads another in its place, which costs agreement and
nothing else.

Shapes: V ids of the target, D rows of the draft.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F


def num_ids(model: Any) -> int:
    """How many ids a model gives logits for, where it doesn't say itself. A weight that is packed for good is
    empty: its layer says."""
    own = getattr(model, "num_ids", None)
    if own is not None:
        return int(own)
    head = model.get_output_embeddings()
    weight = getattr(head, "weight", None)
    if weight is not None and weight.numel():
        return int(weight.shape[0])
    return int(getattr(head, "out_features", None) or model.config.get_text_config().vocab_size)


def num_embeddings(model: Any) -> int:
    """How many ids a model can read, where it doesn't say itself."""
    own = getattr(model, "num_embeddings", None)
    return int(model.get_input_embeddings().weight.shape[0] if own is None else own)


def read_ids(vocabulary: DraftVocabulary | None, tokens: torch.Tensor) -> torch.Tensor:
    """Ids as a model can read them: a draft in its target's vocabulary, or one in its own (None)."""
    return tokens if vocabulary is None else vocabulary.read(tokens)


def fit_logits(vocabulary: DraftVocabulary | None, logits: torch.Tensor) -> torch.Tensor:
    """Logits in the target's ids, or a model's own (None)."""
    return logits if vocabulary is None else vocabulary.fit(logits)


class DraftVocabulary:
    """`foreign` are the ids that mean another token to the draft than to the target, or none at all."""

    def __init__(self, draft: Any, num_target_ids: int, foreign: Sequence[int] = ()) -> None:
        self.num_target_ids = num_target_ids
        self._largest = num_embeddings(draft) - 1
        self._num_missing = max(num_target_ids - num_ids(draft), 0)
        own = sorted({token_id for token_id in foreign if token_id < num_target_ids})
        self._foreign = torch.tensor(own, device=draft.device) if own else None

    def read(self, tokens: torch.Tensor) -> torch.Tensor:
        """Ids as the draft can read them."""
        return tokens if self.num_target_ids - 1 <= self._largest else tokens.clamp(max=self._largest)

    def fit(self, logits_D: torch.Tensor) -> torch.Tensor:
        """`…` × D → `…` × V. What is never proposed gets a logit that no other is below, finite so that an
        overflow is still told from it."""
        logits_V = logits_D[..., : self.num_target_ids]
        lowest = torch.finfo(logits_D.dtype).min / 4
        if self._num_missing:
            logits_V = F.pad(logits_V, (0, self._num_missing), value=lowest)
        if self._foreign is not None:
            logits_V = logits_V.index_fill(-1, self._foreign, lowest)
        return logits_V
