"""Tokenizers: loading, text to token ids, and whether a draft has its target's."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bitdraft.config import ModelConfig
from bitdraft.errors import UserError, one_line
from bitdraft.inputs.checkpoints import DEMO_FOLDER, Checkpoint, embedded_folder
from bitdraft.inputs.files import refuse_stand_ins
from bitdraft.inputs.gguf.tokenizer import GgufTokenizer
from bitdraft.inputs.hub import download_tokenizer

_TOKENIZER_FILES = ("tokenizer.json", "vocab.*", "*.model", "*.tiktoken", "tekken.json")


def load_tokenizer(checkpoint: Checkpoint, config: ModelConfig, field: str = "model") -> Any:
    """The checkpoint's tokenizer, or a `UserError`: transformers', or llama.cpp's of a GGUF file. All shapes
    have the embedded models'. Where a folder or hub id is named for it, that one's."""
    if config.tokenizer is not None and field == "model":
        return named_tokenizer(config)
    if checkpoint.header is not None:
        return GgufTokenizer(checkpoint.folder, checkpoint.name, field)
    folder = DEMO_FOLDER / "target" if checkpoint.random_weights else checkpoint.folder
    return _load(folder, checkpoint.name, config, field)


def named_tokenizer(config: ModelConfig) -> Any:
    """The one that the configuration names: of an embedded model, a folder, or a hub id."""
    return _load(_named_folder(config), str(config.tokenizer), config, "tokenizer")


def _named_folder(config: ModelConfig) -> Path:
    name = str(config.tokenizer)
    embedded = embedded_folder(name, "tokenizer")
    if embedded is not None:
        return embedded
    path = Path(name).expanduser()
    return path if path.is_dir() else download_tokenizer(name, "tokenizer")


def _load(folder: Path, name: str, config: ModelConfig, field: str) -> Any:
    from transformers import AutoTokenizer

    remedy = "Save the tokenizer beside the weights (tokenizer.json)"
    files = sorted({path for pattern in _TOKENIZER_FILES for path in folder.glob(pattern)})
    if not files:
        # transformers would build an empty one and encode every text to nothing
        raise UserError(field, name, "has no tokenizer", remedy)
    refuse_stand_ins([*files, folder / "tokenizer_config.json"], name, field)
    try:
        return AutoTokenizer.from_pretrained(
            folder, trust_remote_code=config.trust_remote_code, local_files_only=True
        )
    except (
        BaseException
    ) as error:  # the tokenizers library raises bare ones, and panics of Rust, which are none
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        import tokenizers

        problem = f"tokenizers {tokenizers.__version__} cannot load its tokenizer ({one_line(error)})"
        remedy = "Save it beside the weights again, or install the tokenizers that it was saved with"
        raise UserError(field, name, problem, remedy) from error


def check_token_ids(largest: int, checkpoint: Checkpoint, field: str = "model") -> None:
    """Refuse token ids that have no row in a model's embedding."""
    if not checkpoint.vocab_size or largest < checkpoint.vocab_size:
        return
    what = "the embedded tokenizer" if checkpoint.random_weights else "its tokenizer"
    problem = f"{what} gives id {largest}, its embedding has {checkpoint.vocab_size} rows"
    remedy = "Use the tokenizer that the model was trained with"
    if checkpoint.random_weights:
        remedy = f"Set vocab_size in its config.json to {largest + 1} or more"
    raise UserError(field, checkpoint.name, problem, remedy)


def draft_tokenizer_problem(draft: Any, target: Any, sample: str) -> str | None:
    """Why a draft's tokenizer is not the target's: they need the same tokens under the same ids, those that
    were added to either excepted (`foreign_ids`), and the same ids for a piece of text. Embeddings may be
    padded differently behind them."""
    ours, theirs = target.get_vocab(), draft.get_vocab()
    added = target.get_added_vocab().items() | draft.get_added_vocab().items()
    differing = (ours.items() ^ theirs.items()) - added
    if differing:
        token = min(differing, key=lambda item: (item[1], item[0]))[0]
        return (
            f"its vocabulary is another one than the target's ({len(theirs)} and {len(ours)} tokens; "
            f"{token!r} is {theirs.get(token, 'missing')} and {ours.get(token, 'missing')})"
        )
    if text_encoder(target)(sample) != text_encoder(draft)(sample):
        return "its tokenizer has the target's tokens but splits text differently"
    return None


def refuse_other_ids(other: Any, tokenizer: Any, sample: str, named: tuple[str, str], remedy: str) -> None:
    """Raise `UserError` for the (setting, value) that was `named` where its tokenizer isn't the model's."""
    problem = draft_tokenizer_problem(other, tokenizer, sample)
    if problem is not None:
        raise UserError(*named, problem.replace("target's", "model's"), remedy)


def foreign_ids(draft: Any, target: Any) -> tuple[int, ...]:
    """The ids that mean another token to a draft than to its target, or to one of them nothing: added tokens,
    as a model's fine-tuned versions have them."""
    return tuple(sorted({token_id for _, token_id in target.get_vocab().items() ^ draft.get_vocab().items()}))


def tokens_in_front(tokenizer: Any, bos: str) -> tuple[int, ...]:
    """What the tokenizer itself puts in front of a text (`bos`: `auto`), a BOS token mostly; else nothing."""
    if bos == "off":
        return ()
    plain, whole = text_encoder(tokenizer)("a"), _encoded(tokenizer, "a", special=True)
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return tuple(whole[:start])
    return ()


def chat_encoder(tokenizer: Any) -> Callable[[Sequence[Mapping[str, str]]], list[int]] | None:
    """Messages → token ids with the turn that is asked for begun; None without a chat template."""
    if not getattr(tokenizer, "chat_template", None):
        return None

    def encode(messages: Sequence[Mapping[str, str]]) -> list[int]:
        try:
            text = tokenizer.apply_chat_template([*messages], tokenize=False, add_generation_prompt=True)
        except Exception as error:  # a template is a program, which may raise anything
            problem = f"the tokenizer's chat template cannot take a conversation ({one_line(error)})"
            raise UserError("chat", "on", problem, "Use --chat off, or mend the template") from error
        return text_encoder(tokenizer)(text)

    return encode


def text_encoder(tokenizer: Any) -> Callable[[str], list[int]]:
    """Text → token ids as the protocols count them: without special tokens, of any length."""

    return functools.partial(_encoded, tokenizer)


def _encoded(tokenizer: Any, text: str, *, special: bool = False) -> list[int]:
    try:
        return list(tokenizer(text, add_special_tokens=special, verbose=False).input_ids)
    except Exception as error:  # of a tokenizer that could be loaded all the same
        problem = f"cannot encode a text ({one_line(error)})"
        raise UserError("tokenizer", tokenizer.name_or_path, problem, "Save it again") from error
