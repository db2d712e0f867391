"""One transformers model over a static cache: prefill a row, feed T tokens to every row.

Shapes: B rows, T tokens of a forward, S slots that it reads, C capacity, V vocabulary.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch

from bitdraft.engine.cpu.layers import MOST_ROWS_PLAIN, few_row_kernels, prepare_linears
from bitdraft.engine.runner import adapts_to_length
from bitdraft.engine.static.cache import Place, additive_masks, cache_over, mask_kinds, probe_shapes
from bitdraft.engine.static.compile import compile_part
from bitdraft.engine.static.graphs import Graphs, cuda_capture
from bitdraft.engine.static.step import State, logits_of
from bitdraft.engine.static.trace import record
from bitdraft.engine.static.trace_inputs import Sample, sample_of
from bitdraft.engine.vocabulary import DraftVocabulary, fit_logits, read_ids
from bitdraft.inputs.quantised import has_plain_linears
from bitdraft.probes.clock import now

# slots are read in multiples of these: fine where a recording serves all sizes, coarse where each is captured
FINE, COARSE = 32, 256

# (rows, tokens) that a recording is made of and compared at, by whether a forward has a single token a row, a
# single row, and more rows for its products than plain ones are fast for
SIZES = {
    (True, True, False): [(1, 1), (1, 1)],
    (True, False, False): [(2, 1), (2, 1)],
    (True, False, True): [(3, 1), (4, 1)],
    (False, True, False): [(1, 2), (1, 2)],
    (False, True, True): [(1, 3), (1, 4), (1, 9)],
    (False, False, True): [(2, 2), (2, 3), (3, 2)],
}

# a draft's forwards are one part where they have so few layers in all: in more, what is between them is
# little, and compiling them takes long
MOST_LAYERS_AS_ONE = 24
Part = Callable[..., Any]
"""A function of (forward, tensors …), where forward is (tokens_BT, positions_BT) → logits_BTV"""


def unsupported_reason(model: Any) -> str | None:
    """Why a model cannot be decoded here, or None where it can: its configuration first, then its logits."""
    config = model.config.get_text_config()
    if not has_plain_linears(model):
        return "its weights are quantised"
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
    # as it is, because a recording or compilation of it would be thrown away
    found_TV = forward._run(logits_of, 1, 2, tokens_BT, positions_BT, *forward._over(8))[0].float()
    own_TV = model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0, 3:].float()
    tolerance = 1e-3 if forward.dtype == torch.float32 else 0.1
    return not own_TV.isfinite().all() or bool(
        (found_TV - own_TV).abs().max() <= tolerance * own_TV.abs().max()
    )


class StaticForward:
    """Forwards of B rows at once over buffers that are allocated for the largest use and kept.

    A draft's logits are in the vocabulary of its target, where that is given. With `least_capacity` for the
    longest text to come, nothing has to be compiled or captured again.
    """

    def __init__(
        self,
        model: Any,
        vocabulary: DraftVocabulary | None = None,
        mode: str = "static",
        least_capacity: int = 0,
    ) -> None:
        self._least_capacity = least_capacity
        self.model, self.vocabulary, self.mode = model, vocabulary, mode
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        self.num_rows = self.capacity = 0
        self._rows = prepare_linears(model)
        self._shapes = probe_shapes(model)
        self._buffers: tuple[torch.Tensor, ...] = ()
        self._ways: dict[tuple[Part, tuple[int, int], int], tuple[Part, tuple[torch.Tensor, ...]]] = {}
        self._rows_B11 = self._places = torch.empty(0, dtype=torch.long)
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._compilations: dict[tuple[Any, ...], Part] = {}
        self._recordings: dict[tuple[Part, bool, bool, bool], Part | None] = {}

        # on a GPU a step's halves are captured, whatever they are made of
        self.graphs = Graphs(cuda_capture()) if self.device.type == "cuda" else None
        self.allocation = 0
        self.preparation_s = 0.0
        self._states: dict[tuple[int, tuple[int, ...]], State] = {}

    def state(self, capacity: int, k: int, stop_ids: tuple[int, ...]) -> State:
        """For a run of texts of up to `capacity` tokens. With graphs, whose tensors must stay where they are,
        runs share one."""
        if self.graphs is None:
            return State.empty(self.num_rows, capacity, k, stop_ids, self.device)
        if (k, stop_ids) not in self._states:
            self._states[k, stop_ids] = State.empty(self.num_rows, self.capacity, k, stop_ids, self.device)
        return self._states[k, stop_ids]

    @property
    def execution(self) -> str:
        """How forwards of few tokens are run; known after the first of them."""
        if self.mode == "static" and any(self._recordings.values()):
            return "static, recorded"
        return self.mode

    @property
    def grain(self) -> int:
        is_free = self.mode == "static" and self.device.type == "cpu" and self.graphs is None
        return FINE if is_free else COARSE

    def allocate(self, num_rows: int, capacity: int) -> None:
        """Room for `capacity` tokens in each row. What was there is lost."""
        capacity = -(-max(capacity, self._least_capacity) // self.grain) * self.grain
        if num_rows == self.num_rows and capacity <= self.capacity:
            return
        # old buffers go before new ones come, and what runs out of memory leaves none
        self._buffers, self._ways, self._states = (), {}, {}
        self.num_rows = self.capacity = 0
        self.allocation += 1
        if self.graphs is not None:
            self.graphs.clear()
        self._buffers = tuple(
            torch.zeros(num_rows, heads, capacity, size, dtype=dtype, device=self.device)
            for heads, size, dtype in self._shapes
        )
        self._places = torch.arange(capacity, device=self.device)
        self._rows_B11 = torch.arange(num_rows, device=self.device)[:, None, None]
        self.num_rows, self.capacity = num_rows, capacity

    def prefill(self, row: int, prompt: Sequence[int]) -> torch.Tensor:
        """Read a prompt into a row; the logits behind its last token, 1 × V."""
        tokens_1T = torch.tensor([list(prompt)], dtype=torch.long, device=self.device)
        places_1T = self._places[None, : len(prompt)]
        buffers = tuple(buffer[row : row + 1] for buffer in self._buffers)
        extra: dict[str, Any] = {"logits_to_keep": 1} if self._keeps_logits else {}
        with few_row_kernels(len(prompt), self.device, self.dtype, self._rows):
            output = self.model(
                input_ids=read_ids(self.vocabulary, tokens_1T),
                position_ids=places_1T,
                past_key_values=cache_over(buffers, Place(places_1T)),
                use_cache=True,
                **extra,
            )
        return fit_logits(self.vocabulary, output.logits[:, -1])

    def span(self, num_tokens: int) -> int:
        """How many slots to read where rows have up to `num_tokens`."""
        return min(-(-num_tokens // self.grain) * self.grain, self.capacity)

    def call(self, part: Part, shape: tuple[int, int], span: int, *tensors: torch.Tensor) -> Any:
        """`part` of this model's forward, which it calls for `shape` (rows, tokens) first of all: tokens are
        written at their positions, and the first `span` slots are read. A recording takes its place where
        there is one, or where one can be made now, which is in the warm-up."""
        key = (part, shape, span)
        if key not in self._ways:
            start_s = now()
            self._ways[key] = self._way(part, shape, span, tensors)
            self.preparation_s += now() - start_s
        run, over = self._ways[key]
        with few_row_kernels(shape[0] * shape[1], self.device, self.dtype, self._rows):
            return run(*tensors, *over)

    def takes_as_one(self, num_rows: int, num_forwards: int) -> bool:
        """Whether so many forwards, the first of two tokens a row, should be one part. A GPU's are one graph
        anyway; and the first of several rows goes through other products than those that follow."""
        num_layers: int = self.model.config.get_text_config().num_hidden_layers
        is_small = num_rows == 1 and num_forwards * num_layers <= MOST_LAYERS_AS_ONE
        return is_small and self.graphs is None

    def _way(
        self, part: Part, shape: tuple[int, int], span: int, tensors: tuple[torch.Tensor, ...]
    ) -> tuple[Part, tuple[torch.Tensor, ...]]:
        """How a part is run, and what it runs over."""
        over = self._over(span)
        with few_row_kernels(shape[0] * shape[1], self.device, self.dtype, self._rows):
            run = self._compiled(part, shape, (*tensors, *over)) or self._recording(part, shape)
        return run or functools.partial(self._run, part, shape[0], len(tensors)), over

    def _over(self, span: int) -> tuple[torch.Tensor, ...]:
        """rows_B11, slots_S, keys of every layer, then values."""
        return self._rows_B11, self._places[:span], *self._buffers

    def logits(self, span: int, tokens_BT: torch.Tensor, positions_BT: torch.Tensor) -> torch.Tensor:
        """B × T × V, in the model's dtype."""
        num_rows, num_tokens = tokens_BT.shape
        found: torch.Tensor = self.call(logits_of, (num_rows, num_tokens), span, tokens_BT, positions_BT)
        return found

    def _run(self, part: Part, num_rows: int, num_tensors: int, *inputs: torch.Tensor) -> Any:
        """Inputs are the part's tensors, then those of `_over`."""
        rows_B11, slots_S, *buffers = inputs[num_tensors:]

        def forward(tokens_BT: torch.Tensor, positions_BT: torch.Tensor) -> torch.Tensor:
            place = Place(positions_BT, slots_S.shape[0], rows_B11 if num_rows > 1 else None)
            logits_BTV: torch.Tensor = self.model(
                input_ids=read_ids(self.vocabulary, tokens_BT),
                position_ids=positions_BT,
                attention_mask=additive_masks(self.model, positions_BT, slots_S, self.dtype),
                past_key_values=cache_over(tuple(buffers), place),
                use_cache=True,
            ).logits
            return fit_logits(self.vocabulary, logits_BTV)

        return part(forward, *inputs[:num_tensors])

    def _compiled(self, part: Part, shape: tuple[int, int], inputs: tuple[torch.Tensor, ...]) -> Part | None:
        if self.mode != "compiled" or sample_of(part) is None:
            return None
        num_rows, num_tokens = shape
        num_tensors = len(inputs) - len(self._buffers) - 2
        # the sizes that are constants there
        way = (part, num_rows, num_tokens == 1, num_rows * num_tokens > MOST_ROWS_PLAIN, self.capacity)
        if way not in self._compilations:

            def run(*inputs: torch.Tensor) -> Any:
                return self._run(part, num_rows, num_tensors, *inputs)

            self._compilations[way] = compile_part(run, inputs, num_tensors)
        return self._compilations[way]

    def _recording(self, part: Part, shape: tuple[int, int]) -> Part | None:
        """One for each way through model and kernels. Not outside of inference mode, where TorchScript takes
        some operations apart."""
        sample = sample_of(part)
        if sample is None or self.mode != "static" or self.device.type != "cpu":
            return None
        if not torch.is_inference_mode_enabled():
            return None
        # attention, cache and linear layers differ
        is_single, is_alone = shape[1] == 1, shape[0] == 1
        way = (part, is_single, is_alone, shape[0] * shape[1] > MOST_ROWS_PLAIN)
        if way not in self._recordings:
            self._recordings[way] = self._record(part, sample, SIZES[way[1:]])
        return self._recordings[way]

    def _record(self, part: Part, sample: Sample, sizes: Sequence[tuple[int, int]]) -> Part | None:
        num_ids: int = self.model.config.get_text_config().vocab_size
        num_tensors = len(sample(1, 1, num_ids))

        def run(*inputs: torch.Tensor) -> Any:
            return self._run(part, sizes[0][0], num_tensors, *inputs)

        samples = []
        for index, (rows, tokens) in enumerate(sizes):
            samples.append((*sample(rows, tokens, num_ids), *self._empty(rows, 40 + 32 * index)))
        return record(run, samples)

    def _empty(self, num_rows: int, span: int) -> tuple[torch.Tensor, ...]:
        """Rows, slots and buffers of zeros that are a little larger than the span."""
        rows_B11 = torch.arange(num_rows)[:, None, None]
        buffers = [torch.zeros(num_rows, heads, span + 8, size, dtype=d) for heads, size, d in self._shapes]
        return rows_B11, torch.arange(span), *buffers
