"""Prefill, decode and score with one transformers model and one preallocated cache.

Forwards of few tokens behind others, which decoding is made of, replay a recording where there is one
(engine.traced).

Shapes: B rows, T tokens of this forward, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from bitdraft.engine.cpu_kernels import few_row_kernels
from bitdraft.engine.kv_cache import KVCache, unsupported_reason
from bitdraft.engine.traced import TracedForward, trace_forward
from bitdraft.errors import UserError

MOST_MASKED_TOKENS = 64
# (tokens before, T) of the forwards that a recording is made of and compared at
_RECORDED = (3, 4)
_COMPARED = ((5, 1), (4, 3), (2, 2))


def has_plain_attention(model: Any) -> bool:
    """Whether every layer sees the whole past and takes one additive mask: no sliding windows, no chunks."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ("full_attention",))
    return (
        kinds == {"full_attention"}
        and getattr(config, "sliding_window", None) is None
        and getattr(config, "attention_chunk_size", None) is None
        and bool(getattr(model, "_supports_attention_backend", False))
        and config._attn_implementation in ("sdpa", "eager")
    )


def adapts_to_length(model: Any) -> bool:
    """Rotary embeddings that change themselves with the sequence's length: they can neither serve two
    sequences at once nor be recorded at one length."""
    rope = str(getattr(model.config.get_text_config(), "rope_parameters", ""))
    return "dynamic" in rope or "longrope" in rope


class Runner:
    """Forwards of one row. The cache grows to the largest capacity asked for and is reused.

    With `vocab_size` logits end there: models of one tokenizer may pad their embeddings differently.
    Without `replay` every forward goes through the model itself, which hooks on its modules need.
    """

    def __init__(self, model: Any, vocab_size: int | None = None, *, replay: bool = True) -> None:
        reason = unsupported_reason(model)
        if reason is not None:
            remedy = "Choose a model all of whose layers keep a key-value cache"
            raise UserError("model", type(model).__name__, reason, remedy)
        self.model = model
        self.vocab_size = vocab_size
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        self.num_layers: int = model.config.get_text_config().num_hidden_layers
        self.cache = KVCache(self.num_layers, capacity=0)
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._head_is_plain: bool | None = None
        self._plain_attention = has_plain_attention(model)
        self._masks: dict[int, torch.Tensor] = {}
        self._places = torch.empty(1, 0)
        self._may_trace = (
            replay and self._plain_attention and self.device.type == "cpu" and not adapts_to_length(model)
        )
        self._traced: TracedForward | None = None

    @property
    def execution(self) -> str:
        """How forwards of few tokens are run: `traced` or `eager`. Known after the first of them."""
        return "traced" if self._traced is not None else "eager"

    def start(self, capacity: int) -> None:
        """Begin a new sequence of at most `capacity` tokens."""
        if capacity > self.cache.capacity:
            self.cache = KVCache(self.num_layers, capacity)
        self.cache.clear()

    def to_device(self, token_ids: Sequence[int]) -> torch.Tensor:
        return torch.tensor([token_ids], dtype=torch.long, device=self.device)

    def forward(self, tokens_BT: torch.Tensor, num_logits: int = 1) -> torch.Tensor:
        """Feed T tokens; the logits of the last `num_logits` of them, B × num_logits × V, model dtype."""
        num_tokens, start = tokens_BT.shape[1], self.cache.lengths[0]
        self.cache.check_room(num_tokens)
        with few_row_kernels(num_tokens, self.device, self.dtype):
            few_behind_others = start > 0 and num_tokens <= MOST_MASKED_TOKENS
            recording = self._recording() if few_behind_others else None
            if recording is not None:
                logits_BTV = recording(*self._inputs(tokens_BT))
            else:
                logits_BTV = self._eager(tokens_BT, num_logits)
        self.cache.advance(num_tokens)
        return logits_BTV[:, -num_logits:, : self.vocab_size]

    def _eager(self, tokens_BT: torch.Tensor, num_logits: int) -> torch.Tensor:
        num_tokens, start = tokens_BT.shape[1], self.cache.lengths[0]
        extra: dict[str, Any] = {"logits_to_keep": num_logits} if self._keeps_logits else {}
        if self._plain_attention and 1 < num_tokens <= MOST_MASKED_TOKENS and start > 0:
            extra["attention_mask"] = self._mask(start, num_tokens)
        logits_BTV: torch.Tensor = self.model(
            input_ids=tokens_BT,
            position_ids=self._positions(start, num_tokens),
            past_key_values=self.cache,
            use_cache=True,
            **extra,
        ).logits
        return logits_BTV

    def _inputs(self, tokens_BT: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What a recording takes."""
        num_tokens, start = tokens_BT.shape[1], self.cache.lengths[0]
        positions_BT = self._positions(start, num_tokens)
        return tokens_BT, positions_BT, self._mask(start, num_tokens), *self.cache.buffers()

    def _recording(self) -> TracedForward | None:
        """The recording where there is one. It is made when first asked for, which is in the warm-up.

        Not outside of inference mode, where TorchScript takes some operations apart.
        """
        if not torch.is_inference_mode_enabled():
            return None
        if self._may_trace:
            self._may_trace = False
            self._traced = self._record()
        return self._traced

    def _record(self) -> TracedForward | None:
        """A recording whose logits are the model's own, at other sizes than its own; else None."""
        own = Runner(self.model, replay=False)

        def tokens(start: int, num_tokens: int) -> torch.Tensor:
            own.cache.keep(start)
            num_ids: int = self.model.config.get_text_config().vocab_size
            return (7 * torch.arange(start, start + num_tokens)[None] + 1) % num_ids

        own.start(capacity=sum(_RECORDED))
        own.forward(tokens(0, max(_COMPARED)[0]))
        traced = trace_forward(self.model, *own._inputs(tokens(*_RECORDED)))
        if traced is None:
            return None
        for sizes in _COMPARED:
            with few_row_kernels(sizes[1], self.device, self.dtype):  # as in the model's own forward
                replayed_BTV = traced(*own._inputs(tokens(*sizes)))
            model_BTV = own.forward(tokens(*sizes), sizes[1])
            if not torch.equal(replayed_BTV.nan_to_num(), model_BTV.nan_to_num()):
                return None
        return traced

    def _positions(self, start: int, num_tokens: int) -> torch.Tensor:
        if self._places.shape[1] < self.cache.capacity:
            self._places = torch.arange(self.cache.capacity, device=self.device)[None]
        return self._places.narrow(1, start, num_tokens)

    def _mask(self, start: int, num_tokens: int) -> torch.Tensor:
        """Additive mask, 1 × 1 × T × (start + T), in the model's dtype: all of the past, nothing ahead.

        transformers would build a Boolean one each time, which attention turns into numbers anew in
        every layer. Here it is a view of a larger one that is made once for each T.
        """
        if num_tokens not in self._masks or self._masks[num_tokens].shape[1] < self.cache.capacity:
            mask_TC = torch.zeros(num_tokens, self.cache.capacity + num_tokens, device=self.device)
            ahead_TT = torch.ones(num_tokens, num_tokens, device=self.device).triu(1).bool()
            mask_TC[:, self.cache.capacity :].masked_fill_(ahead_TT, -torch.inf)
            self._masks[num_tokens] = mask_TC.to(self.dtype)
        view_TC = self._masks[num_tokens][None, None, :, -(start + num_tokens) :]
        return view_TC if self.device.type == "cpu" else view_TC.contiguous()

    def hidden_states(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        """Final hidden states of a whole sequence, B × T × hidden size, without touching the cache."""
        output = self.model.base_model(input_ids=tokens_BT, use_cache=False)
        states: torch.Tensor = output.last_hidden_state
        return states

    def head(self, states: torch.Tensor) -> torch.Tensor:
        """Logits of hidden states (the output embedding alone)."""
        logits: torch.Tensor = self.model.get_output_embeddings()(states)
        return logits[..., : self.vocab_size]

    def head_is_plain(self, tokens_BT: torch.Tensor) -> bool:
        """Whether the model's logits are its output embedding of its hidden states and nothing more.

        Some models scale or cap them. Found out once, on the first tokens that are scored.
        """
        if self.model.base_model is self.model:
            self._head_is_plain = False  # its layers cannot be asked without its head (Llama 4)
        if self._head_is_plain is None:
            probe_BT = tokens_BT[:, :8]
            expected = self.model(input_ids=probe_BT, use_cache=False).logits[..., : self.vocab_size]
            found = self.head(self.hidden_states(probe_BT))
            self._head_is_plain = torch.equal(found.nan_to_num(), expected.nan_to_num())
        return self._head_is_plain
