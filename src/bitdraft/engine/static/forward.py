"""One transformers model over a static cache: prefill a row, feed T tokens to every row.

Shapes: B rows, T tokens of a forward, S slots that it reads, C capacity, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch

from bitdraft.engine.cpu_kernels import few_row_kernels, prepare_linears
from bitdraft.engine.runner import adapts_to_length
from bitdraft.engine.static.cache import Place, additive_masks, cache_over, mask_kinds, probe_shapes
from bitdraft.engine.static.record import record
from bitdraft.engine.static.step import SAMPLES, Sample, logits_of

# slots are read in multiples of these: fine where a recording serves all sizes, coarse where each is captured
FINE, COARSE = 32, 256

Part = Callable[..., Any]
"""A function of (forward, tensors …), where forward is (tokens_BT, positions_BT) → logits_BTV"""


def unsupported_reason(model: Any) -> str | None:
    """Why a model cannot be decoded here, or None where it can: its configuration first, then its logits."""
    config = model.config.get_text_config()
    if not getattr(model, "_supports_attention_backend", False):
        return "its attention takes no mask of its caller's"
    if config._attn_implementation not in ("sdpa", "eager"):
        return f"attention by {config._attn_implementation} takes no additive mask"
    if not mask_kinds(model):
        return "its layers see the past neither as a whole nor through a sliding window"
    if adapts_to_length(model):
        return "its rotary embeddings change with the length"
    with torch.inference_mode():
        return None if _gives_own_logits(model) else "a forward over a static cache gives other logits"


def _gives_own_logits(model: Any) -> bool:
    """Within what rounding does in the model's dtype."""
    forward = StaticForward(model)
    forward.allocate(1, 8)
    num_ids = model.config.get_text_config().vocab_size
    ids = [token_id % num_ids for token_id in (5, 3, 7, 2, 6)]
    forward.prefill(0, ids[:3])
    tokens_BT, positions_BT = (torch.tensor([row], device=model.device) for row in (ids[3:], [3, 4]))
    found_TV = forward.logits(8, tokens_BT, positions_BT)[0].float()
    own_TV = model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0, 3:].float()
    tolerance = 1e-3 if forward.dtype == torch.float32 else 0.1
    return not own_TV.isfinite().all() or bool(
        (found_TV - own_TV).abs().max() <= tolerance * own_TV.abs().max()
    )


class StaticForward:
    """Forwards of B rows at once over buffers that are allocated for the largest use and kept.

    Logits end at `vocab_size`: models of one tokenizer may pad their embeddings differently.
    """

    def __init__(self, model: Any, vocab_size: int | None = None, mode: str = "static") -> None:
        self.model, self.vocab_size, self.mode = model, vocab_size, mode
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        self.num_rows = self.capacity = 0
        self._rows = prepare_linears(model)
        self._shapes = probe_shapes(model)
        self._buffers: tuple[torch.Tensor, ...] = ()
        self._spans: dict[int, tuple[torch.Tensor, ...]] = {}
        self._offsets_B1 = self._places = torch.empty(0, dtype=torch.long)
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._recordings: dict[tuple[Part, bool, bool], Part | None] = {}

    @property
    def execution(self) -> str:
        """How forwards of few tokens are run; known after the first of them."""
        if self.mode == "static" and any(self._recordings.values()):
            return "static, recorded"
        return self.mode

    @property
    def grain(self) -> int:
        return FINE if self.mode == "static" and self.device.type == "cpu" else COARSE

    def allocate(self, num_rows: int, capacity: int) -> None:
        """Room for `capacity` tokens in each row. What was there is lost."""
        capacity = -(-capacity // self.grain) * self.grain
        if num_rows != self.num_rows or capacity > self.capacity:
            self.num_rows, self.capacity = num_rows, capacity
            self._buffers = tuple(
                torch.zeros(num_rows, capacity, heads, size, dtype=dtype, device=self.device)
                for heads, size, dtype in self._shapes
            )
            self._spans = {}
            self._places = torch.arange(capacity, device=self.device)
            self._offsets_B1 = torch.arange(num_rows, device=self.device)[:, None] * capacity

    def prefill(self, row: int, prompt: Sequence[int]) -> torch.Tensor:
        """Read a prompt into a row; the logits behind its last token, 1 × V."""
        tokens_1T = torch.tensor([list(prompt)], dtype=torch.long, device=self.device)
        places_1T = self._places[None, : len(prompt)]
        place = Place(places_1T + row * self.capacity)
        extra: dict[str, Any] = {"logits_to_keep": 1} if self._keeps_logits else {}
        with few_row_kernels(len(prompt), self.device, self.dtype, self._rows):
            output = self.model(
                input_ids=tokens_1T,
                position_ids=places_1T,
                past_key_values=cache_over(self._buffers, place),
                use_cache=True,
                **extra,
            )
        logits: torch.Tensor = output.logits[:, -1, : self.vocab_size]
        return logits

    def span(self, num_tokens: int) -> int:
        """How many slots to read where rows have up to `num_tokens`."""
        return min(-(-num_tokens // self.grain) * self.grain, self.capacity)

    def call(self, part: Part, shape: tuple[int, int], span: int, *tensors: torch.Tensor) -> Any:
        """`part` of this model's forward, which it calls once, for `shape` (rows, tokens): tokens are written
        at their positions, and the first `span` slots are read. A recording takes its place where there is
        one, or where one can be made now, which is in the warm-up."""
        with few_row_kernels(shape[0] * shape[1], self.device, self.dtype, self._rows):
            recording = self._recording(part, shape)
            inputs = (*tensors, *self._over(span))
            return recording(*inputs) if recording else self._run(part, len(tensors), *inputs)

    def _over(self, span: int) -> tuple[torch.Tensor, ...]:
        """offsets_B1, slots_S, keys of every layer, then values."""
        if span not in self._spans:
            self._spans[span] = (self._offsets_B1, self._places[:span], *self._buffers)
        return self._spans[span]

    def logits(self, span: int, tokens_BT: torch.Tensor, positions_BT: torch.Tensor) -> torch.Tensor:
        """B × T × V, in the model's dtype."""
        num_rows, num_tokens = tokens_BT.shape
        found: torch.Tensor = self.call(logits_of, (num_rows, num_tokens), span, tokens_BT, positions_BT)
        return found

    def _run(self, part: Part, num_tensors: int, *inputs: torch.Tensor) -> Any:
        """Inputs are the part's tensors, then those of `_over`."""
        offsets_B1, slots_S, *buffers = inputs[num_tensors:]

        def forward(tokens_BT: torch.Tensor, positions_BT: torch.Tensor) -> torch.Tensor:
            place = Place(positions_BT + offsets_B1, slots_S.shape[0])
            logits_BTV: torch.Tensor = self.model(
                input_ids=tokens_BT,
                position_ids=positions_BT,
                attention_mask=additive_masks(self.model, positions_BT, slots_S, self.dtype),
                past_key_values=cache_over(tuple(buffers), place),
                use_cache=True,
            ).logits
            return logits_BTV[..., : self.vocab_size]

        return part(forward, *inputs[:num_tensors])

    def _recording(self, part: Part, shape: tuple[int, int]) -> Part | None:
        """One for single tokens and one for several, whose attention differs, each with the products of few
        rows and without. Not outside of inference mode, where TorchScript takes some operations apart."""
        sample = SAMPLES.get(part)
        if sample is None or self.mode != "static" or self.device.type != "cpu":
            return None
        if not torch.is_inference_mode_enabled():
            return None
        way = (part, shape[1] == 1, self._rows is not None and self._rows.are_few)
        if way not in self._recordings:
            self._recordings[way] = self._record(part, sample, *shape)
        return self._recordings[way]

    def _record(self, part: Part, sample: Sample, num_rows: int, num_tokens: int) -> Part | None:
        """Made and compared at small sizes that take the same way through model and kernels."""
        if num_tokens == 1:
            sizes = [(4, 1), (3, 1), (5, 1)] if num_rows > 2 else [(2, 1), (1, 1), (2, 1)]
        else:
            sizes = [(2, 2), (2, 3), (1, 4), (3, 2)] if num_rows * num_tokens > 2 else [(1, 2), (1, 2)]
        num_ids: int = self.model.config.get_text_config().vocab_size
        samples = []
        num_tensors = len(sample(1, 1, num_ids))

        def run(*inputs: torch.Tensor) -> Any:
            return self._run(part, num_tensors, *inputs)

        for place, (rows, tokens) in enumerate(sizes):
            samples.append((*sample(rows, tokens, num_ids), *self._empty(rows, 40 + 32 * place)))
        return record(run, samples)

    def _empty(self, num_rows: int, span: int) -> tuple[torch.Tensor, ...]:
        """Offsets, slots and buffers of zeros that are a little larger than the span."""
        offsets_B1 = torch.arange(num_rows)[:, None] * (span + 8)
        buffers = [torch.zeros(num_rows, span + 8, heads, size, dtype=d) for heads, size, d in self._shapes]
        return offsets_B1, torch.arange(span), *buffers
