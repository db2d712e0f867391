"""A GGUF model in memory, and contexts over it: they feed tokens to rows and read logits where they lie.

Shapes: B rows, T tokens of a row's forward, N tokens of all rows, V vocabulary.
"""

from __future__ import annotations

import ctypes
import functools
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bitdraft.backends.llama_cpp.threads import attach_pool
from bitdraft.backends.llama_cpp.trial import repacking_works
from bitdraft.config import ModelConfig
from bitdraft.errors import UserError, one_line
from bitdraft.formats import kv_cache as kv_formats
from bitdraft.formats.gguf import WIDEST
from bitdraft.inputs.gguf.header import GgufHeader
from bitdraft.inputs.gguf.library import last_errors, library, load

MOST_AT_ONCE = 512
"""Tokens of one call, as llama.cpp's own tools have it"""
_ALL_LAYERS = 10_000
_FLASH = {"auto": -1, "off": 0, "on": 1}


class LlamaModel:
    """`num_ids` are those it gives logits for. Raises `UserError` where llama.cpp can't load the file, or
    can't use the device."""

    def __init__(self, header: GgufHeader, device: torch.device, config: ModelConfig) -> None:
        self.api = llama_cpp = library(config.model)
        self.path = path = header.files[0]
        self.device = torch.device("cpu")  # where logits lie
        self.dtype = torch.float32 if header.format is WIDEST else torch.float16
        self.threads = config.threads or torch.get_num_threads()
        self.kv_cache = kv_formats.find(config.kv_cache)
        self.kv_cache_name = config.kv_cache
        self.flash_attention = _FLASH[config.flash_attention]
        settings: dict[str, Any] = {"n_gpu_layers": 0, "use_extra_bufts": repacking_works()}
        if device.type != "cpu":
            if not llama_cpp.llama_supports_gpu_offload():
                remedy = "Install one that does (CMAKE_ARGS=-DGGML_CUDA=on), or use --device cpu"
                problem = "this build of llama.cpp computes on the CPU alone"
                raise UserError("device", str(device), problem, remedy)
            settings |= {"n_gpu_layers": _ALL_LAYERS, "main_gpu": device.index or 0}
        try:
            self.handle = load(str(path), **settings)
        except OSError as error:
            remedy = "Install a newer llama-cpp-python, or choose another file"
            raise UserError("model", path.name, one_line(error), remedy) from error
        weakref.finalize(self, llama_cpp.llama_model_free, self.handle)
        self._vocab = llama_cpp.llama_model_get_vocab(self.handle)
        self.num_ids = int(llama_cpp.llama_vocab_n_tokens(self._vocab))
        self.num_embeddings = self.num_ids

    @functools.cached_property
    def eos_ids(self) -> frozenset[int]:
        """The ids that end a text."""
        is_end = self.api.llama_vocab_is_eog
        return frozenset(token_id for token_id in range(self.num_ids) if is_end(self._vocab, token_id))

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of keys and values of a token over all layers, as llama.cpp's models mostly have them: all
        heads of keys and values of one size."""
        api, handle = self.api, self.handle
        heads = int(api.llama_model_n_head_kv(handle))
        size = int(api.llama_model_n_embd(handle)) // int(api.llama_model_n_head(handle))
        numbers = 2 * int(api.llama_model_n_layer(handle)) * heads * size
        return numbers * self.kv_cache.bytes_of_32 // 32

    def context(self, capacity: int, num_rows: int = 1) -> Context:
        """Room for `capacity` tokens in each row. Raises `UserError` where llama.cpp refuses the settings."""
        return Context(self, capacity, num_rows)


class Context:
    """A cache of rows, and forwards that read and write it. Logits lie in the library's own memory and are
    overwritten by the next forward."""

    def __init__(self, model: LlamaModel, capacity: int, num_rows: int) -> None:
        api = self._api = model.api
        self.capacity, self._num_ids = capacity, model.num_ids
        parameters = api.llama_context_default_params()
        parameters.n_ctx = capacity * num_rows
        parameters.n_batch = parameters.n_ubatch = self._most = max(MOST_AT_ONCE, 64 * num_rows)
        parameters.n_seq_max = num_rows
        parameters.n_threads = parameters.n_threads_batch = model.threads
        parameters.flash_attn_type = model.flash_attention
        parameters.type_k = parameters.type_v = model.kv_cache.ggml_type
        parameters.no_perf = True
        parameters.swa_full = True  # or a cache with a sliding window can't be rolled back
        parameters.kv_unified = False
        self._handle = api.llama_init_from_model(model.handle, parameters)
        if not self._handle:
            problem = f"llama.cpp makes no context of {capacity} tokens ({last_errors()})"
            remedy = "Leave --kv-cache and --flash-attention out, or ask for shorter texts"
            raise UserError("kv_cache", model.kv_cache_name, problem, remedy)
        self._model = model  # which must outlive it
        weakref.finalize(self, api.llama_free, self._handle)
        attach_pool(api, self._handle, model.threads)
        self._memory = api.llama_get_memory(self._handle)
        self._views: dict[tuple[int, int], torch.Tensor] = {}
        self._counting = np.arange(capacity, dtype=np.int32)
        self._make_batch()

    def _make_batch(self) -> None:
        """Arrays that stay; a forward fills their front."""
        api, most = self._api, self._most
        self._tokens, self._places = np.zeros(most, np.int32), np.zeros(most, np.int32)
        self._rows, self._wanted = np.zeros(most, np.int32), np.zeros(most, np.int8)
        self._one_row = np.ones(most, np.int32)
        first = self._rows.ctypes.data
        self._row_pointers = (ctypes.POINTER(api.llama_seq_id) * most)(
            *(ctypes.cast(first + 4 * place, ctypes.POINTER(api.llama_seq_id)) for place in range(most))
        )
        self._batch = api.llama_batch(
            n_tokens=0,
            token=self._tokens.ctypes.data_as(ctypes.POINTER(api.llama_token)),
            embd=None,
            pos=self._places.ctypes.data_as(ctypes.POINTER(api.llama_pos)),
            n_seq_id=self._one_row.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            seq_id=self._row_pointers,
            logits=self._wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    def keep(self, row: int, num_tokens: int) -> None:
        """Forget what lies behind the first `num_tokens` of a row."""
        self._api.llama_memory_seq_rm(self._memory, row, num_tokens, -1)

    def feed(self, tokens_T: NDArray[Any], first: int, num_logits: int, row: int = 0) -> torch.Tensor:
        """Feed a row's tokens at positions `first` and on; the logits of the last `num_logits`, T × V."""
        total = len(tokens_T)
        if total <= self._most:
            found = self._feed_some(tokens_T, first, num_logits, row)
            assert found is not None
            return found
        parts = []
        for start in range(0, total, self._most):
            part_T = tokens_T[start : start + self._most]
            wanted = min(len(part_T), num_logits - (total - start - len(part_T)))
            found = self._feed_some(part_T, first + start, wanted, row)
            parts += [] if found is None else [found.clone()]
        return torch.cat(parts)

    def feed_one(self, token_id: int, place: int) -> torch.Tensor:
        """Feed a token of the first row; its logits, 1 × V."""
        self._tokens[0], self._places[0], self._rows[0], self._wanted[0] = token_id, place, 0, 1
        found = self._decode(1, 1)
        assert found is not None
        return found

    def _feed_some(
        self, tokens_T: NDArray[Any], first: int, num_logits: int, row: int
    ) -> torch.Tensor | None:
        """As many as one call takes; no logits where `num_logits` is not above 0."""
        count = len(tokens_T)
        without = count - max(num_logits, 0)
        self._tokens[:count] = tokens_T
        self._places[:count] = self._counting[first : first + count]
        self._rows[:count] = row
        self._wanted[:without] = 0
        self._wanted[without:count] = 1
        return self._decode(count, count - without)

    def feed_rows(self, tokens: Sequence[NDArray[Any]], firsts: Sequence[int]) -> torch.Tensor:
        """Feed all rows' tokens, each at its own positions; the logits of all of them, N × V."""
        start = 0
        for row, (own, first) in enumerate(zip(tokens, firsts, strict=True)):
            end = start + len(own)
            self._tokens[start:end] = own
            self._places[start:end] = self._counting[first : first + len(own)]
            self._rows[start:end] = row
            start = end
        self._wanted[:start] = 1
        found = self._decode(start, start)
        assert found is not None
        return found

    def _decode(self, num_tokens: int, num_logits: int) -> torch.Tensor | None:
        self._batch.n_tokens = num_tokens
        code = self._api.llama_decode(self._handle, self._batch)
        if code == 1:
            raise AssertionError(f"no room for {num_tokens} tokens in a cache of {self.capacity}")
        if code != 0:
            raise RuntimeError(f"llama.cpp could not decode ({code}: {last_errors()})")
        if not num_logits:
            return None
        address = ctypes.addressof(self._api.llama_get_logits(self._handle).contents)
        key = (address, num_logits)
        if key not in self._views:
            room = (ctypes.c_float * (num_logits * self._num_ids)).from_address(address)
            self._views = {key: torch.frombuffer(room, dtype=torch.float32).view(num_logits, self._num_ids)}
        return self._views[key]
