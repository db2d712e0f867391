"""Prompts cut from rows of text, and whether a model has room for them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitdraft.config import TextConfig
from bitdraft.errors import UserError
from bitdraft.inputs.checkpoints import Checkpoint
from bitdraft.inputs.datasets import Dataset
from bitdraft.inputs.text_files import Messages
from bitdraft.inputs.tokenizers import chat_encoder, text_encoder, tokens_in_front
from bitdraft.schema.environment import TextRecord

CHARS_PER_TOKEN = 8  # no common tokenizer averages more on prose; a window is cut with room to spare

Encode = Callable[[str], list[int]]


_SAMPLE_CHARS = 4000


@dataclass(frozen=True)
class Prompt:
    """`stratum` is what it was sampled by: an article, a book, a category. `cluster` is what its text shares
    with other prompts' beyond chance: an article or a book."""

    prompt_id: str
    token_ids: tuple[int, ...]
    stratum: str = ""
    cluster: str = ""


@dataclass(frozen=True)
class Encoder:
    """Text to ids: plain (`text`), through a chat template (`chat`, None where there is none), and what
    stands in front of every prompt."""

    text: Encode
    chat: Callable[[Sequence[Mapping[str, str]]], list[int]] | None = None
    front: tuple[int, ...] = ()

    def of_text(self, text: str, limit: int) -> tuple[int, ...]:
        """At most `limit` ids, those in front among them."""
        ids = self.text(text)[: max(limit - len(self.front), 0)]
        return (*self.front, *ids) if ids else ()

    def of_messages(self, messages: Messages) -> tuple[int, ...]:
        """Through the template, which may put its own in front: it stands there once."""
        assert self.chat is not None
        ids = tuple(self.chat(messages))
        return ids if ids[: len(self.front)] == self.front else (*self.front, *ids)


def encoder_of(tokenizer: Any, bos: str) -> Encoder:
    """A tokenizer's."""
    return Encoder(text_encoder(tokenizer), chat_encoder(tokenizer), tokens_in_front(tokenizer, bos))


def uses_chat(dataset: Dataset, config: TextConfig, encoder: Encoder) -> bool:
    """Whether prompts go through the chat template. Raises `UserError` where that was asked for and there is
    none."""
    if config.chat == "off" or (config.chat == "auto" and not any(dataset.conversations)):
        return False
    if encoder.chat is not None:
        return True
    if config.chat == "on":
        raise UserError("chat", "on", "the tokenizer has no chat template", "Use --chat auto or off")
    return False


def sample_of(dataset: Dataset) -> str:
    """A piece of its text, by which two tokenizers are compared."""
    return next(row for row in dataset.rows if row.strip())[:_SAMPLE_CHARS]


def text_record(
    dataset: Dataset, prompts: Sequence[Prompt], config: TextConfig, encoder: Encoder
) -> TextRecord:
    """What a result says of its text."""
    strata = tuple(prompt.stratum for prompt in prompts)
    return TextRecord(
        dataset=dataset.name,
        source=dataset.source,
        revision=dataset.revision,
        sha256=dataset.sha256,
        num_rows=len(dataset.rows),
        prompt_ids=tuple(prompt.prompt_id for prompt in prompts),
        prompt_tokens=tuple(len(prompt.token_ids) for prompt in prompts),
        sample=config.sample,
        strata=strata if any(strata) else (),
        chat=uses_chat(dataset, config, encoder),
        bos=encoder.front,
    )


def first_prompts(text: TextRecord, num_prompts: int) -> TextRecord:
    """The record of the first prompts alone."""
    cut = {name: getattr(text, name)[:num_prompts] for name in ("prompt_ids", "prompt_tokens", "strata")}
    return text.model_copy(update=cut)


def check_context(
    prompts: list[Prompt], config: TextConfig, max_new_tokens: int, checkpoint: Checkpoint, whose: str
) -> None:
    """Refuse prompts that, with what is to be generated, exceed a model's context, or a length at which its
    rotary embeddings change: what the cache holds would be of the ones before."""
    longest = max(len(prompt.token_ids) for prompt in prompts)
    if longest + max_new_tokens > checkpoint.context:
        problem = (
            f"the longest prompt's {longest} tokens and {max_new_tokens} new ones exceed "
            f"{whose} context of {checkpoint.context} tokens"
        )
        raise _too_long(longest, config, max_new_tokens, checkpoint.context, problem)
    switch = checkpoint.rope_switch
    if switch is None:
        return
    lengths = [len(prompt.token_ids) for prompt in prompts]
    first = [0 if checkpoint.rope_always_changes else n for n in lengths]
    crossing = [n for n, begin in zip(lengths, first, strict=True) if begin <= switch < n + max_new_tokens]
    if crossing:
        problem = (
            f"with {max_new_tokens} new tokens a prompt of {max(crossing)} crosses {switch} tokens, where "
            f"{whose} rotary embeddings change for all that came before"
        )
        raise _too_long(max(crossing), config, max_new_tokens, switch, problem)


def _too_long(longest: int, config: TextConfig, max_new_tokens: int, limit: int, problem: str) -> UserError:
    """With what still fits below the limit as a remedy."""
    room = limit - max_new_tokens
    if room > 0:
        remedy = f"Use --max-prompt-tokens {room} or less"
        return UserError("max_prompt_tokens", config.max_prompt_tokens, problem, remedy)
    remedy = f"Use --max-new-tokens {limit - longest} or less"
    if longest >= limit:
        remedy = f"Use a smaller --max-prompt-tokens and --max-new-tokens: together at most {limit}"
    return UserError("max_new_tokens", max_new_tokens, problem, remedy)


def select_prompts(dataset: Dataset, config: TextConfig, encoder: Encoder, seed: int = 0) -> list[Prompt]:
    """`num_prompts` texts over `min_text_chars`, cut at `max_prompt_tokens`: a seeded sample that takes one
    of every stratum before a second of any, or the first. For whole books and files, windows of that length
    spread over rows and over the body of each. Conversations that are too long are no prompts: cut, they
    would not ask for an answer."""
    chance = None if config.sample == "first" else random.Random(seed)
    if dataset.has_long_rows:
        prompts = _windows(dataset, config, encoder, chance)
    else:
        prompts, chats = [], uses_chat(dataset, config, encoder)
        for index in _order(dataset, config, chance):
            ids = _row_ids(dataset, config, encoder, index, chats=chats)
            if ids:
                stratum = dataset.stratum(index)
                cluster = stratum if dataset.has_clusters else ""
                prompts.append(Prompt(dataset.row_ids[index], ids, stratum, cluster))
            if len(prompts) == config.num_prompts:
                break
    if len(prompts) < config.num_prompts:
        raise _too_few(dataset, config, encoder, len(prompts))
    return prompts


def _row_ids(
    dataset: Dataset, config: TextConfig, encoder: Encoder, index: int, *, chats: bool
) -> tuple[int, ...]:
    """Nothing where a row is no prompt."""
    if not chats:
        return encoder.of_text(dataset.rows[index], config.max_prompt_tokens)
    given = dataset.conversations[index] if dataset.conversations else ()
    ids = encoder.of_messages(given or ({"role": "user", "content": dataset.rows[index]},))
    return ids if len(ids) <= config.max_prompt_tokens else ()


def _order(dataset: Dataset, config: TextConfig, chance: random.Random | None) -> list[int]:
    """Rows that are long enough, in the order in which they become prompts: any first few are a sample."""
    least = 0 if dataset.are_prompts else config.min_text_chars
    rows = [index for index, row in enumerate(dataset.rows) if len(row) > least]
    if chance is None:
        return rows
    strata: dict[str, list[int]] = {}
    for index in rows:
        strata.setdefault(dataset.stratum(index), []).append(index)
    groups = list(strata.values())
    for group in groups:
        chance.shuffle(group)
    chance.shuffle(groups)
    rounds = itertools.zip_longest(*groups)
    return [index for one in rounds for index in one if index is not None]


def _too_few(dataset: Dataset, config: TextConfig, encoder: Encoder, num_found: int) -> UserError:
    """What was asked for is too much of this text, and how much is not."""
    if not dataset.has_long_rows:
        remedy = f"Ask for --num-prompts {num_found} or fewer" if num_found else "Choose another dataset"
        problem = f"{dataset.name} has only {num_found} texts over {config.min_text_chars} characters"
        return UserError("num_prompts", config.num_prompts, problem, remedy)
    fitting = config.num_prompts // 2
    while fitting and len(_windows(dataset, _of(config, fitting), encoder, None)) < fitting:
        fitting //= 2
    more = "a smaller --max-prompt-tokens or a longer text"
    remedy = f"Ask for --num-prompts {fitting} or fewer, {more}" if fitting else f"Give {more}"
    problem = f"{dataset.name} has not so many windows of {config.max_prompt_tokens} tokens"
    return UserError("num_prompts", config.num_prompts, problem, remedy)


def _of(config: TextConfig, num_prompts: int) -> TextConfig:
    return config.model_copy(update={"num_prompts": num_prompts})


def _windows(
    dataset: Dataset, config: TextConfig, encoder: Encoder, chance: random.Random | None
) -> list[Prompt]:
    """Prompt i comes from row i mod rows, in a seeded order of books; a row's prompts start at equal
    distances inside its body, at the beginning of a line where one is near, and never overlap."""
    order = list(range(len(dataset.rows)))
    if chance is not None:
        chance.shuffle(order)
    num_rows = min(len(order), config.num_prompts)
    prompts: list[Prompt] = []
    for index in range(config.num_prompts):
        row, place = order[index % num_rows], index // num_rows
        num_places = len(range(index % num_rows, config.num_prompts, num_rows))
        text = dataset.rows[row]
        start = len(text) * (place + 1) // (num_places + 1)
        limit = len(text) * (place + 2) // (num_places + 1)
        line_end = text.find("\n", start, start + min(1000, (limit - start) // 4))
        start = start if line_end < 0 else line_end + 1
        window = text[start : min(limit, start + config.max_prompt_tokens * CHARS_PER_TOKEN)]
        token_ids = encoder.of_text(window, config.max_prompt_tokens)
        if len(token_ids) == config.max_prompt_tokens:
            name = f"{dataset.row_ids[row]}@{start}"
            book = dataset.stratum(row) if dataset.has_clusters else ""
            prompts.append(Prompt(name, token_ids, book, book))
    return prompts
