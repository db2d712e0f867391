"""Prompts cut from rows of text, and whether a model has room for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bitdraft.config import TextConfig
from bitdraft.errors import UserError
from bitdraft.inputs.datasets import Dataset
from bitdraft.schema.environment import TextRecord

# Whole books and files: a prompt is a window from inside, not the first words of the first row.

CHARS_PER_TOKEN = 8  # no common tokenizer averages more on prose; a window is cut with room to spare

Encode = Callable[[str], list[int]]


@dataclass(frozen=True)
class Prompt:
    prompt_id: str
    token_ids: tuple[int, ...]


def text_record(dataset: Dataset, prompts: Sequence[Prompt]) -> TextRecord:
    """What a result says of its text."""
    return TextRecord(
        dataset=dataset.name,
        source=dataset.source,
        revision=dataset.revision,
        sha256=dataset.sha256,
        num_rows=len(dataset.rows),
        prompt_ids=tuple(prompt.prompt_id for prompt in prompts),
        prompt_tokens=tuple(len(prompt.token_ids) for prompt in prompts),
    )


def check_context(
    prompts: list[Prompt], config: TextConfig, max_new_tokens: int, context: int, whose: str
) -> None:
    """Refuse prompts that, with what is to be generated, exceed a model's context."""
    longest = max(len(prompt.token_ids) for prompt in prompts)
    if longest + max_new_tokens <= context:
        return
    problem = (
        f"the longest prompt's {longest} tokens and {max_new_tokens} new ones exceed "
        f"{whose} context of {context} tokens"
    )
    room = context - max_new_tokens
    if room > 0:
        remedy = f"Use --max-prompt-tokens {room} or less"
        raise UserError("max_prompt_tokens", config.max_prompt_tokens, problem, remedy)
    remedy = f"Use --max-new-tokens {max(context - longest, 1)} or less"
    raise UserError("max_new_tokens", max_new_tokens, problem, remedy)


def select_prompts(dataset: Dataset, config: TextConfig, encode: Encode) -> list[Prompt]:
    """The first `num_prompts` texts over `min_text_chars`, cut at `max_prompt_tokens`; for whole
    books and files, windows of that length spread over rows and over the body of each."""
    if dataset.has_long_rows:
        prompts = _windows(dataset, config, encode)
    else:
        long_enough = [i for i, row in enumerate(dataset.rows) if len(row) > config.min_text_chars]
        prompts = [
            Prompt(dataset.row_ids[i], tuple(encode(dataset.rows[i])[: config.max_prompt_tokens]))
            for i in long_enough[: config.num_prompts]
        ]
        prompts = [prompt for prompt in prompts if prompt.token_ids]
    if len(prompts) < config.num_prompts:
        raise _too_few(dataset, config, len(prompts))
    return prompts


def _too_few(dataset: Dataset, config: TextConfig, num_found: int) -> UserError:
    remedy = f"Ask for --num-prompts {num_found} or fewer" if num_found else "Choose another dataset"
    if dataset.has_long_rows:
        what = f"windows of {config.max_prompt_tokens} tokens"
        remedy += ", a smaller --max-prompt-tokens or a longer text"
    else:
        what = f"texts over {config.min_text_chars} characters"
    return UserError("num_prompts", config.num_prompts, f"{dataset.name} has only {num_found} {what}", remedy)


def _windows(dataset: Dataset, config: TextConfig, encode: Encode) -> list[Prompt]:
    """Prompt i comes from row i mod rows; a row's prompts start at equal distances inside its body,
    at the beginning of a line where one is near, and never overlap."""
    num_rows = min(len(dataset.rows), config.num_prompts)
    prompts: list[Prompt] = []
    for index in range(config.num_prompts):
        row, place = index % num_rows, index // num_rows
        num_places = len(range(row, config.num_prompts, num_rows))
        text = dataset.rows[row]
        start = len(text) * (place + 1) // (num_places + 1)
        limit = len(text) * (place + 2) // (num_places + 1)
        line_end = text.find("\n", start, start + min(1000, (limit - start) // 4))
        start = start if line_end < 0 else line_end + 1
        window = text[start : min(limit, start + config.max_prompt_tokens * CHARS_PER_TOKEN)]
        token_ids = tuple(encode(window)[: config.max_prompt_tokens])
        if len(token_ids) == config.max_prompt_tokens:
            prompts.append(Prompt(f"{dataset.row_ids[row]}@{start}", token_ids))
    return prompts
