"""A GGUF file's own tokenizer, through llama.cpp, with what the rest asks of a transformers tokenizer."""

from __future__ import annotations

import ctypes
import functools
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bitdraft.errors import UserError, one_line
from bitdraft.inputs.files import AGAIN
from bitdraft.inputs.gguf.library import library, load

_UNUSED, _CONTROL, _USER_DEFINED = 1 << 1, 1 << 3, 1 << 4  # llama_token_attr: unused, control, user defined


class Encoding(NamedTuple):
    """As a transformers tokenizer answers."""

    input_ids: list[int]


class GgufTokenizer:
    """Raises `UserError` where llama.cpp can't read the file's tokenizer."""

    def __init__(self, path: Path, name: str, field: str = "model") -> None:
        self._api = llama_cpp = library(name, field)
        self.name_or_path = name
        try:
            self._model = load(str(path), vocab_only=True)
        except OSError as error:
            problem = f"its tokenizer cannot be read ({one_line(error)})"
            raise UserError(field, name, problem, AGAIN) from error
        weakref.finalize(self, llama_cpp.llama_model_free, self._model)
        self._vocab = llama_cpp.llama_model_get_vocab(self._model)
        self._size = int(llama_cpp.llama_vocab_n_tokens(self._vocab))
        self.bos_token_id = self._special(llama_cpp.llama_vocab_bos)
        self.eos_token_id = self._special(llama_cpp.llama_vocab_eos)
        found = llama_cpp.llama_model_chat_template(self._model, None)
        self.chat_template: str | None = found.decode(errors="replace") if found else None

    def _special(self, ask: Any) -> int | None:
        token_id = int(ask(self._vocab))
        return None if token_id < 0 else token_id

    def __call__(self, text: str, add_special_tokens: bool = True, verbose: bool = True) -> Encoding:
        """Ids of a text, in which special tokens are read as such, as transformers does."""
        data = text.encode()
        size = len(data) + 8
        while True:
            room = (self._api.llama_token * size)()
            count = int(
                self._api.llama_tokenize(self._vocab, data, len(data), room, size, add_special_tokens, True)
            )
            if count >= 0:
                return Encoding(list(room[:count]))
            size = -count

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """Text of ids."""
        ids = (self._api.llama_token * len(token_ids))(*token_ids)
        size = 16 * len(token_ids) + 16
        while True:
            room = ctypes.create_string_buffer(size)
            count = int(
                self._api.llama_detokenize(
                    self._vocab, ids, len(ids), room, size, False, not skip_special_tokens
                )
            )
            if count >= 0:
                return room.raw[:count].decode(errors="replace")
            size = -count

    @functools.cached_property
    def _tokens(self) -> dict[int, tuple[str, int]]:
        """Text and attributes by id; what is unused is none."""
        found = {}
        for token_id in range(self._size):
            attributes = int(self._api.llama_vocab_get_attr(self._vocab, token_id))
            if not attributes & _UNUSED:
                text = self._api.llama_vocab_get_text(self._vocab, token_id)
                found[token_id] = (text.decode(errors="replace"), attributes)
        return found

    def get_vocab(self) -> dict[str, int]:
        """Ids by token."""
        return {text: token_id for token_id, (text, _) in self._tokens.items()}

    def get_added_vocab(self) -> dict[str, int]:
        """Those beside the vocabulary that was trained: special ones, and what users defined."""
        added = _CONTROL | _USER_DEFINED
        return {text: token_id for token_id, (text, own) in self._tokens.items() if own & added}

    def apply_chat_template(
        self, messages: Sequence[Mapping[str, str]], tokenize: bool, add_generation_prompt: bool
    ) -> str:
        """By the file's own template, as transformers renders one."""
        from transformers.utils.chat_template_utils import render_jinja_template

        special = {"bos_token": self._text(self.bos_token_id), "eos_token": self._text(self.eos_token_id)}
        rendered, _ = render_jinja_template(
            conversations=[[*messages]],
            chat_template=self.chat_template,
            add_generation_prompt=add_generation_prompt,
            **special,
        )
        return str(rendered[0])

    def _text(self, token_id: int | None) -> str:
        return "" if token_id is None else self._tokens.get(token_id, ("", 0))[0]
