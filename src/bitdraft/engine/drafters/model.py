"""A draft model: a smaller model of the same tokenizer, one forward a token."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Sequence
from typing import Any

import torch

from bitdraft.engine.acceptance import draw, most_probable
from bitdraft.engine.drafters.base import Draft, EagerStep, StaticStep
from bitdraft.engine.static.drafts import GreedyDraft, draft_token, draft_tokens
from bitdraft.engine.static.forward import StaticForward
from bitdraft.engine.token_model import TokenModel


class ModelDrafter:
    """On the eager path.

    Its cache holds a prefix of what is certain. After a step in which all drafts were kept it has
    not yet seen its own last one: the next first forward takes two tokens.
    """

    def __init__(self, runner: TokenModel, target_device: torch.device) -> None:
        self.runner = runner
        self.target_device = target_device

    def start(self, prompts: Sequence[Sequence[int]], capacity: int) -> None:
        """Read all but the prompt's last token."""
        (prompt,) = prompts
        self.runner.start(capacity)
        if len(prompt) > 1:
            self.runner.forward(self.runner.to_device(prompt[:-1]))

    def draft(self, asked: EagerStep) -> Draft:
        """See `Drafter`."""
        tokens_BT = self.runner.to_device(asked.context[self.runner.length :])
        tokens, probs, tops = [], [], []
        for index in range(asked.num_tokens):
            logits_BV = self.runner.forward(tokens_BT)[:, -1]
            top_B, token_B = most_probable(logits_BV)
            if asked.sampler is not None:
                probs_BV = asked.sampler.probabilities(logits_BV)
                token_B = draw(probs_BV, asked.uniforms_K[index : index + 1])
                probs.append(probs_BV)
            if asked.oracle_ids:
                token_B = torch.full_like(token_B, asked.oracle_ids[len(asked.context) + index])
            tops.append(top_B)
            tokens.append(token_B)
            tokens_BT = token_B[:, None]
        return Draft(
            torch.stack(tokens, 1).to(self.target_device),
            torch.stack(probs, 1).to(self.target_device) if probs else None,
            top_logits=tuple(tops),
        )

    def catch_up(self, context: Sequence[int]) -> None:
        """What is new comes with the next forward, which must not find its weights warm."""

    def rewind(self, num_tokens: int) -> None:
        """Forget what lies behind the first `num_tokens`."""
        self.runner.keep(num_tokens)


class StaticModelDrafter:
    """On the static path. Each row's first forward takes the last two certain tokens, whether or not the
    model has seen the first of them."""

    def __init__(self, forward: StaticForward) -> None:
        self.forward = forward

    @property
    def preparation_s(self) -> float:
        """See `StaticDrafter`."""
        return self.forward.preparation_s

    def graph_key(self) -> Hashable:
        """Graphs hold the addresses of one allocation."""
        return self.forward, self.forward.allocation

    def start(self, prompts: Sequence[Sequence[int]], capacity: int) -> None:
        """Read all but the prompts' last tokens."""
        self.forward.allocate(len(prompts), capacity)
        for row, prompt in enumerate(prompts):
            if len(prompt) > 1:
                self.forward.prefill(row, prompt[:-1])

    def draft(self, asked: StaticStep) -> Draft:
        """See `Drafter`."""
        span = self.forward.span(asked.span)
        if asked.sampler is None and self.forward.takes_as_one(asked.step.tokens_B2.shape[0], asked.k):
            return Draft(self._as_one(asked, span))
        return self._token_by_token(asked, span)

    def _as_one(self, asked: StaticStep, span: int) -> torch.Tensor:
        state, step = asked.state, asked.step
        inputs = [step.tokens_B2, step.positions_BX, state.watch_draft_B]
        if asked.has_oracle:
            inputs.append(state.oracle_BN.gather(1, step.positions_BX[:, 2:]))
        drafted_BK: torch.Tensor = self.forward.call(
            GreedyDraft(asked.k, asked.has_oracle), (1, 2), span, *inputs
        )
        return drafted_BK

    def _token_by_token(self, asked: StaticStep, span: int) -> Draft:
        state, sampler = asked.state, asked.sampler
        probs: list[torch.Tensor] = []

        def choose(
            index: int, token_B1: torch.Tensor, logits_BV: torch.Tensor, position_B1: torch.Tensor
        ) -> torch.Tensor:
            if sampler is not None:
                probs.append(sampler.probabilities(logits_BV))
                token_B1 = draw(probs[-1], state.uniforms_BU[:, index])[:, None]
            return state.oracle_BN.gather(1, position_B1) if asked.has_oracle else token_B1

        next_token = functools.partial(self._next_token, span)
        drafted_BK = draft_tokens(
            next_token, asked.step.tokens_B2, asked.step.positions_BX, state.watch_draft_B, asked.k, choose
        )
        return Draft(drafted_BK, torch.stack(probs, 1) if probs else None)

    def _next_token(self, span: int, *tensors: torch.Tensor) -> Any:
        rows, tokens = tensors[0].shape
        return self.forward.call(draft_token, (rows, tokens), span, *tensors)

    def rewind(self, num_tokens: int) -> None:
        """Positions say it."""
